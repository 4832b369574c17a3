"""Effective rank and condition against numpy."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor, nn

from filtersmith.measure import spectrum
from filtersmith.measure.kernels import Kernels
from filtersmith.measure.spectrum import condition, effective_rank, full_rank_of, singular_values_of


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (5, 40), (16, 1, 3, 3)])
def test_as_numpy_and_scipy_have_it(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape)
    values = np.linalg.svd(weight.double().flatten(1).numpy(), compute_uv=False)
    assert effective_rank(weight) == pytest.approx(math.exp(entropy(values)), abs=1e-6)
    assert condition(weight) == pytest.approx(np.linalg.cond(weight.double().flatten(1).numpy()), rel=1e-6)


def test_copies_take_no_rank_and_orthogonal_filters_all_of_it() -> None:
    some = torch.randn(4, 3, 3, 3)
    assert effective_rank(torch.cat([some, some])) == pytest.approx(effective_rank(some), rel=1e-6)
    assert condition(torch.cat([some, some])) == math.inf
    orthogonal = nn.init.orthogonal_(torch.empty(16, 27))
    assert effective_rank(7 * orthogonal) == pytest.approx(16, rel=1e-5)
    assert condition(7 * orthogonal) == pytest.approx(1, rel=1e-5)
    assert effective_rank(torch.outer(torch.randn(5), torch.randn(6))) == pytest.approx(1, rel=1e-4)


def test_zeros_and_what_is_not_finite() -> None:
    assert effective_rank(torch.zeros(4, 9)) == 0
    assert condition(torch.zeros(4, 9)) == math.inf
    broken = torch.randn(4, 9)
    broken[2, 3] = torch.nan
    assert math.isnan(effective_rank(broken))
    assert math.isnan(condition(broken))


@pytest.mark.parametrize(
    "weight", [torch.zeros(3), torch.empty(0, 3), [[1.0]], torch.zeros(2, 2, dtype=torch.complex64)]
)
def test_what_is_no_weight_is_refused_in_one_line(weight: Tensor) -> None:
    with pytest.raises(ValueError, match="weight must be a tensor of filters") as error:
        effective_rank(weight)
    assert "\n" not in str(error.value)


def test_the_examples() -> None:
    assert doctest.testmod(spectrum).failed == 0


def test_half_precision_is_exact_as_it_is_stored() -> None:
    assert condition(torch.eye(1024).half()) == pytest.approx(1)
    weight = torch.randn(64, 576).bfloat16()
    assert condition(weight) == pytest.approx(np.linalg.cond(weight.double().numpy()), rel=1e-6)


def planted(condition: float, filters: int = 256, weights: int = 1152) -> Tensor:
    """A float64 matrix with singular values from 1 down to 1 / condition."""
    sides = [torch.linalg.qr(torch.randn(n, filters, dtype=torch.float64)).Q for n in (filters, weights)]
    values = torch.logspace(0, -math.log10(condition), filters, dtype=torch.float64)
    return (sides[0] * values) @ sides[1].T


@pytest.mark.parametrize("value", [1e2, 1e4, 1e6])
def test_a_planted_condition_is_found_as_far_as_weights_determine_it(value: float) -> None:
    weight = planted(value)
    assert condition(weight) == pytest.approx(value, rel=1e-6)
    single = weight.float()
    assert condition(single) == pytest.approx(np.linalg.cond(single.double().numpy()), rel=1e-3)
    assert condition(single) == pytest.approx(value, rel=1e-3)
    assert condition(torch.cat([single, single[:1]])) == math.inf


def grouped(filters: Tensor, groups: int) -> Tensor:
    """The block-diagonal matrix, by loops."""
    rows, size = filters.double().flatten(1), len(filters) // groups
    return torch.block_diag(*(rows[g * size : (g + 1) * size] for g in range(groups)))


@pytest.mark.parametrize(("shape", "groups"), [((12, 3, 3, 3), 3), ((12, 2), 2), ((8, 1, 3, 3), 8), ((6, 4), 1)])
def test_groups_are_blocks_of_one_matrix(shape: tuple[int, ...], groups: int) -> None:
    for filters in (torch.randn(shape), torch.randn(shape, dtype=torch.float64)):
        values = np.linalg.svd(grouped(filters, groups).numpy(), compute_uv=False)
        kernels = Kernels("", filters, groups)
        found = singular_values_of(kernels)
        assert len(found) == full_rank_of(kernels) == groups * min(len(filters) // groups, filters[0].numel())
        assert found.tolist() == pytest.approx(values[: len(found)].tolist(), rel=1e-6)
        assert effective_rank(filters, groups=groups) == pytest.approx(math.exp(entropy(values)), rel=1e-6)
        assert condition(filters, groups=groups) == pytest.approx(values[0] / values[len(found) - 1], rel=1e-6)


def test_filters_that_do_not_count_take_no_part() -> None:
    filters = torch.randn(12, 4, 1, 1)
    filters[1] = torch.nan
    filters[4:8] = torch.inf
    keep = filters.flatten(1).isfinite().all(1)
    kernels = Kernels("", filters, 3)
    assert singular_values_of(kernels).isnan().tolist() == [True] * 12
    values = np.linalg.svd(torch.block_diag(filters[[0, 2, 3]].flatten(1), filters[8:].flatten(1)).double().numpy())[
        1
    ]
    assert full_rank_of(kernels, keep) == 7
    assert singular_values_of(kernels, keep).tolist() == pytest.approx(values[:7].tolist(), rel=1e-6)
    assert full_rank_of(Kernels("", filters[:, :2], 3), keep) == 4
    assert len(singular_values_of(kernels, torch.zeros(12, dtype=torch.bool))) == 0


def test_the_same_filters_in_other_groups_are_others() -> None:
    some = torch.randn(8, 16, 3, 3)
    twice = torch.cat([some, some])
    assert effective_rank(twice) == pytest.approx(effective_rank(some))
    assert effective_rank(twice, groups=2) == pytest.approx(2 * effective_rank(some))
    assert condition(torch.cat([some, some * 1e-9]), groups=2) == pytest.approx(1e9 * condition(some), rel=1e-5)


@pytest.mark.parametrize(
    ("groups", "said"), [(3, "a divisor of the 4 filters"), (0, "a whole number"), (2.0, "whole")]
)
def test_groups_that_do_not_fit_are_refused_in_one_line(groups: int, said: str) -> None:
    for how in (effective_rank, condition):
        with pytest.raises(ValueError, match=f"groups must be {said}" if " " in said else said) as error:
            how(torch.randn(4, 9), groups=groups)
        assert "\n" not in str(error.value)
