"""Signals: the first is remembered, a second acts as ever, and what was there before comes back. Time limits: all
stops before, and goes on later."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from reference.running import assert_same, config, manifest, measured, run, weights

from filtersmith.lab.training import stopping
from filtersmith.lab.training.errors import Interrupted
from filtersmith.lab.training.stopping import Deadline, Pace, StopRequest, read_deadline

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(Exception):  # noqa: N818
    """What this test's own handler raises."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[object]]:
    """SIGTERM would end the tests; SIGINT is Python's own."""

    def raises(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, raises)
    yield [signal.getsignal(number) for number in SIGNALS]
    signal.signal(signal.SIGTERM, before)


def here() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_the_first_is_remembered_and_the_second_acts(
    number: int, error: type[BaseException], handlers: list[object]
) -> None:
    with StopRequest() as stop:
        assert stop.signal == 0
        assert here() != handlers
        signal.raise_signal(number)
        assert stop.signal == number
        with pytest.raises(error):
            signal.raise_signal(number)
    assert here() == handlers


def test_after_either_the_other_acts_too(handlers: list[object]) -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGTERM)
        assert here() == handlers
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_of_ones_own_that_are_set_after_the_first_stay(handlers: list[object]) -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert here() == [handlers[0], signal.SIG_IGN]


@pytest.mark.parametrize("asked", [True, False])
def test_what_was_there_before_comes_back_also_after_an_error(asked: bool, handlers: list[object]) -> None:
    def work() -> None:
        with StopRequest():
            if asked:
                signal.raise_signal(signal.SIGINT)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert here() == handlers


def test_requests_inside_one_another(handlers: list[object]) -> None:
    with StopRequest() as outer:
        between = here()
        with StopRequest() as inner:
            signal.raise_signal(signal.SIGINT)
            assert (inner.signal, outer.signal) == (signal.SIGINT, 0)
            signal.raise_signal(signal.SIGINT)  # the second one acts on the outer request
            assert outer.signal == signal.SIGINT
        assert between != handlers
    assert here() == handlers


def test_in_another_thread_it_is_harmless(handlers: list[object]) -> None:
    seen: list[object] = []

    def work() -> None:
        with StopRequest() as stop:
            seen.extend([stop.signal, here()])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0, handlers]


# Time limits


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("12m", 720), ("1.5h", 5400), ("1h30m", 5400), (" 1h0m0.5s ", 3600.5), ("0h1m", 60)],
)
def test_times(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping.time, "monotonic", lambda: 1000.0)
    deadline = read_deadline(text)
    assert deadline is not None
    assert (deadline.text, deadline.at) == (text.strip(), 1000 + seconds)
    assert read_deadline(None) is None


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-1", "5", "5x", "5 m", "1m1h", "m", ".5h", "1e3s", "inf", "5M", "٣s", "9" * 400 + "h"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^--time-limit must be a time above 0 in h, m and s, such as 90s, 12m"
    ) as e:
        read_deadline(text)
    assert str(e.value).endswith(f"got {text!r}")


def test_the_time_is_up_when_what_comes_would_not_be_over_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    stop = StopRequest(Deadline("1m", 60.0))
    assert stop.look(36) == 0
    assert stop.look(39) == 75, "half as much again, and what ends the command"
    assert str(stop.interrupted("stopped after epoch 1 of 9")) == "time limit of 1m: stopped after epoch 1 of 9"
    stop = StopRequest(Deadline("1m", 60.0))
    now[0] = 56.9
    assert stop.look() == 0
    now[0] = 57.1
    assert (stop.look(), stop.interrupted("").code) == (75, 75)
    stop.signal = signal.SIGTERM
    assert (stop.look(), stop.interrupted("").code, str(stop.interrupted("here"))) == (143, 143, "here")
    stop.code = 75  # what the other processes of the run agreed on
    assert (stop.signal, stop.time_is_up) == (0, True)


def test_the_first_batches_count_until_there_are_others() -> None:
    pace, seen = Pace(50_000_000), []
    for seconds in (30.0, 0.1, 0.3, 0.2):
        pace.batches(seconds, 4)
        seen.append(pace.batch)
    assert seen == [30.0, 0.1, 0.3, 0.3]
    assert pace.checkpoint == 2.0, "before one was written"
    assert pace.evaluation_of(100) == pytest.approx(0.2 / 4 * 100)
    pace.evaluation = 3.0
    assert pace.evaluation_of(100) == 3.0


class Clock(Deadline):
    """A deadline that is over at a certain look; it remembers what each was told to need."""

    def __init__(self, looks: float) -> None:
        super().__init__("1h", 0.0)
        object.__setattr__(self, "needed", [])
        object.__setattr__(self, "looks", looks)

    def too_late(self, needed: float = 0.0) -> bool:
        self.needed.append(needed)  # type: ignore[attr-defined]
        return len(self.needed) >= self.looks  # type: ignore[attr-defined]


def test_stopped_at_every_look_it_goes_on_to_the_same_end(tmp_path: Path) -> None:
    what = config("wau", batch_size=480)  # 3 batches an epoch
    whole = run(what, tmp_path / "whole")
    seen, codes = set(), set()
    for looks in (3, 5):
        for number in range(40):
            stop = StopRequest(Clock(looks if number else 2))
            try:
                parts = run(what, tmp_path / str(looks), resume=True, stop=stop)
                break
            except Interrupted as error:
                codes.add(error.code)
                seen.add(str(error).removeprefix("time limit of 1h: "))
                assert manifest(tmp_path / str(looks))["status"] == "interrupted"
        assert_same(weights(tmp_path / "whole"), weights(tmp_path / str(looks)))
        for one, other in zip(measured(whole), measured(parts), strict=True):
            assert one == pytest.approx(other, rel=1e-12)
    assert codes == {75}
    assert {"stopped before the first batch", "stopped after epoch 1 of 2, batch 2"} <= seen
    assert {"stopped after epoch 1 of 2", "stopped after epoch 1 of 2, batch 1"} <= seen


def test_looks_know_what_comes(tmp_path: Path) -> None:
    clock = Clock(looks=1e9)
    run(config(epochs=1, batch_size=480), tmp_path, stop=StopRequest(clock))
    setup, before, first, second = clock.needed  # type: ignore[attr-defined]
    assert setup == 0
    assert 0 < before < first, "the size of a checkpoint, then a batch too"
    # 480 images a batch; the evaluation of 360 comes after the last one
    assert second > before + (second - before) * 0.4 > before


def test_a_run_that_could_only_get_ready_is_not_begun(tmp_path: Path) -> None:
    stop = StopRequest(Deadline("1s", 0.0))
    with pytest.raises(Interrupted, match=r"^time limit of 1s: stopped before the first batch$"):
        run(config(), tmp_path / "run", stop=stop)
    assert not (tmp_path / "run").exists()
    stop = StopRequest(Deadline("1h", time.monotonic() + 30))
    stop.longest_setup = 25
    with pytest.raises(Interrupted):
        run(config(), tmp_path / "run", stop=stop)
    assert not (tmp_path / "run").exists()
