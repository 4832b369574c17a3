"""Signals: the first is remembered, a second acts as ever, and what was there before comes back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from filtersmith.lab.training.stopping import StopRequest

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
