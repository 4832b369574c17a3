"""Parameters and multiply-adds against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from filtersmith import zoo
from filtersmith.zoo import cost
from filtersmith.zoo.info import Task


@pytest.mark.parametrize(
    ("name", "arguments", "image_size", "expected"),
    [
        # 3x3 on every one of 32 * 32 positions, then one linear layer on all of them
        ("vanilla-2-32", (10, 3), 32, 1024 * (27 * 32 + 288 * 32) + 10 * 32 * 1024),
        # 28 -> 28 -> 14 -> 10 -> 5 pixels
        ("lenet5", (10, 1), 28, 784 * 6 * 25 + 100 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10),
        # strides halve the positions; parameter-free shortcuts
        (
            "resnet8",
            (100, 1),
            32,
            1024 * (9 * 16 + 2 * 144 * 16) + 256 * (144 * 32 + 288 * 32) + 64 * (288 * 64 + 576 * 64) + 6400,
        ),
        # projections of 1x1
        (
            "preresnet8",
            (10, 3),
            5,  # -> 5, 3, 2
            25 * (27 * 16 + 2 * 144 * 16)
            + 9 * (144 * 32 + 288 * 32 + 16 * 32)
            + 4 * (288 * 64 + 576 * 64 + 32 * 64)
            + 640,
        ),
        # every layer reads all that stands before it
        ("densenet-5-12", (10, 3), 32, 1024 * (27 * 16 + 9 * 12 * (16 + 28 + 40)) + 520),
    ],
)
def test_multiply_adds(name: str, arguments: tuple[int, int], image_size: int, expected: int) -> None:
    before = torch.get_rng_state()
    assert zoo.multiply_adds(name, *arguments, image_size=image_size) == expected
    assert torch.equal(torch.get_rng_state(), before)
    task = Task(*arguments, image_size)
    assert zoo.costs(name, task) == (zoo.parameter_count(name, *arguments, image_size=image_size), expected)


def test_groups_count_their_own_channels_only() -> None:
    dense, grouped = (zoo.multiply_adds(f"resnext29-{name}") for name in ("1x8d", "4x2d"))
    # 3x3 of width 8, 16, 32: a quarter of the inputs; the first block of a stage has its stride there
    inner = 9 * (3 * 8 * 8 * 1024 + 3 * 16 * 16 * 256 + 3 * 32 * 32 * 64)
    assert dense - grouped == inner * 3 // 4


class Quarrelsome(nn.Module):
    """Attention, a tied weight, and a value of a tensor that decides how often it is used."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.one = nn.Linear(side, side, bias=False)
        self.two = nn.Linear(side, side, bias=False)
        self.two.weight = self.one.weight
        self.norm = nn.BatchNorm2d(3)
        self.times = nn.Parameter(torch.full((), 3.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        for _ in range(int(self.times.item())):
            x = self.two(self.one(x))
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_a_network_that_looks_at_values_is_counted_for_real() -> None:
    side, seen = 8, []

    def make() -> nn.Module:
        network = Quarrelsome(side)
        seen.append(next(network.parameters()).device.type)
        return network

    counted = cost.measure(make, lambda network: cost.multiply_adds(network, "it", Task(image_size=side)))
    assert counted == 3 * (3 * 2 * side**3) + 3 * 2 * side**3
    assert seen == ["meta", "cpu"]
    assert cost.measure(make, cost.parameters) == side * side + 6 + 1


def test_an_image_that_the_network_does_not_take() -> None:
    with pytest.raises(ValueError, match="image_size must be at least 29 for alexnet, got 28"):
        zoo.multiply_adds("alexnet", image_size=28)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(ValueError, match=r"^image_size must be one that flat takes \(.*\), got 3$") as error:
        cost.multiply_adds(network, "flat", Task(image_size=3))
    assert "\n" not in str(error.value)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="unknown network 'nonet'"):
        zoo.multiply_adds("nonet")
    with pytest.raises(ValueError, match="num_classes must be a whole number"):
        zoo.multiply_adds("resnet8", 0)


# Published: 11.69 M and 1.81 G for ResNet-18 on ImageNet; 138.36 M and 15.47 G for VGG-16.
@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("torchvision:resnet18", 11_689_512, 1_814_073_344),
        ("torchvision:vgg16", 138_357_544, 15_470_264_320),
        ("torchvision:vit_b_16", 86_567_656, 17_563_828_224),  # with attention
    ],
)
def test_networks_of_other_libraries(name: str, parameters: int, multiply_adds: int) -> None:
    pytest.importorskip("torchvision")
    assert zoo.costs(name, Task(1000, image_size=224)) == (parameters, multiply_adds)
