"""Histograms of the Oracle's drops, and agreement with it, against numpy and scipy."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr

from filtersmith.measure import oracle_agreement
from filtersmith.measure.oracle_agreement import oracle_correlation, oracle_histogram, ranks


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20))
def test_equal_values_share_their_mean_rank(values: list[int]) -> None:
    assert ranks(torch.tensor(values)).tolist() == pytest.approx(rankdata(values))


def test_agreement_over_all_layers_by_value_and_rank() -> None:
    drops = {"a": torch.randn(7), "b": torch.randn(5).round()}
    scores = {"b": drops["b"] + torch.randn(5), "a": drops["a"] + torch.randn(7).round()}
    a, b = (torch.cat([of["a"], of["b"]]).double().numpy() for of in (scores, drops))
    found = oracle_correlation(scores, drops)
    assert found.value == pytest.approx(pearsonr(a, b).statistic, abs=1e-6)
    assert found.rank == pytest.approx(spearmanr(a, b).statistic, abs=1e-6)
    monotone = {name: one.exp() for name, one in scores.items()}
    assert oracle_correlation(monotone, drops).rank == pytest.approx(found.rank)
    assert oracle_correlation(drops, drops) == pytest.approx((1, 1))
    assert oracle_correlation({name: one * 0 for name, one in drops.items()}, drops) == (0, 0)


def test_the_histogram_has_every_filter_in_one_bin_of_all() -> None:
    drops = {"a": torch.tensor([-0.01, 0.0, 0.009, 0.2]), "b": torch.tensor([0.01, 0.5])}
    found = oracle_histogram(drops, bins=5)
    edges = np.histogram_bin_edges([-0.01, 0.5], 5)
    for name, one in drops.items():
        counts, _ = np.histogram(one.numpy(), edges)
        assert found[name].counts == tuple(counts)
        assert found[name].edges == pytest.approx(edges)
    assert found["a"].median == pytest.approx(0.0045)
    assert (found["a"].below, found["b"].below) == (0.75, 0.5)
    assert found["b"].highest == 0.5
    flat = oracle_histogram({"a": torch.zeros(3)}, bins=2)["a"]
    assert sum(flat.counts) == 3


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: oracle_histogram({}), "drops must be layers with values"),
        (lambda: oracle_histogram({"a": torch.ones(2)}, bins=0), "bins must be a whole number from 1 on, got 0"),
        (lambda: oracle_histogram({"a": torch.tensor([torch.nan])}), "drops of layer 'a' must be finite"),
        (lambda: oracle_correlation({"b": torch.ones(2)}, {"a": torch.ones(2)}), "of the layers of drops, a"),
        (
            lambda: oracle_correlation({"a": torch.ones(3)}, {"a": torch.ones(2)}),
            "scores must be 2, one for each filter",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        call()
    assert "\n" not in str(error.value)


def test_the_examples() -> None:
    assert doctest.testmod(oracle_agreement).failed == 0
