"""The algebra that folds branches, each rule against running what it folds, in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import branches as reference
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.reparam import branches
from filtersmith.reparam.branches import Branch

ODD = st.sampled_from((1, 3, 5))
SIZES = st.tuples(ODD, ODD)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


@settings(max_examples=40)
@given(reference.pairs())
def test_fuse_is_the_convolution_and_its_batch_norm(pair: tuple[nn.Conv2d, nn.Module, Tensor]) -> None:
    conv, bn, x = pair
    block = nn.Sequential(conv, bn).eval()
    reference.randomise(block)
    kernel, bias = branches.fuse(conv.weight, conv.bias, bn)
    both = copy.deepcopy(conv)
    both.weight, both.bias = nn.Parameter(kernel), nn.Parameter(bias)
    close(both(x), block(x))


def test_fuse_is_exact_where_the_block_is_of_single_precision() -> None:
    conv, bn = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    kernel, bias = branches.fuse(conv.weight, conv.bias, bn)
    assert (kernel.dtype, bias.dtype) == (torch.float64, torch.float64)
    exact, _ = branches.fuse(conv.weight.double(), conv.bias.double(), bn.double())  # type: ignore[union-attr]
    assert torch.equal(kernel, exact), "not rounded on the way"


@given(SIZES, SIZES)
def test_a_kernel_embedded_reads_the_centre_of_the_window(small: tuple[int, int], more: tuple[int, int]) -> None:
    size = small[0] + more[0] - 1, small[1] + more[1] - 1
    kernel, x = drawn(2, 3, *small), drawn(2, 3, 9, 10)
    rows, columns = more[0] // 2, more[1] // 2
    embedded = branches.embed(kernel, size)
    assert embedded.shape == (2, 3, *size)
    close(F.conv2d(x, embedded), F.conv2d(x[..., rows : 9 - rows, columns : 10 - columns], kernel))


@given(SIZES)
def test_a_point_spread_is_followed_by_the_mean_of_the_window(size: tuple[int, int]) -> None:
    point, x = drawn(4, 3, 1, 1), drawn(2, 3, 7, 6)
    close(F.conv2d(x, branches.spread(point, size)), F.avg_pool2d(F.conv2d(x, point), size, 1))


@given(st.sampled_from((1, 2, 3)), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), SIZES)
def test_a_point_and_a_kernel_in_one(groups: int, c: int, m: int, n: int, size: tuple[int, int]) -> None:
    point, bias = drawn(groups * m, c, 1, 1), drawn(groups * m)
    kernel, x = drawn(groups * n, m, *size), drawn(2, groups * c, 7, 6)
    both, its_bias = branches.compose((point, bias), kernel, groups)
    expected = F.conv2d(F.conv2d(x, point, bias, groups=groups), kernel, groups=groups)
    close(F.conv2d(x, both, its_bias, groups=groups), expected)


def test_branches_add_up() -> None:
    kernels, biases, x = drawn(3, 4, 2, 3, 3), drawn(3, 4), drawn(1, 2, 5, 5)
    kernel, bias = branches.add(*zip(kernels, biases, strict=True))
    close(F.conv2d(x, kernel, bias), sum(F.conv2d(x, k, b) for k, b in zip(kernels, biases, strict=True)))
    alone = branches.add((kernels[0], biases[0]))
    assert torch.equal(alone[0], kernels[0])


@settings(max_examples=60)
@given(reference.pairs(sizes=(1, 3, 5)), st.data())
def test_a_branch_is_the_large_convolution_with_zeros_around_its_kernel(
    pair: tuple[nn.Conv2d, nn.Module, Tensor], data: Any
) -> None:
    conv, bn, x = pair
    rows, columns = (data.draw(st.sampled_from(range(1, most + 1, 2))) for most in conv.kernel_size)
    branch = Branch(conv, bn, (rows, columns))
    reference.randomise(branch)
    naive = nn.Sequential(reference.centred(conv, branch.conv.weight), branch.bn).eval()
    expected = naive(x)
    close(branch.eval()(x if conv.padding_mode == "zeros" else branches.pad(x, conv)), expected)
    kernel, bias = branch.folded()
    assert kernel.shape == conv.weight.shape
    padded = branches.pad(x, conv)
    close(F.conv2d(padded, kernel, bias, conv.stride, 0, conv.dilation, conv.groups), expected)


@settings(max_examples=40)
@given(reference.pairs(sizes=(1, 3, 5)))
def test_padding_and_the_mean_over_windows_are_those_of_torchs_modules(
    pair: tuple[nn.Conv2d, nn.Module, Tensor],
) -> None:
    conv, _, x = pair
    padded = branches.pad(x, conv)
    assert torch.equal(padded, reference.padding(conv)(x))
    assert (padded is x) == (branches.padding_of(conv) == (0, 0))
    pooled = branches.average_pool(padded, conv.kernel_size, conv.stride, conv.dilation)
    close(pooled, reference.WindowMean(conv)(padded))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(2, 2, 3), None),
        (nn.Conv2d(2, 2, (1, 7)), None),
        (nn.Conv2d(2, 2, (3, 4)), "its kernel of 3x4 has no centre"),
        (nn.Conv1d(2, 2, 3), "it is a Conv1d, and only a plain Conv2d becomes a block of branches"),
        (nn.Linear(2, 2), "it is a Linear, and only a plain Conv2d becomes a block of branches"),
        (type("Own", (nn.Conv2d,), {})(2, 2, 3), "it is a Own, and only a plain Conv2d becomes a block of branches"),
    ],
)
def test_what_can_become_a_block(layer: nn.Module, reason: str | None) -> None:
    assert branches.refusal(layer) == reason


def test_small_kernels_are_below_seven() -> None:
    assert [branches.is_small(nn.Conv2d(1, 1, size)) for size in (5, 6, 7, (1, 7), (7, 1))] == [
        *(True, True, False, False, False)
    ]


def test_batch_norms_are_of_the_kind_of_the_one_that_was_there() -> None:
    for bn in (nn.BatchNorm2d(3, 1e-2, None, affine=False), nn.SyncBatchNorm(3, 1e-2, 0.3).double()):
        made = branches.new_batch_norm(bn, 5)
        assert type(made) is type(bn)
        assert (made.num_features, made.eps, made.momentum, made.affine) == (5, 1e-2, bn.momentum, bn.affine)
        assert made.running_mean.dtype == bn.running_mean.dtype
        last = branches.last_batch_norm(bn)
        assert last.num_features == 3
        if bn.affine:
            nn.init.zeros_(bn.weight)
            assert last.weight.all(), "a copy"
            assert not branches.last_batch_norm(bn).weight.any(), "zero where that is zero"
