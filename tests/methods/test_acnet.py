"""ACNet against the naive version in tests/reference/branches.py: the block alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import branches as reference
from torch import Tensor, nn

from filtersmith.methods.acnet import ACNet


@settings(max_examples=40)
@given(reference.pairs(), st.integers(0, 99))
def test_the_block_is_the_sum_of_its_branches_and_folds(pair: tuple[nn.Conv2d, nn.Module, Tensor], seed: int) -> None:
    conv, bn, x = pair
    block = reference.make(ACNet(), conv, bn)
    torch.manual_seed(seed)
    reference.randomise(block)
    reference.compare(block, reference.acnet(block), x)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "padding"), [(3, 1), (3, 0), (5, 2)])
@pytest.mark.parametrize("groups", [1, 8])
def test_the_fold_of_single_precision(size: int, padding: int, stride: int, groups: int) -> None:
    block = reference.make(
        ACNet(), nn.Conv2d(8, 16, size, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(16)
    ).eval()
    reference.randomise(block)
    x = torch.randn(2, 8, 14, 14)
    plain = reference.folded(block)
    torch.testing.assert_close(plain(x), block(x), rtol=0, atol=1e-5)
    assert sum(p.numel() for p in plain.parameters()) == 16 * (8 // groups) * size**2 + 16


@pytest.mark.parametrize("start", [1.0, 0.0])
def test_the_three_weights_start_at_a_third(start: float) -> None:
    bn = nn.BatchNorm2d(4)
    nn.init.constant_(bn.weight, start)
    block = reference.make(ACNet(), nn.Conv2d(3, 4, 3), bn)
    for norm in (block.bn, block.vertical.bn, block.horizontal.bn):
        assert torch.equal(norm.weight, torch.full((4,), start / 3))
        assert not norm.bias.any()
    assert (block(torch.randn(2, 3, 6, 6)) == 0).all() == (start == 0)


def test_the_branches_are_like_the_pair() -> None:
    bn = nn.SyncBatchNorm(4, eps=1e-3, momentum=0.01, affine=False)
    conv = nn.Conv2d(6, 4, (3, 5), 2, groups=2, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    block = reference.make(ACNet(), conv, bn)
    for branch, size in ((block.vertical, (3, 1)), (block.horizontal, (1, 5))):
        assert branch.conv.weight.shape == (4, 3, *size)
        assert branch.conv.weight.dtype == torch.bfloat16
        assert branch.conv.weight.is_contiguous(memory_format=torch.channels_last)
        assert branch.conv.bias is None
        assert branch.conv.weight.abs().max() <= (3 * max(size)) ** -0.5 + 1e-3, "torch's default for its own fan-in"
        assert type(branch.bn) is nn.SyncBatchNorm
        assert (branch.bn.eps, branch.bn.momentum, branch.bn.affine) == (1e-3, 0.01, False)
        assert branch.bn.running_mean.dtype == torch.float32


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(2, 2, 1), "a kernel of 1x1 has no further lines"),
        (nn.Conv2d(2, 2, (1, 3)), "a kernel of 1x3 has no further lines"),
        (nn.Conv2d(2, 2, (5, 1)), "a kernel of 5x1 has no further lines"),
        (nn.Conv2d(2, 2, (3, 4)), "its kernel of 3x4 has no centre"),
        (nn.Conv1d(2, 2, 3), "it is a Conv1d, and only a plain Conv2d becomes a block of branches"),
        (nn.Conv3d(2, 2, 3), "it is a Conv3d, and only a plain Conv2d becomes a block of branches"),
        (nn.ConvTranspose2d(2, 2, 3), "it is a ConvTranspose2d, and only a plain Conv2d becomes a block of branches"),
        (nn.Linear(2, 2), "it is a Linear, and only a plain Conv2d becomes a block of branches"),
        (type("Own", (nn.Conv2d,), {})(2, 2, 3), "it is a Own, and only a plain Conv2d becomes a block of branches"),
    ],
)
def test_refusals(layer: nn.Module, reason: str) -> None:
    assert ACNet().refuses(layer) == reason
    assert not ACNet().wants(layer)


def test_large_kernels_are_expanded_only_by_name() -> None:
    assert [ACNet().wants(nn.Conv2d(2, 2, size)) for size in (3, 5, 7, (3, 9))] == [True, True, False, False]
    assert ACNet().refuses(nn.Conv2d(2, 2, 7)) is None
