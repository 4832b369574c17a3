"""What a sweep prints, and what it leaves for the documentation."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.sweep.outcome import Outcome, Row
from filtersmith.lab.training.environment import environment

WIDTH, NAMES = 80, 22
SHOWN = {"passed": "passed", "refused": "refused", "wrong": "WRONG"}


def head(checks: Iterable[str]) -> str:
    return " " * NAMES + "".join(check.rjust(_width(check)) for check in checks)


def lines(row: Row) -> Iterator[str]:
    """One line for a thing, and one below for every outcome that needs a reason."""
    if row.cannot:
        yield from _folded(f"{row.name}: {row.cannot}", "")
        return
    words = [SHOWN[outcome.word].rjust(_width(check)) for check, outcome in row.outcomes.items()]
    yield row.name.ljust(NAMES) + "".join(words)
    for check, outcome in row.outcomes.items():
        if outcome.reason:
            yield from _folded(f"{check}: {outcome.reason}", "    ")


def block(row: Row) -> Iterator[str]:
    """One line with counts for a thing of many checks, and one below for each reason, with its checks."""
    if row.cannot:
        yield from _folded(f"{row.name}: {row.cannot}", "")
        return
    words = Counter(outcome.word for outcome in row.outcomes.values())
    yield f"{row.name}: " + ", ".join(f"{words[word]} {shown}" for word, shown in SHOWN.items() if words[word])
    checks: dict[Outcome, list[str]] = {}
    for check, outcome in row.outcomes.items():
        checks.setdefault(outcome, []).append(check)
    for outcome, of in checks.items():
        if outcome.reason:
            yield from _folded(f"{SHOWN[outcome.word]}, {', '.join(of)}: {outcome.reason}", "    ")


def _width(check: str) -> int:
    return max(len(check), *map(len, SHOWN.values())) + 1


def summary(rows: Iterable[Row]) -> str:
    """Counts of outcomes, and of what could not be tried."""
    rows = list(rows)
    words = Counter(outcome.word for row in rows for outcome in row.outcomes.values())
    tried = sum(not row.cannot for row in rows)
    checks = f"{words['passed']} passed, {words['refused']} refused, {words['wrong']} wrong"
    return f"{tried} tried, {len(rows) - tried} cannot be made or run here; checks: {checks}"


def document(rows: Iterable[Row], device: str, libraries: Sequence[str]) -> dict[str, Any]:
    """What a table needs: outcomes by name, reasons, versions and the commit."""
    versions = environment(torch.device(device))
    kept = ("filtersmith", "commit", "python", "torch", "device")
    return {
        "versions": {key: versions[key] for key in kept} | {name: metadata.version(name) for name in libraries},
        "rows": [
            {"library": row.library, "name": row.name, "cannot": row.cannot}
            if row.cannot
            else {
                "library": row.library,
                "name": row.name,
                "outcomes": {check: outcome.word for check, outcome in row.outcomes.items()},
                **_reasons(row),
            }
            for row in rows
        ],
    }


def again(before: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep with some rows tried again: each says of which commit it is, if of another than the whole."""
    libraries = {key: version for key, version in found["versions"].items() if key not in ("commit", "filtersmith")}
    if libraries.items() - before["versions"].items():
        raise ValueError(f"the whole sweep has other versions than {libraries}: do it again")
    newer = {(row["library"], row["name"]): row | {"commit": found["versions"]["commit"]} for row in found["rows"]}
    return {**before, "rows": [newer.get((row["library"], row["name"]), row) for row in before["rows"]]}


def load(file: Path) -> Any:
    """What `save` has written."""
    return json.loads(file.read_text(encoding="utf-8"))


def save(found: Mapping[str, Any], file: Path) -> None:
    """One row a line, so that a change of one shows as one."""
    rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in found["rows"])
    versions = json.dumps(found["versions"], ensure_ascii=False)
    file.write_text(f'{{\n "versions": {versions},\n "rows": [\n{rows}\n ]\n}}\n', encoding="utf-8")


def _reasons(row: Row) -> dict[str, dict[str, str]]:
    reasons = {check: outcome.reason for check, outcome in row.outcomes.items() if outcome.reason}
    return {"reasons": reasons} if reasons else {}


def _folded(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "    ")
