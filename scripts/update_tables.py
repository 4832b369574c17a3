"""Write the result tables in the Markdown files anew from the results that they name.

A region begins with a line `<!-- table: results/NAME.json -->` (paths are relative to the repository) and ends with
a line `<!-- /table -->`; what stands between them belongs to this script. `<!-- table: results/NAME.json beside
results/papers/OTHER.json -->` puts what a paper published beside what was measured.

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

from filtersmith.lab.results import Comparison, load, write_atomically
from filtersmith.lab.stats import BASELINE, summarize
from filtersmith.lab.tables import build_table, code, percent, points, to_markdown

ROOT = Path(__file__).resolve().parent.parent
BEGIN = re.compile(r"<!-- table: (?P<path>\S+)(?: beside (?P<paper>\S+))? -->")
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
            comparison = load(root / begin["path"])
            if begin["paper"]:
                yield from beside(comparison, json.loads((root / begin["paper"]).read_text(encoding="utf-8")))
            else:
                yield from to_markdown(build_table(comparison)).splitlines()
            yield ""
    if inside:
        raise ValueError(f"the last table is not closed by {END}")


def beside(comparison: Comparison, paper: dict[str, Any]) -> Iterator[str]:
    """What was measured and what a paper has, each method with its difference to the baseline of the same table."""
    columns = paper["columns"]
    yield f"**{comparison.title}, beside the paper**"
    yield ""
    yield "| Method | Here, last epoch (Δ) | " + " | ".join(f"{column['title']} (Δ)" for column in columns) + " |"
    yield "|---|" + "---:|" * (1 + len(columns))
    for summary in summarize(comparison):
        here = "—"
        if summary.last is not None:
            here = percent(summary.last.mean)
            here += f" ({points(summary.difference.mean)})" if summary.difference else ""
        cells = [_published(column["values"], summary.method) for column in columns]
        yield f"| {code(summary.method)} | " + " | ".join([here, *cells]) + " |"
    yield ""
    yield f"- {paper['source']}."


def _published(values: dict[str, list[float]], method: str) -> str:
    if method not in values:
        return "—"
    mean, spread = values[method]
    difference = "" if method == BASELINE else f" ({points((mean - values[BASELINE][0]) / 100)})"
    return f"{mean:.2f} ± {spread:.2f}{difference}"


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
