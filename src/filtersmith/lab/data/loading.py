"""Batches that worker processes make while the network trains."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from filtersmith.common.options import bad_option

Key = tuple[int, int]
"""Epoch, and number of the sample."""


class Loading:
    """Batches of samples, in the order in which they are asked for.

    Args:
        samples: made into a batch by ``__getitems__``, which takes a list of keys; what cannot be read is a text in
            place of the batch, for an error raised in a worker arrives as a page of traceback.
        workers: processes that do it; 0: this one.
        pin: whether tensors come in memory from which a GPU reads fast.
        stay: whether the workers wait for the next epoch.

    Raises:
        ValueError: ``workers`` is no whole number of at least 0.
    """

    def __init__(self, samples: Dataset[Any], *, workers: int, pin: bool, stay: bool) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise bad_option("workers", workers, "a whole number >= 0")
        self._samples, self._workers, self._pin, self._stay = samples, workers, pin, stay
        self._idle: DataLoader[Any] | None = None

    def batches(self, wanted: Sequence[list[Key]]) -> Iterator[Any]:
        """These batches.

        Raises:
            ValueError: while iterating, the text of a batch that cannot be made.
        """
        loader, self._idle = self._idle or self._loader(), None
        sampler: Any = loader.batch_sampler
        sampler.batches = wanted
        try:
            for batch in loader:
                if isinstance(batch, str):
                    raise ValueError(batch)
                yield batch
        finally:
            self._idle = loader  # a second epoch beside this one has a loader of its own

    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            self._samples,
            batch_sampler=_Wanted(),
            num_workers=self._workers,
            collate_fn=_unchanged,
            pin_memory=self._pin,
            persistent_workers=self._stay and self._workers > 0,
            worker_init_fn=_hear_the_parent_alone,
            generator=torch.Generator(),  # else it would draw from the global one
        )


class _Wanted:
    """The batches of the epoch that a loader is at: its workers are told one by one."""

    batches: Sequence[list[Key]] = ()

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _unchanged(batch: Any) -> Any:
    return batch


def _hear_the_parent_alone(worker: int) -> None:
    """Leave Ctrl-C, and a SIGTERM that somebody else than the parent sends, to the process that trains.

    Terminals and schedulers signal all processes at once. The one that trains still ends its step and writes a
    checkpoint, and a worker that is gone would be an error there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and hasattr(signal, "sigwaitinfo"):  # macOS and Windows cannot tell who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_the_parent, args=(parent.pid,), daemon=True).start()


def _end_with_the_parent(parent: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
