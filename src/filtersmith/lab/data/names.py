"""The names of very many files in two blocks of memory, which processes that are forked go on sharing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, overload

import numpy as np


class Names(Sequence[Path]):
    """Paths, kept as the bytes of their names one after another.

    A million ``Path`` objects take a gigabyte, and every worker process ends up with a copy of them: to look at an
    object is to count a reference, which writes to its page of memory.

    Example:
        >>> names = Names(["a/1.png", "b/2.png"])
        >>> names[1], len(names), [*names.take([1, 0])]
        (PosixPath('b/2.png'), 2, [PosixPath('b/2.png'), PosixPath('a/1.png')])
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> Names: ...
    def __getitem__(self, place: int | slice) -> Path | Names:
        numbers = range(len(self))[place]
        return self.take(numbers) if isinstance(numbers, range) else Path(self.text(numbers))

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.texts())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            return self._bytes == other._bytes and np.array_equal(self._ends, other._ends)
        return NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def text(self, number: int) -> str:
        """A path as text; ``number`` counts from 0."""
        return os.fsdecode(self._bytes[self._ends[number] : self._ends[number + 1]])

    def texts(self) -> Iterator[str]:
        """All paths as text, in order."""
        return map(self.text, range(len(self)))

    def take(self, numbers: Iterable[int]) -> Names:
        """Some of the paths, in this order."""
        return Names(map(self.text, numbers))
