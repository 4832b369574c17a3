"""Runs of channels against lists of single ones."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from filtersmith.graph.flow import (
    Origins,
    Run,
    channels_of_each,
    joined,
    left_out,
    producers_of,
    repeated,
    unknown,
    width,
)

FILTERS = {"a": 3, "b": 2, "layer1.conv": 1}
PRODUCERS = [(Run(name, filters),) for name, filters in FILTERS.items()]


@st.composite
def origins(draw: st.DrawFn) -> Origins:
    """As networks make them: joined, and repeated by depthwise convolutions."""
    parts = [
        draw(st.one_of(st.sampled_from(PRODUCERS), st.integers(1, 3).map(unknown)))
        for _ in range(draw(st.integers(1, 4)))
    ]
    made = repeated(joined(parts), draw(st.sampled_from([1, 2])))
    return repeated(joined([made, draw(st.sampled_from(PRODUCERS))]), draw(st.sampled_from([1, 3])))


def one_by_one(of: Origins) -> list[tuple[str, int] | None]:
    """The filter that makes each channel."""
    return [
        None if run.producer is None else (run.producer, f)
        for run in of
        for f in range(run.filters)
        for _ in range(run.repeats)
    ]


@given(origins(), origins(), st.integers(1, 3))
def test_joined_and_repeated(one: Origins, other: Origins, times: int) -> None:
    assert one_by_one(joined([one, other])) == one_by_one(one) + one_by_one(other)
    assert one_by_one(repeated(one, times)) == [channel for channel in one_by_one(one) for _ in range(times)]
    assert width(one) == len(one_by_one(one))
    assert joined([joined([one]), joined([other])]) == joined([one, other]), "one spelling for the same channels"


@given(origins(), st.data())
def test_which_channels_belong_to_filters(of: Origins, data: st.DataObject) -> None:
    dropped: dict[str, Tensor] = {}
    for name in data.draw(st.sets(st.sampled_from(list(FILTERS)))):
        mask = st.lists(st.booleans(), min_size=FILTERS[name], max_size=FILTERS[name])
        dropped[name] = torch.tensor(data.draw(mask))
    channels = one_by_one(of)
    expected = [c is not None and c[0] in dropped and bool(dropped[c[0]][c[1]]) for c in channels]
    assert left_out(of, dropped).tolist() == expected
    assert producers_of(of) == list(dict.fromkeys(c[0] for c in channels if c is not None))
    for name, filters in FILTERS.items():
        places = [[n for n, c in enumerate(channels) if c == (name, f)] for f in range(filters)]
        assert channels_of_each(of, name, filters) == places


def test_runs_show_themselves() -> None:
    shown = [str(run) for run in joined([repeated(PRODUCERS[0], 2), unknown(4), unknown(1)])]
    assert shown == ["a[3 x 2]", "?[5]"]
