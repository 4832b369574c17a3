"""Write the result tables in the Markdown files anew from the results that they name.

A region begins with a line `<!-- table: results/NAME.json -->` (paths are relative to the repository) and ends with
a line `<!-- /table -->`; what stands between them belongs to this script. `<!-- table: results/NAME.json
results/NAME2.json beside results/papers/OTHER.json -->` puts what a paper published beside what was measured. Files
below results/tables/ hold rows and columns as they are printed.

    python scripts/update_tables.py             rewrite every file that is out of date
    python scripts/update_tables.py --check     change nothing; exit with 1 when a file is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filtersmith.lab.results.document import Comparison, load, write_atomically
from filtersmith.lab.results.statistics import BASELINE, Summary, summarize
from filtersmith.lab.results.tables import NOTHING, build_table, code, points, spread, to_markdown

ROOT = Path(__file__).resolve().parent.parent
BEGIN = re.compile(r"<!-- table: (?P<path>\S+) -->|<!-- table: (?P<paths>\S+(?: \S+)*) beside (?P<paper>\S+) -->")
END = "<!-- /table -->"
FENCE = "```"


def rewrite(text: str, root: Path) -> str:
    """The text with every region made anew; results are looked up below `root`.

    Raises ValueError when a region is not closed or its results cannot be read. Examples inside fenced code
    blocks are left alone.
    """
    return "".join(line + "\n" for line in _lines(text.splitlines(), root))


def _lines(lines: Sequence[str], root: Path) -> Iterator[str]:
    fenced, inside = False, False
    for number, line in enumerate(lines, start=1):
        if line.startswith(FENCE):
            fenced = not fenced
        begin = None if fenced else BEGIN.fullmatch(line.strip())
        if begin and inside:
            raise ValueError(f"line {number}: a table begins before {END} has closed the one above")
        if inside and line.strip() == END:
            inside = False
        if not inside:
            yield line
        if begin:
            inside = True
            yield ""
            if begin["path"] and begin["path"].startswith("results/tables/"):
                yield from rows(json.loads((root / begin["path"]).read_text(encoding="utf-8")))
            elif begin["path"]:
                yield from to_markdown(build_table(load(root / begin["path"]))).splitlines()
            else:
                paper = json.loads((root / begin["paper"]).read_text(encoding="utf-8"))
                yield from beside([load(root / path) for path in begin["paths"].split()], paper)
            yield ""
    if inside:
        raise ValueError(f"the last table is not closed by {END}")


def rows(table: dict[str, Any]) -> Iterator[str]:
    """A table that its file already has in rows and columns, below results/tables/."""
    yield f"**{table['title']}**"
    yield ""
    for cells in (table["columns"], ["---", *["---:"] * (len(table["columns"]) - 1)], *table["rows"]):
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield from (f"- {note}" for note in table["notes"])


def beside(comparisons: Sequence[Comparison], paper: dict[str, Any]) -> Iterator[str]:
    """What was measured and what a paper has, each method with its difference to the baseline of the same column."""
    heads = [_setting(one) for one in comparisons]
    heads += [column["title"] for column in paper["columns"]]
    measured = [{summary.method: summary for summary in summarize(one)} for one in comparisons]
    yield "**Measured here, and in the paper: test accuracy, % (Δ to the baseline, points)**"
    yield ""
    yield "| Method | " + " | ".join(heads) + " |"
    yield "|---|" + "---:|" * len(heads)
    for method in dict.fromkeys(method for one in comparisons for method in one.methods):
        cells = [_measured(summaries.get(method)) for summaries in measured]
        cells += [_published(column["values"], method) for column in paper["columns"]]
        yield f"| {code(method)} | " + " | ".join(cells) + " |"
    yield ""
    for one in comparisons:
        yield f"- Measured: {one.title}; last epoch, mean ± sample standard deviation."
    yield f"- {paper['source']}."


def _setting(one: Comparison) -> str:
    """What tells one comparison from another."""
    augmentation = [part for part in one.title.split(" · ") if part == "no augmentation"]
    return ", ".join([one.data_title, one.model, *augmentation, f"{one.epochs} epochs"])


def _measured(summary: Summary | None) -> str:
    if summary is None or summary.last is None:
        return NOTHING
    return spread(summary.last) + (f" ({points(summary.difference.mean)})" if summary.difference else "")


def _published(values: dict[str, list[float]], method: str) -> str:
    if method not in values:
        return NOTHING
    mean, *printed = values[method]
    difference = "" if method == BASELINE else f" ({points((mean - values[BASELINE][0]) / 100)})"
    return " ± ".join([f"{mean:.2f}", *(f"{spread:.2f}" for spread in printed)]) + difference


def markdown_files(root: Path) -> list[Path]:
    """The Markdown files of the repository: beside the README, and below docs/ and results/."""
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("results/**/*.md")])


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check; returns the exit code (0 fine, 1 out of date, 2 a region that cannot be filled)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="Markdown files (default: all of the repository)")
    parser.add_argument("--check", action="store_true", help="change nothing, exit with 1 when out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="where results paths start (default: the repository)")
    options = parser.parse_args(arguments)
    code = 0
    for file in options.files or markdown_files(options.root):
        try:
            old = file.read_text(encoding="utf-8")
            new = rewrite(old, options.root) if BEGIN.search(old) else old
        except (OSError, ValueError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            return 2
        if new == old:
            continue
        if options.check:
            print(f"{file} is out of date: run python scripts/update_tables.py", file=sys.stderr)
            code = 1
        else:
            write_atomically(file, new)
            print(f"{file} updated")
    return code


if __name__ == "__main__":
    sys.exit(main())
