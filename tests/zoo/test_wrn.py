"""Wide ResNet: sizes, wiring, dropout, start, images and names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from reference import zoo_checks
from reference.networks import wrn
from torch import Tensor, nn

from filtersmith import zoo
from filtersmith.zoo.wrn import WideResNet


@pytest.mark.parametrize(
    ("name", "for_ten", "for_hundred"),
    [
        ("wrn-16-8", 10_961_370, 11_007_540),
        ("wrn-28-2", 1_467_610, 1_479_220),
        ("wrn-28-5", 9_132_634, 9_161_524),
        ("wrn-28-10", 36_479_194, 36_536_884),
    ],
)
def test_sizes(name: str, for_ten: int, for_hundred: int) -> None:
    zoo_checks.sizes(name, for_ten, for_hundred)


@pytest.mark.parametrize(("name", "side"), [("wrn-10-1", 13), ("wrn-16-2", 16)])
def test_wiring(name: str, side: int) -> None:
    zoo_checks.wiring(name, side, wrn)


def test_projections_stand_where_the_channels_change() -> None:
    assert zoo_checks.projections(WideResNet(16, 1)) == ["layer2.0.projection", "layer3.0.projection"]
    assert zoo_checks.projections(WideResNet(16, 2)) == [f"layer{n}.0.projection" for n in (1, 2, 3)]


@torch.no_grad()
def test_drops_activations_right_before_the_second_convolution() -> None:
    block = WideResNet(10, 2, dropout=1.0).layer1[0]
    nn.init.ones_(block.bn2.bias)  # a dropout before it would leave ones
    inputs: list[Tensor] = []
    block.conv2.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    x = torch.randn(4, 16, 8, 8)
    torch.testing.assert_close(block(x), block.projection(F.relu(block.bn1(x))))
    block.eval()(x)
    assert [bool(maps.any()) for maps in inputs] == [False, True]
    assert {m.p for m in zoo.build("wrn-16-1").modules() if isinstance(m, nn.Dropout)} == {0.3}


def test_starts_as_its_authors_say() -> None:
    torch.manual_seed(0)
    model = WideResNet(10, 4)
    for conv in (model.layer1[0].conv1, model.layer2[0].conv2, model.layer3[0].projection):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert not model.fc.bias.any()


def test_images() -> None:
    zoo_checks.images("wrn-10-1", (1, 4, 9, 33), channels=(1, 3))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrn-27-2", "wrn depth must be 6n+4 and at least 10 (10, 16, 22, 28, ...), got 27"),
        ("wrn-4-2", "wrn depth must be 6n+4 and at least 10"),
        ("wrn-0-2", "wrn depth must be 6n+4 and at least 10"),
        ("wrn-28-0", "wrn width must be a whole number of at least 1, got 0"),
        ("wrn-28", "unknown network 'wrn-28' (did you mean 'wrn-28-"),
        ("wrn-028-2", "did you mean 'wrn-28-2'?"),
        ("WRN-28-10", "did you mean 'wrn-28-10'?"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    zoo_checks.bad_name(name, message)
