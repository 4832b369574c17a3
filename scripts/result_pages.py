"""Write the pages of docs/results from the ledger: ``python scripts/result_pages.py``; ``--check`` only compares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from filtersmith.lab.reproduce import ledger
from filtersmith.lab.reproduce.pages import pages
from filtersmith.lab.results.document import write_atomically

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check; returns the exit code (0 fine, 1 out of date)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, exit with 1 when a page is out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    options = parser.parse_args(arguments)
    folder, code = options.root / "docs" / "results", 0
    for name, text in pages(ledger.load(options.root / "results" / "ledger")).items():
        file = folder / name
        if file.is_file() and file.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            print(f"{file} is out of date: run python scripts/result_pages.py", file=sys.stderr)
            code = 1
        else:
            write_atomically(file, text)
            print(f"{file} written")
    return code


if __name__ == "__main__":
    sys.exit(main())
