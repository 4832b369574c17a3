"""Phase arithmetic against counting."""

from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st

from filtersmith.common import phases as schedule
from filtersmith.common.phases import cycle_event, phase_at, split, starts, sub_phases

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


@given(s1=st.integers(1, 4), s2=st.integers(1, 4), cycles=st.integers(0, 4), total=st.integers(0, 40))
def test_events_and_sub_phases_are_those_of_a_written_out_plan(s1: int, s2: int, cycles: int, total: int) -> None:
    plan = (("f" * s1 + "s" * s2) * cycles + "f" * 41)[: total + 1]
    events = {"fs": "pruned", "sf": "restored"}
    by_hand = [events.get(plan[epoch : epoch + 2]) for epoch in range(total)]
    assert [cycle_event(call, s1, s2, cycles) for call in range(1, total + 1)] == by_hand
    within = {epoch for start, stop in sub_phases(total, s1, s2, cycles) for epoch in range(start, stop)}
    assert within == {epoch for epoch in range(total) if plan[epoch] == "s"}
    assert len(sub_phases(total, s1, s2, cycles)) == len(plan[:total].replace("f", " ").split())


def test_the_timeline_of_the_paper() -> None:
    assert [cycle_event(call, 3, 2, 2) for call in (3, 5, 8, 10, 13, 15)] == ["pruned", "restored"] * 2 + [None] * 2
    assert sub_phases(85, 20, 10, 3) == ((20, 30), (50, 60), (80, 85))


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(schedule)
    assert results.attempted == 8
    assert results.failed == 0
