"use strict";
// The tables of class "sortable": a button in every head sorts the rows up, down, and then as they were.
// Without this script the tables are there, without buttons.
(() => {
  const SCALE = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
  // A sign or a bound, digits with or without separators of thousands, then perhaps a unit such as the k of 19.6k.
  const NUMBER = /^[<>≤≥~≈±×]?\s*([+−-]?)(\d{1,3}(?:[,\u00a0\u2009\u202f]\d{3})+(?:\.\d+)?|\d*\.?\d+)(e[+-]?\d+)?(?:\s?([kMGT])(?=B?(?![A-Za-z])))?/;

  const textOf = (cell) => (cell === undefined ? "" : cell.dataset.sort ?? cell.textContent).trim();
  const isEmpty = (text) => text === "" || text === "—" || text === "–";

  function numberOf(text) {
    const found = NUMBER.exec(text);
    if (!found) return NaN;
    const [, sign, digits, exponent = "", unit] = found;
    const size = Number(digits.replace(/[,\u00a0\u2009\u202f]/g, "") + exponent) * (SCALE[unit] ?? 1);
    return sign === "−" || sign === "-" ? -size : size;
  }

  // Rows in order: those with a number (in a column of numbers), those with a text, those with nothing.
  function sorted(rows, column, direction) {
    const keyed = rows.map((row) => ({ row, text: textOf(row.cells[column]) }));
    const full = keyed.filter((one) => !isEmpty(one.text));
    for (const one of full) one.number = numberOf(one.text);
    const numbers = full.filter((one) => !Number.isNaN(one.number));
    if (2 * numbers.length <= full.length) numbers.length = 0;
    const texts = full.filter((one) => !numbers.includes(one));
    numbers.sort((a, b) => direction * (a.number - b.number));
    texts.sort((a, b) => (numbers.length ? 1 : direction) * a.text.localeCompare(b.text, "en", { numeric: true }));
    return [...numbers, ...texts, ...keyed.filter((one) => isEmpty(one.text))].map((one) => one.row);
  }

  function makeSortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    const bodies = [...table.tBodies].map((body) => [body, [...body.rows]]);
    const sortBy = (head) => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const state = next[head.getAttribute("aria-sort") ?? "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (state !== "none") head.setAttribute("aria-sort", state);
      for (const [body, rows] of bodies) {
        const direction = state === "ascending" ? 1 : -1;
        body.append(...(state === "none" ? rows : sorted(rows, head.cellIndex, direction)));
      }
    };
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sortBy(head));
      head.append(button);
    }
  }

  document.querySelectorAll("table.sortable").forEach(makeSortable);
})();
