"""What torch's functions do to dimensions, against the function on values; every spelling is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.measure import behind


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (Tensor.permute, (0, 2, 3, 1), {}),
        (Tensor.permute, ((0, -1, 1, 2),), {}),
        (torch.permute, ((3, 1, 0, 2),), {}),
        (torch.permute, (), {"dims": (0, 2, 3, 1)}),
        (Tensor.transpose, (1, -1), {}),
        (torch.swapaxes, (), {"axis0": 1, "axis1": 2}),
        (Tensor.movedim, (1, -1), {}),
        (torch.moveaxis, ((1, 2), (3, 0)), {}),
        (Tensor.mT.__get__, (), {}),  # type: ignore[attr-defined]
    ],
)
def test_dimensions_go_where_the_function_puts_them_and_back(function: Any, args: Any, kwargs: Any) -> None:
    before = torch.randn(2, 3, 3, 2)
    assert function in behind.PERMUTATIONS
    start = (0, 2, 3, 1)
    found = function(before.permute(start), *args, **kwargs)
    order = behind.permuted(start, function, (before, *args), kwargs)
    assert torch.equal(behind.as_before(found, order), before)
    if function is torch.permute and kwargs:
        assert behind.permuted(start, function, (), {"input": before, **kwargs}) == order


def test_every_spelling_of_what_is_asked_for() -> None:
    for function in (
        *(F.relu, torch.relu_, Tensor.relu_, F.softplus, F.hardsigmoid, F.softsign, F.softshrink, Tensor.hardshrink),
        *(
            torch.tanh_,
            torch.selu_,
            torch.celu_,
            F.elu_,
            Tensor.clamp_min,
            Tensor.clamp_min_,
            torch.clip,
            Tensor.sigmoid_,
        ),
        *(F.relu6, F.prelu, torch.rrelu_, F.logsigmoid, F.tanhshrink, F.threshold_, F.mish, F.silu, F.gelu),
    ):
        assert function in behind.ACTIVATIONS, function
    for function in (F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm, torch.native_layer_norm):
        assert function in behind.NORMS
    assert not behind.ACTIVATIONS & (behind.NORMS | behind.COPIES | behind.PERMUTATIONS | behind.PRODUCTS)


def test_of_a_maximum_what_is_beside_0() -> None:
    x, zero, other = nn.Parameter(torch.randn(2, 3)), torch.zeros(()), torch.tensor([0.0, 1.0, 0.0])
    assert behind.read_by_maximum((x, zero), {})[0] is x
    assert behind.read_by_maximum((zero.expand(3),), {"other": x})[0] is x
    assert behind.read_by_maximum((x, other), {}) == behind.read_by_maximum((x, 1), {}) == []
    assert behind.read_by_maximum((x,), {}) == []
