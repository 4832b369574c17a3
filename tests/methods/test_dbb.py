"""DBB against the naive version in tests/reference/branches.py: the block alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import branches as reference
from torch import Tensor, nn

from filtersmith.methods.dbb import DBB


def last_norms(block: Any) -> list[nn.Module]:
    return [block.bn, block.point.bn, block.sequence.bn, block.average.bn]


@settings(max_examples=40)
@given(reference.pairs(sizes=(1, 3, 5)), st.integers(0, 99))
def test_the_block_is_the_sum_of_its_branches_and_folds(pair: tuple[nn.Conv2d, nn.Module, Tensor], seed: int) -> None:
    conv, bn, x = pair
    block = reference.make(DBB(), conv, bn)
    torch.manual_seed(seed)
    nn.init.normal_(block.sequence.point.weight)
    reference.randomise(block)
    reference.compare(block, reference.dbb(block), x)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "padding"), [(3, 1), (3, 0), (5, 2)])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_the_fold_of_single_precision(size: int, padding: int, stride: int, groups: int) -> None:
    block = reference.make(
        DBB(), nn.Conv2d(8, 16, size, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(16)
    ).eval()
    reference.randomise(block)
    x = torch.randn(2, 8, 14, 14)
    plain = reference.folded(block)
    torch.testing.assert_close(plain(x), block(x), rtol=0, atol=1e-5)
    assert sum(p.numel() for p in plain.parameters()) == 16 * (8 // groups) * size**2 + 16


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_the_first_point_starts_as_the_identity(groups: int) -> None:
    block = reference.make(DBB(), nn.Conv2d(6, 12, 3, groups=groups), nn.BatchNorm2d(12))
    x = torch.randn(2, 6, 5, 5)
    assert torch.equal(block.sequence.point(x), x)
    assert block.sequence.point_bn.num_features == 6
    assert block.sequence.point.weight.requires_grad


@pytest.mark.parametrize("start", [1.0, 0.5, 0.0])
def test_every_branch_ends_with_the_weight_of_the_pair(start: float) -> None:
    bn = nn.BatchNorm2d(4)
    nn.init.constant_(bn.weight, start)
    block = reference.make(DBB(), nn.Conv2d(3, 4, 3), bn)
    for norm in last_norms(block):
        assert torch.equal(norm.weight, torch.full((4,), start))
        assert not norm.bias.any()
    for norm in (block.sequence.point_bn, block.average.point_bn):
        assert (norm.weight == 1).all()
    assert (block(torch.randn(2, 3, 6, 6)) == 0).all() == (start == 0)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(2, 2, 1), "a 1x1 convolution has no window for other branches"),
        (nn.Conv2d(2, 2, 2), "its kernel of 2x2 has no centre"),
        (nn.Conv1d(2, 2, 3), "it is a Conv1d, and only a plain Conv2d becomes a block of branches"),
        (nn.ConvTranspose2d(2, 2, 3), "it is a ConvTranspose2d, and only a plain Conv2d becomes a block of branches"),
        (nn.Linear(2, 2), "it is a Linear, and only a plain Conv2d becomes a block of branches"),
    ],
)
def test_refusals(layer: nn.Module, reason: str) -> None:
    assert DBB().refuses(layer) == reason
    assert not DBB().wants(layer)


def test_large_kernels_are_expanded_only_by_name() -> None:
    assert [DBB().wants(nn.Conv2d(2, 2, size)) for size in (3, (1, 3), 5, 7)] == [True, True, True, False]
    assert DBB().refuses(nn.Conv2d(2, 2, 7)) is None


@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_channels_last_survives(mode: str) -> None:
    conv = nn.Conv2d(6, 4, 3, 2, 1, groups=2, padding_mode=mode).to(memory_format=torch.channels_last)
    block = reference.make(DBB(), conv, nn.BatchNorm2d(4))
    x = torch.randn(2, 6, 8, 8).to(memory_format=torch.channels_last)
    assert block.sequence.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert block(x).is_contiguous(memory_format=torch.channels_last)
