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
from filtersmith.measure.spectrum import condition, effective_rank


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
