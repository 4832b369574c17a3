"""Runs stage by stage: nobody begins before what it needs is there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from reference.running import config, digits
from rich.console import Console

from filtersmith.lab.data.fingerprint import fingerprint
from filtersmith.lab.runner import Surroundings, train_all
from filtersmith.lab.runs import Planned
from filtersmith.lab.training.errors import Interrupted
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.stopping import StopRequest


def planned(out: Path, name: str, stage: int = 1, needs: tuple[Planned, ...] = (), **options: float) -> Planned:
    what = config(epochs=1, batch_size=256, **options)
    return Planned(what, RunFolder(out / name), name, 0, stage, tuple(one.folder for one in needs))


def trained(runs: list[Planned], signal: int = 0, of: int | None = None) -> list[str]:
    with Live(Console(file=io.StringIO()), of or len(runs)) as live, StopRequest() as stop:
        stop.signal = signal
        return [one.arm for one in train_all(runs, Surroundings(digits(), fingerprint(digits()), live, stop))]


def test_those_that_others_need_come_first(tmp_path: Path) -> None:
    first = planned(tmp_path, "first")
    second = planned(tmp_path, "second", 2, (first,))
    assert trained([first, second]) == ["first", "second"]
    assert trained([first, second]) == ["first", "second"], "at once, as they are finished"


def test_what_needs_a_run_that_failed_is_left_out(tmp_path: Path) -> None:
    failing = planned(tmp_path, "failing", lr=1e9)
    second = planned(tmp_path, "second", 2, (failing,))
    other = planned(tmp_path, "other", 2)
    assert trained([failing, second, other]) == ["failing", "other"]
    assert not second.folder.exists()


def test_a_signal_ends_it_with_how_many_are_done(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"0 of 2 runs done"):
        trained([planned(tmp_path, "a"), planned(tmp_path, "b", 2)], signal=15)
    with pytest.raises(Interrupted, match=r"0 of 7 runs done"):  # of all, where these are a part
        trained([planned(tmp_path, "a")], signal=15, of=7)
