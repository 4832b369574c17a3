"""Which filters a ranking chooses: all pairs in a list, of which the lowest that may go is taken again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.nets import assert_same, net
from reference.ranked_nets import case
from torch import Generator, Tensor, nn

from filtersmith.measure.choice import (
    check_criterion,
    choose,
    choose_together,
    pooled,
    refuse_without_data,
    with_data,
)
from filtersmith.measure.ranking import ON_DATA, rank

LAYERS = ["up", "dense", "grouped"]
Choice = list[tuple[str, int]]


@st.composite
def rankings(draw: st.DrawFn) -> dict[str, Tensor]:
    """With many ties, and layers whose names are in no order."""
    values = draw(st.lists(st.lists(st.integers(-2, 2), min_size=1, max_size=6), min_size=1, max_size=4))
    return {f"layer{9 - n}": torch.tensor(one, dtype=torch.float64) for n, one in enumerate(values)}


def slowly(scores: dict[str, Tensor], count: int, keep_min: int) -> Choice:
    """One after the other, each the lowest of those that may go."""
    left = {name: list(range(len(values))) for name, values in scores.items()}
    chosen: Choice = []
    while len(chosen) < count:
        able = [
            (float(scores[name][f]), place, f, name)
            for place, (name, filters) in enumerate(left.items())
            for f in filters
            if len(filters) > keep_min
        ]
        if not able:
            break
        *_, filter, name = min(able)
        left[name].remove(filter)
        chosen.append((name, filter))
    return chosen


@given(rankings())
def test_pooled_is_a_permutation_with_ties_in_order(scores: dict[str, Tensor]) -> None:
    assert pooled(scores) == slowly(scores, count=99, keep_min=0)


@given(scores=rankings(), count=st.integers(0, 25), keep_min=st.integers(0, 3))
def test_the_lowest_of_all_layers_are_chosen_and_some_stay(
    scores: dict[str, Tensor], count: int, keep_min: int
) -> None:
    chosen = choose(scores, count, keep_min)
    assert chosen == slowly(scores, count, keep_min)
    assert len(chosen) == min(count, sum(max(0, len(values) - keep_min) for values in scores.values()))


# --- of a network ---------------------------------------------------------------------------------------------


def test_together_is_choosing_by_a_ranking_of_the_layers() -> None:
    model = net()
    scores = rank(model, "l1", layers=LAYERS)
    expected = slowly({name: scores[name] for name in LAYERS}, 8, 1)
    assert choose_together(model, "l1", LAYERS, 8, 1, Generator().manual_seed(0)) == expected
    assert {name for name, _ in expected} <= set(LAYERS)
    assert choose_together(model, "l1", LAYERS, 0, 1, Generator()) == []


def test_equal_filters_go_in_the_order_of_the_layers() -> None:
    def all_equal(weight: Tensor) -> Tensor:
        return torch.zeros(len(weight))

    found = choose_together(net(), all_equal, ["up", "one", "dense"], 5, 1, Generator())
    assert found == [("up", 0), ("up", 1), ("up", 2), ("up", 3), ("dense", 0)], "the only filter of 'one' stays"


def test_random_numbers_are_those_of_the_generator() -> None:
    model, chosen = net(), []
    generator = Generator().manual_seed(3)
    before = torch.get_rng_state()
    for _ in range(2):
        chosen.append(choose_together(model, "random", LAYERS, 6, 1, generator))
    again = choose_together(model, "random", LAYERS, 6, 1, Generator().manual_seed(3))
    assert chosen[0] == again
    assert chosen[0] != chosen[1], "drawn anew"
    assert torch.equal(torch.get_rng_state(), before)


def interrupted(weight: Tensor) -> Tensor:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("criterion", "error"),
    [
        ("magnitude", ValueError),
        ("taylor", ValueError),
        (lambda weight: torch.full((len(weight),), torch.nan), ValueError),
        (interrupted, KeyboardInterrupt),
    ],
)
def test_a_criterion_that_raises_leaves_the_generator_as_it_was(
    criterion: str | Callable[..., Any], error: type[BaseException]
) -> None:
    model, generator = net(), Generator().manual_seed(3)
    before = generator.get_state()
    with pytest.raises(error):
        choose_together(model, criterion, LAYERS, 6, 1, generator)
    assert torch.equal(generator.get_state(), before)


# --- data for a method that knows none ------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ON_DATA)
def test_criteria_on_data_get_the_batches(criterion: str) -> None:
    some = case("vanilla")
    data, layers = some.data(), list(some.behind)
    on_data = with_data(criterion, data)
    expected = rank(some.model, criterion, data=data, layers=layers)
    for _ in range(2):  # in each cycle anew
        assert_same(rank(some.model, on_data, layers=layers), expected)
    with pytest.raises(
        ValueError, match=f"^held_out must be batches .* for rank='{criterion}'.*, got None$"
    ) as caught:
        with_data(criterion, None)
    assert "\n" not in str(caught.value)


def test_others_stay_what_they_are() -> None:
    def mine(model: nn.Module) -> dict[str, Tensor]:
        return {}

    for criterion in ("ortho", "l1", "random", "no such one", mine):
        assert with_data(criterion, None) is criterion
        assert with_data(criterion, [1]) is criterion


def test_the_name_of_a_criterion_or_a_function() -> None:
    assert [check_criterion("rank", value) for value in ("l1", len)] == ["l1", len]
    for wrong in ("l3", 7):
        with pytest.raises(ValueError, match=f"^unknown criterion {wrong!r}"):
            check_criterion("rank", wrong)
    refuse_without_data("l1")
    refuse_without_data(len)
    with pytest.raises(ValueError, match=r"^rank='taylor' needs data: give rank=functools\.partial\(fs\.rank, "):
        refuse_without_data("taylor")
