"""``python -m benchmarks.sweep optimizers``: every optimizer with WAU, RePr, DSD, EMA and flows.

Prints one line for each optimizer and its outcome of every check: passed, refused (in one line, when the method is
made) or WRONG, with reasons. Exits with 1 where anything is wrong.

  off        WAU at rate 1 leaves training as it is, bit for bit
  held       WAU at rate 0.5: held filters keep their bits, all else is a plain step
  pruned     RePr: rows of weights and state keep their bits in the sub-network phase
  restored   RePr: restored filters have a new optimizer's state, and move like its
  restart    a flow's new phase is a new optimizer, bit for bit
  average    EMA is the average of the weights after each step
  zeroed     DSD: masked weights are 0 after each step, and as new afterwards
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.sweep import optimizers, report
from benchmarks.sweep.outcome import Row

FOLDER = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["optimizers"], help="what is swept")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only those whose name has one of these words")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--write", action="store_true", help="keep the outcomes for docs/compatibility.md, too")
    options = parser.parse_args(arguments)
    if options.write and (options.only or options.device != "cpu"):
        parser.error("--write keeps whole sweeps on the CPU: leave out --only and --device")
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    setups = [s for s in optimizers.every(options.device) if not options.only or _chosen(s.name, options.only)]
    if not setups:
        parser.error(f"--only: no optimizer's name has {' or '.join(map(repr, options.only))}")
    rows: list[Row] = []
    print(report.head(optimizers.CHECKS))
    for setup in setups:
        if not rows or rows[-1].library != setup.library:
            print(f"{setup.library} {metadata.version(setup.library)}")
        rows.append(optimizers.run(setup))
        print("\n".join(report.lines(rows[-1])), flush=True)
    print(report.summary(rows))
    if options.write:
        report.save(report.document(rows, options.device, ("timm",)), FOLDER / f"{options.what}.json")
    return int(any(outcome.word == "wrong" for row in rows for outcome in row.outcomes.values()))


def _chosen(name: str, words: Sequence[str]) -> bool:
    """Whether a name is meant: by one of its words, or as a whole."""
    return any(word == name or word in name.split() for word in words)


if __name__ == "__main__":
    sys.exit(main())
