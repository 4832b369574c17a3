"""What one process can't do, none does: played by processes that take turns; `test_distributed` has real ones."""

from __future__ import annotations

from typing import Any

import accelerate.utils
import pytest

from filtersmith.lab.training.agreement import on_all, on_main
from filtersmith.lab.training.errors import RunFailed


class Process:
    def __init__(self, rank: int, number: int = 2) -> None:
        self.is_main_process, self.num_processes = rank == 0, number


def fails(error: Exception) -> Any:
    def work() -> None:
        raise error

    return work


def test_alone_it_is_a_call() -> None:
    alone = Process(0, 1)
    assert on_main(alone, lambda: 3) == on_all(alone, lambda: 3) == 3
    with pytest.raises(KeyError):
        on_main(alone, fails(KeyError("x")))


@pytest.mark.parametrize(
    ("error", "theirs"), [(ValueError("no\nmore"), ValueError), (OSError("full"), RunFailed), (None, None)]
)
def test_the_main_process_speaks_for_all(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, theirs: type[Exception] | None
) -> None:
    sent: list[Any] = []

    def broadcast(shared: list[Any]) -> None:
        if sent:
            shared[:] = sent
        sent[:] = shared

    monkeypatch.setattr(accelerate.utils, "broadcast_object_list", broadcast)
    other = fails(AssertionError("only the main process works"))
    if error is None or theirs is None:
        assert on_main(Process(0), lambda: "value") == on_main(Process(1), other) == "value"
        return
    with pytest.raises(type(error)) as mine:
        on_main(Process(0), fails(error))
    assert mine.value is error
    with pytest.raises(theirs, match=f"^{str(error).splitlines()[0]}$"):
        on_main(Process(1), other)


def test_where_one_fails_all_do(monkeypatch: pytest.MonkeyPatch) -> None:
    described = [None, (True, "cannot be read")]
    monkeypatch.setattr(accelerate.utils, "gather_object", lambda own: described)
    with pytest.raises(ValueError, match=r"^cannot be read$"):
        on_all(Process(0), lambda: 3)
    monkeypatch.setattr(accelerate.utils, "gather_object", lambda own: [None, None])
    assert on_all(Process(0), lambda: 3) == 3
