"""docs/migration.md: every call that it names exists, and runs on a small network."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.doc_tables import code_in, names, network, rows

import filtersmith as fs

PAGE = "migration.md"
CALLS = [call for row in rows(PAGE, "There", "Here") for call in code_in(row["Here"])]
RUN = sorted({call for call in CALLS if not call.startswith("filtersmith ")})


def at_work(call: str) -> dict[str, Any]:
    """An object that a call goes on with, on a network of its own."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if "wau." in call:
        return {"wau": fs.WAU(model).attach(optimizer)}
    if "cycle." in call:
        return {"cycle": fs.RePr(model, optimizer, s1=1, s2=1, cycles=1)}
    if "pruning." in call:
        return {"pruning": fs.Prune(model, optimizer, after=1)}
    return {}


def run(call: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(call, call, "exec"), dict(names(**at_work(call))))


def test_the_tables_are_read() -> None:
    assert len(RUN) >= 40
    assert {"deployed = fs.collapse(model)", "fs.expand(model, fs.DBB())", "wau.active"} <= set(RUN)


@pytest.mark.parametrize("call", RUN)
def test_a_new_call_runs(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(call)


def test_a_call_that_does_not_exist_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in ("fs.WAU(model, share=0.5)", "fs.fold(model)", 'fs.rank(model, "bn")'):
        with pytest.raises((AttributeError, TypeError, ValueError)):
            run(wrong)
