"""The smallest filters and weights against sorted Python lists: of equal ones, the first."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import dsd as one_layer
from reference import pruning as by_hand
from torch import nn

from filtersmith.pruning.magnitude import smallest, smallest_filters, smallest_weights

VALUES = st.sampled_from((0.0, 0.5, -0.5, 1.0, -2.0))  # many equal ones, and sums without rounding
SHARES = st.floats(0, 0.99)


@given(values=st.lists(VALUES, min_size=1, max_size=30), share=SHARES)
def test_the_smallest_weights_of_one_layer(values: list[float], share: float) -> None:
    weight = torch.tensor(values).view(-1, 1)
    mask = smallest(weight, share)
    assert mask.shape == weight.shape
    assert by_hand.entries(mask) == one_layer.smallest(weight, share)


@given(values=st.lists(VALUES, min_size=1, max_size=24), width=st.integers(1, 3), share=SHARES)
def test_the_smallest_filters(values: list[float], width: int, share: float) -> None:
    rows = torch.tensor(values[: len(values) // width * width] or values * width).view(-1, width, 1, 1)
    before = rows.clone()
    expected = by_hand.first([sum(abs(v) for v in row) for row in rows.flatten(1).tolist()], share)
    for layout in (rows, rows.to(memory_format=torch.channels_last), rows.bfloat16(), rows.double()):
        assert by_hand.entries(smallest_filters(layout, share)) == expected
    assert torch.equal(rows, before)


@given(tensors=st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=4), share=SHARES)
def test_the_smallest_weights_of_all_layers(tensors: list[list[float]], share: float) -> None:
    weights = [torch.tensor(values).view(1, -1, 1, 1).to(memory_format=torch.channels_last) for values in tensors]
    weights[0] = weights[0].bfloat16()
    masks = smallest_weights(weights, share)
    assert [by_hand.entries(mask) for mask in masks] == by_hand.smallest_weights(weights, share)
    assert [mask.shape for mask in masks] == [weight.shape for weight in weights]


def test_random_weights() -> None:
    weights = [torch.randn(7, 3, 3, 3), torch.randn(4, 100)]
    found = [by_hand.entries(mask) for mask in smallest_weights(weights, 0.37)]
    assert found == by_hand.smallest_weights(weights, 0.37)


@pytest.mark.parametrize("share", [0.0, 0.999])
def test_the_ends_of_the_range(share: float) -> None:
    """Nothing goes, or all but the largest one: of the layer, of the network."""
    weights = [torch.tensor([[3.0, -4.0], [1.0, 1.0]]), torch.tensor([[-5.0]])]
    gone = [int(mask.sum()) for mask in (smallest_filters(weights[0], share), *smallest_weights(weights, share))]
    assert gone == ([0, 0, 0] if share == 0 else [1, 4, 0])


def test_the_parameter_stays_a_plain_parameter() -> None:
    """torch's pruning would leave masks and hooks on the module; the network could not be copied any more."""
    layer = nn.Conv2d(2, 4, 3)
    before, version = layer.weight.detach().clone(), layer.weight._version
    masks = [smallest_filters(layer.weight, 0.5), *smallest_weights([layer.weight], 0.5), smallest(layer.weight, 0.5)]
    assert not any(mask.requires_grad or mask.dtype != torch.bool for mask in masks)
    assert torch.equal(layer.weight, before)
    assert layer.weight._version == version
    assert list(layer._buffers) == []
    assert not layer._forward_pre_hooks
