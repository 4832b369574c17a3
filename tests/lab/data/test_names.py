"""Very many paths in two blocks of memory."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from filtersmith.lab.data.names import Names

PATHS = [Path("a/1.png"), Path("b/zwölf.png"), Path("b/\udcff.png"), Path("c")]
"""One of them is no UTF-8."""


def test_they_are_a_sequence_of_paths() -> None:
    names = Names(PATHS)
    assert [*names] == PATHS
    assert [names[n] for n in range(-4, 4)] == PATHS + PATHS
    assert [*names.texts()] == [str(path) for path in PATHS]
    assert [*names[1:3]] == PATHS[1:3]
    assert [*names[::-2]] == PATHS[::-2]
    assert [*names.take([2, 2, 0])] == [PATHS[2], PATHS[2], PATHS[0]]
    assert Path("c") in names
    assert len(Names([])) == 0
    for place in (4, -5):
        with pytest.raises(IndexError):
            names[place]


def test_equal_ones_are_equal_in_other_processes_too() -> None:
    names = Names(map(str, PATHS))
    assert names == Names(PATHS) == pickle.loads(pickle.dumps(names))
    assert names != Names(PATHS[:3])
    assert Names(["ab", "c"]) != Names(["a", "bc"])
    assert names != PATHS


def test_a_million_take_little_memory() -> None:
    names = Names(f"train/n{n // 1000:08d}/{n:08d}.JPEG" for n in range(100_000))
    assert len(pickle.dumps(names)) < 45 * len(names)
