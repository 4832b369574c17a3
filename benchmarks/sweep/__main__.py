"""``python -m benchmarks.sweep optimizers`` or ``networks``: the methods with everything of a kind that people have.

Prints one line for each optimizer or network and its outcome of every check: passed, refused (in one line, when the
method is made) or WRONG, with reasons. Exits with 1 where anything is wrong.

Of an optimizer, with WAU, RePr, DSD, EMA and flows:

  off        WAU at rate 1 leaves training as it is, bit for bit
  held       WAU at rate 0.5: held filters keep their bits, all else is a plain step
  pruned     RePr: rows of weights and state keep their bits in the sub-network phase
  restored   RePr: restored filters have a new optimizer's state, and move like its
  restart    a flow's new phase is a new optimizer, bit for bit
  average    EMA is the average of the weights after each step
  zeroed     DSD: masked weights are 0 after each step, and as new afterwards

Of a network:

  looked     channel_graph and why_not leave it and the process as they were
  sub        RePr's sub-network: outputs, gradients, statistics are those with the filters masked
  restored   what RePr brings back is the network as it was
  pruned     Prune: outputs are those with the filters masked, before and after finish()
  ranked     rank gives a finite number for every filter
  kflo, do-conv, acnet, dbb
             expanded, it computes the same where the method says so; collapsed, always
  shared     share_kernels: tied after a step, and as it was from both kinds of files
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.sweep import children, networks, optimizers, report
from benchmarks.sweep.outcome import Row

FOLDER = Path(__file__).parent
LIBRARIES = {"optimizers": ("timm",), "networks": ("torchvision", "timm")}
SECONDS = 600
"""For one network."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=[*LIBRARIES], help="what is swept")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only those whose name has one of these words")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--jobs", type=int, default=2, help="networks at the same time (default: 2)")
    parser.add_argument(
        "--write",
        action="store_true",
        help="keep the outcomes for docs/compatibility.md, too; --only: in their places",
    )
    options = parser.parse_args(arguments)
    file = FOLDER / f"{options.what}.json"
    if options.write and (options.device != "cpu" or (options.only and not file.exists())):
        parser.error("--write keeps sweeps on the CPU, of --only some beside a whole one")
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    try:
        found = _networks if options.what == "networks" else _optimizers
        rows = list(found(options.device, options.only, options.jobs))
    except LookupError as error:
        parser.error(str(error))
    print(report.summary(rows))
    if options.write:
        found = report.document(rows, options.device, LIBRARIES[options.what])
        report.save(report.again(report.load(file), found) if options.only else found, file)
    return int(any(outcome.word == "wrong" for row in rows for outcome in row.outcomes.values()))


def _optimizers(device: str, only: Sequence[str] | None, _: int) -> Iterator[Row]:
    setups = [s for s in optimizers.every(device) if not only or _chosen(s.name, only)]
    if not setups:
        raise LookupError(f"--only: no optimizer's name has {' or '.join(map(repr, only or ()))}")
    print(report.head(optimizers.CHECKS))
    library = ""
    for setup in setups:
        if library != setup.library:
            library = setup.library
            print(f"{library} {metadata.version(library)}")
        row = optimizers.run(setup)
        print("\n".join(report.lines(row)), flush=True)
        yield row


def _networks(device: str, only: Sequence[str] | None, jobs: int) -> Iterator[Row]:
    """In the order in which they are listed, printed as they come."""
    subjects = [s for s in networks.every(device) if not only or any(word in s.name for word in only)]
    if not subjects:
        raise LookupError(f"--only: no network's name has {' or '.join(map(repr, only or ()))}")
    rows: dict[int, Row] = {}
    for number, row in children.rows(subjects, networks.found, jobs, SECONDS):
        rows[number] = row
        print("\n".join(report.block(row)), flush=True)
    yield from (rows[number] for number in sorted(rows))
    if not only:
        yield from networks.left_out()


def _chosen(name: str, words: Sequence[str]) -> bool:
    """Whether a name is meant: by one of its words, or as a whole."""
    return any(word == name or word in name.split() for word in words)


if __name__ == "__main__":
    sys.exit(main())
