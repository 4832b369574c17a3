"""What a person sees: bars on a terminal, lines elsewhere, notes once."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from filtersmith.lab.results.document import Epoch
from filtersmith.lab.training import progress
from filtersmith.lab.training.progress import Live, Silent


def epoch(number: int, loss: float | None = 0.5) -> Epoch:
    accuracies = {"train_accuracy": 0.25, "test_accuracy": 0.125}
    return Epoch(epoch=number, lr=0.1, train_loss=loss, test_loss=1.0, train_seconds=2, **accuracies)


class Screen:
    """A `Live` on a console of 100 columns, and the text that it has written."""

    def __init__(self, terminal: bool, runs: int = 1, every_epoch: bool = False) -> None:
        self.file = io.StringIO()
        console = Console(file=self.file, force_terminal=terminal, width=100, color_system=None)
        self.live = Live(console, runs, every_epoch=every_epoch)

    @property
    def text(self) -> str:
        return self.file.getvalue()

    def lines(self) -> list[str]:
        return self.text.splitlines()

    def shown(self) -> list[str]:
        """The bars as they stand, without their times."""
        self.live.bars.refresh()
        last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text).replace("\r", "\n").splitlines()
        return [re.sub(r" *\d:\d\d:\d\d$", "", line).rstrip() for line in last if line.strip()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The time, for `Live` alone."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_where_there_is_no_terminal_it_is_a_line_an_epoch_and_one_a_run() -> None:
    screen = Screen(terminal=False, runs=2, every_epoch=True)
    with screen.live as live:
        for number, label in enumerate(("wau[bold], seed 0", "asa"), 1):
            live.begin(label)
            live.start(12, [epoch(n) for n in range(1, 10)])
            live.batch(1, 2)
            live.batch(2, 2)
            live.epoch(epoch(10))
            live.epoch(epoch(11, loss=None))
            live.end(f"test {number}")
    assert screen.lines() == [
        "epoch  10/12  loss 0.5000  train 25.00%  test 12.50%  2.0 s",
        "epoch  11/12  loss nan  train 25.00%  test 12.50%  2.0 s",
        "[1/2] wau[bold], seed 0: test 1",
        "epoch  10/12  loss 0.5000  train 25.00%  test 12.50%  2.0 s",
        "epoch  11/12  loss nan  train 25.00%  test 12.50%  2.0 s",
        "[2/2] asa: test 2",
    ]


def test_lines_for_epochs_are_only_written_on_request() -> None:
    screen = Screen(terminal=False)
    with screen.live as live:
        live.begin("wau")
        live.start(1, [])
        live.epoch(epoch(1))
        live.end("done")
    assert screen.lines() == ["[1/1] wau: done"]


def test_a_note_is_said_once_as_it_stands() -> None:
    screen = Screen(terminal=False)
    for text in ("[red]a", "b", "[red]a"):
        screen.live.note(text)
    assert screen.lines() == ["[red]a", "b"]


def test_bars_tell_the_epoch_the_share_of_the_run_and_all_runs(clock: Callable[[float], None]) -> None:
    screen = Screen(terminal=True, runs=2)
    with screen.live as live:
        live.begin("[i]wau")
        assert [(line.split()[0], line.split()[-1]) for line in screen.shown()[-2:]] == [
            *(("all", "0/2"), ("[i]wau", "starting"))
        ]
        live.start(4, [epoch(1)])  # resumed
        live.batch(1, 2)
        bars, shown = live.bars.tasks, screen.shown()[-1]
        assert shown.startswith("[i]wau ")
        assert shown.endswith("epoch 2/4")
        assert bars[1].percentage == pytest.approx(100 * (1 + 1 / 2) / 4)
        live.epoch(epoch(2))
        clock(0.05)
        live.batch(1, 2)  # too soon to be shown
        assert bars[1].percentage == pytest.approx(37.5)
        live.batch(2, 2)  # the last batch of an epoch always is
        assert bars[1].percentage == pytest.approx(100 * 3 / 4)
        assert screen.shown()[-1].endswith("epoch 3/4 test 12.5%")
        clock(0.2)
        live.batch(1, 2)
        assert bars[1].percentage == pytest.approx(62.5)
        live.end("over")
        assert live.bars.tasks[0].percentage == 50
        live.begin("asa")
        assert [task.description for task in live.bars.tasks] == ["all runs", "asa"], "one bar for one run"
        assert screen.shown()[-1].endswith("starting")
        live.start(2, [])
        clock(1)
        live.batch(1, 2)
        assert screen.shown()[-1].endswith("epoch 1/2"), "nothing is left of the run before"
    assert "[1/2] [i]wau: over" in screen.text


def test_runs_at_the_same_time_have_a_bar_each() -> None:
    screen = Screen(terminal=True, runs=3)
    with screen.live as live:
        one, other = live.bar("wau, seed 0"), live.bar("asa, seed 0")
        one.start(2, 1)
        one.batch(1, 1)
        other.start(4, 0)
        other.batch(1, 1)
        assert [line.split(",")[0].split()[0] for line in screen.shown()[-3:]] == ["all", "wau", "asa"]
        assert [line.split()[-2:] for line in screen.shown()[-2:]] == [["epoch", "2/2"], ["epoch", "1/4"]]
        one.end("test 90%")
        third = live.bar("wau, seed 1")
        assert [task.description for task in live.bars.tasks] == ["all runs", "asa, seed 0", "wau, seed 1"]
        other.stop()  # its process was killed
        other.stop()
        third.end("test 91%")
        assert live.bars.tasks[0].completed == 2
    assert "[2/3] wau, seed 1: test 91%" in screen.text


def test_one_run_has_one_bar_and_a_batch_before_any_run_is_harmless() -> None:
    screen = Screen(terminal=True)
    with screen.live as live:
        live.start(1, [])
        live.batch(1, 1)
        live.begin("wau")
        assert [task.visible for task in live.bars.tasks] == [False, True]
    assert not screen.live.bars.live.is_started, "the terminal is given back"


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Silent()
    silent.note("a")
    silent.start(1, [])
    silent.batch(1, 1)
    silent.epoch(epoch(1))
    assert capsys.readouterr() == ("", "")
