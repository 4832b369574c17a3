"""What a GPU's fast ways are checked by there, on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks import on_gpu, timing
from benchmarks.on_gpu import CHECKS, close


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_is_checked_on_a_gpu_holds(check: Any) -> None:
    check("cpu")


def test_what_is_off_stops_with_a_line() -> None:
    close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.000001]), "equal")
    with pytest.raises(SystemExit, match=r"^X: off by 0.5 of the largest value, more than 1e-05$"):
        close(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 2.0]), "X")
    with pytest.raises(SystemExit, match=r"^X: off by nan"):
        close(torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 2.0]), "X")


def test_rows_that_come_back_wrong_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu.hold.Together, "put_back", lambda self, views: None)
    with pytest.raises(SystemExit, match="is another one where all layers are kept together"):
        on_gpu.held_together("cpu")


def test_a_check_that_fails_does_not_keep_the_others_from_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def wrong(device: str) -> None:
        close(torch.ones(1), torch.zeros(1), "X")

    monkeypatch.setattr(on_gpu, "CHECKS", (wrong, ran.append))
    (failure,) = on_gpu.failures("cpu")
    assert failure.startswith("X: off by")
    assert f"FAILED: {failure}" in capsys.readouterr().out
    assert ran == ["cpu"]


def test_ratios_are_medians_of_pairs_with_quartiles() -> None:
    assert str(timing.Ratio.of([1.0, 2.0, 4.0], [2.0, 2.0, 4.0])) == "1.00 (1.00 to 1.50)"
    turns: list[str] = []
    times = timing.in_turns({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=3, warm_up=1)
    assert {name: len(taken) for name, taken in times.items()} == {"a": 3, "b": 3}
    assert "".join(turns) == "abbaabba"
