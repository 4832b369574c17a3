"""Phase arithmetic against counting."""

from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st

from filtersmith import schedule
from filtersmith.schedule import phase_at, split, starts

LENGTHS = st.lists(st.integers(0, 5), max_size=5)


@given(lengths=LENGTHS)
def test_phase_at_counts_through_the_phases(lengths: list[int]) -> None:
    by_hand = [(phase, within) for phase, length in enumerate(lengths) for within in range(length)]
    assert [phase_at(step, lengths) for step in range(sum(lengths) + 2)] == [
        *by_hand,
        (len(lengths), 0),
        (len(lengths), 1),
    ]


@given(lengths=LENGTHS)
def test_each_phase_starts_where_phase_at_says(lengths: list[int]) -> None:
    for phase, start in enumerate(starts(lengths)):
        assert start == sum(lengths[:phase])
        if lengths[phase]:
            assert phase_at(start, lengths) == (phase, 0)


@given(total=st.integers(0, 100), parts=st.integers(1, 9))
def test_split_is_even_and_ascending(total: int, parts: int) -> None:
    lengths = split(total, parts)
    assert (len(lengths), sum(lengths)) == (parts, total)
    assert max(lengths) - min(lengths) <= 1
    assert list(lengths) == sorted(lengths)


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(schedule)
    assert results.attempted == 3
    assert results.failed == 0
