"""What the processes of a run do together: what fails in one of them ends all of them, in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from filtersmith.common.options import first_line
from filtersmith.lab.training.errors import RunFailed

T = TypeVar("T")


def on_main(accelerator: Any, work: Callable[[], T]) -> T:
    """Do it in the main process alone; what it gives or raises (in one line) holds in all."""
    if accelerator.num_processes == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    value, failure = _tried(work) if accelerator.is_main_process else (None, None)
    shared = [value, None if failure is None else _described(failure)]
    broadcast_object_list(shared)
    _raise(failure, shared[1:])
    return shared[0]  # type: ignore[return-value]


def on_all(accelerator: Any, work: Callable[[], T]) -> T:
    """Do it in every process; where it fails in one, it fails in all."""
    if accelerator.num_processes == 1:
        return work()
    from accelerate.utils import gather_object

    value, failure = _tried(work)
    _raise(failure, gather_object([None if failure is None else _described(failure)]))
    return value  # type: ignore[return-value]


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def _described(failure: Exception) -> tuple[bool, str]:
    return isinstance(failure, ValueError), first_line(failure)


def _raise(own: Exception | None, described: list[Any]) -> None:
    if own is not None:
        raise own
    for refused, line in filter(None, described):
        raise ValueError(line) if refused else RunFailed(line)
