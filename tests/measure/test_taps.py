"""What is seen behind layers, against the same modules called by hand; networks are as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.measure.taps import Where, tapped


class Block(nn.Module):
    """A residual block that adds in place, with what networks do behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.two, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.GroupNorm(1, 3)
        self.three = nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU(inplace=True)
        for norm in (self.bn, self.norm):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        nn.init.normal_(self.bn.running_mean)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn(self.one(x)))
        y = self.norm(self.two(y))
        y += x
        y = F.relu(y, inplace=True)
        if y.sum() > 1e9:  # which torch.fx cannot trace
            return y
        return self.three(y).relu_()


def by_hand(block: Block, x: Tensor) -> dict[Where, dict[str, Tensor]]:
    one = block.one(x)
    behind = block.bn(one)
    two = block.two(behind.relu())
    added = (block.norm(two) + x).relu()
    three = block.three(added)
    return {
        "conv": {"one": one, "two": two, "three": three},
        "after-bn": {"one": behind, "two": block.norm(two), "three": three},
        "after-relu": {"one": behind.relu(), "two": block.norm(two), "three": three.relu()},
    }


def seen(
    model: nn.Module, where: Any, images: Tensor, layers: Any = ("one", "two", "three")
) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    with tapped(model, layers, where, lambda name, z: found.setdefault(name, []).append(z.clone())) as run:
        run(images)
    return found


@pytest.mark.parametrize("where", ["conv", "after-bn", "after-relu"])
@torch.no_grad()
def test_at_each_place_what_modules_give_by_hand(where: Where) -> None:
    block, images = Block(), torch.randn(4, 3, 5, 5)
    state = {name: value.clone() for name, value in block.state_dict().items()}
    found = seen(torch.compile(block), where, images)  # type: ignore[arg-type]
    assert block.training
    assert all(torch.equal(value, state[name]) for name, value in block.state_dict().items())
    assert not any(module._forward_hooks for module in block.modules())
    for name, expected in by_hand(block.eval(), images)[where].items():
        (one,) = found[name]
        torch.testing.assert_close(one, expected, msg=lambda m, n=name: f"{n}: {m}")


class FrozenBatchNorm(nn.Module):
    """As torchvision's detectors have it: by hand."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 + 1


@torch.no_grad()
def test_norms_of_other_libraries() -> None:
    act = pytest.importorskip("timm.layers").BatchNormAct2d
    model = nn.Sequential(nn.Conv2d(3, 4, 1), act(4), nn.Conv2d(4, 4, 1), FrozenBatchNorm())
    images = torch.randn(2, 3, 4, 4)
    model[1].bias.fill_(-0.5)
    found = seen(model, "after-bn", images, ("0", "2"))
    model.eval()
    first = model[0](images)
    normed = F.batch_norm(
        first, model[1].running_mean, model[1].running_var, model[1].weight, model[1].bias, eps=1e-5
    )
    torch.testing.assert_close(found["0"][0], normed)
    assert (normed < 0).any()
    torch.testing.assert_close(found["2"][0], 2 * model[2](normed.relu()) + 1)


@torch.no_grad()
def test_a_layer_of_several_calls_is_seen_at_each_where_that_call_goes() -> None:
    conv, bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    model = nn.Sequential(conv, bn, nn.ReLU(), conv)
    images = torch.randn(2, 3, 4, 4)
    found = seen(model, "after-relu", images, ("0",))["0"]
    model.eval()
    torch.testing.assert_close(found, [model[:3](images), model(images)])


@torch.no_grad()
def test_two_can_watch_the_same_network() -> None:
    block, images = Block(), torch.randn(4, 3, 5, 5)
    found: dict[Where, list[Tensor]] = {"conv": [], "after-relu": []}
    with (
        tapped(block, ["one"], "conv", lambda _, z: found["conv"].append(z.clone())) as first,
        tapped(block, ["one"], "after-relu", lambda _, z: found["after-relu"].append(z.clone())) as second,
    ):
        for run in (first, second, first):
            run(images)
    expected = by_hand(block.eval(), images)
    torch.testing.assert_close(found["conv"], [expected["conv"]["one"]] * 2)
    torch.testing.assert_close(found["after-relu"], [expected["after-relu"]["one"]])


@torch.no_grad()
def test_channels_come_second_also_where_they_stand_last() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.GELU())
    images = torch.randn(2, 4, 4, 3)
    found = seen(model, "after-relu", images, ("0",))["0"][0]
    torch.testing.assert_close(found, model(images).movedim(-1, 1))


def test_what_cannot_be_seen_is_refused_in_one_line_and_nothing_stays() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.never, self.pair = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1), nn.LSTM(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.pair(x.mean((2, 3)))
            return self.conv(x).relu()

    model, images = Odd(), torch.randn(2, 3, 4, 4)
    for layers, where, given, said in (
        (["conv"], "after-relus", images, "where must be 'conv' or 'after-bn' or 'after-relu', got 'after-relus'"),
        (["con"], "conv", images, r"unknown layer 'con' \(did you mean 'conv'\?\)"),
        (["never"], "conv", images, "layer 'never' is not called in evaluation mode"),
        (["pair"], "conv", images, "layer 'pair' gives tuple, and no channels"),
        (["conv"], "conv", torch.randn(2, 5, 4, 4), r"Odd cannot take images \(2, 5, 4, 4\): "),
    ):
        with pytest.raises(ValueError, match=said) as error:
            seen(model, where, given, layers)
        assert "\n" not in str(error.value)
        assert model.training
        assert not any(module._forward_hooks for module in model.modules())


@torch.no_grad()
def test_sigmoid_by_hand_is_a_part_of_the_activation_function() -> None:
    class Swish(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y * torch.sigmoid(y)

    model, images = Swish(), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(seen(model, "after-relu", images, ("conv",))["conv"][0], model.conv(images))


def test_other_ways_through_a_network_are_refused_and_layers_without_a_call_may_be_left_out() -> None:
    class Dynamic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.never = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2 if x.abs().max() > 10 else 1):
                x = self.bn(self.conv(x))
            return x

    model, images = Dynamic(), torch.randn(4, 3, 4, 4)
    with tapped(model, ["conv", "never"], "after-bn", lambda name, z: None, every=False) as run:
        run(images)
        images[3] = 100
        with pytest.raises(ValueError, match="layer 'conv' cannot be followed: other images take another way"):
            run(images)
