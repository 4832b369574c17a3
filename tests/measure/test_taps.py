"""What is seen behind layers, against the same modules called by hand; networks are as they were."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
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


class Behind(nn.Module):
    """A convolution, and a function of what it gives."""

    def __init__(self, function: Callable[[Tensor], Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.function = layer or nn.Conv2d(3, 5, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


MAXIMUM = torch.zeros(())


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.clamp_min(0),
        lambda y: y.clamp_min_(0),
        lambda y: y.clip(min=0),
        lambda y: torch.maximum(y, MAXIMUM),
        lambda y: torch.max(torch.zeros_like(y), y),
        *(torch.tanh_, torch.selu_, torch.celu_, torch.relu_, torch.Tensor.sigmoid_, torch.sigmoid),
        *(nn.Softplus(), nn.Hardsigmoid(), nn.Softsign(), nn.Softshrink(), nn.Hardshrink(), nn.Tanhshrink()),
        *(nn.LogSigmoid(), nn.Sigmoid(), nn.ELU(inplace=True), nn.Hardtanh(inplace=True), nn.Threshold(0.1, 0)),
        lambda y: F.softplus(y.permute(0, 2, 3, 1)).movedim(-1, 1),
        lambda y: y.clone().double().relu(),
    ],
)
@torch.no_grad()
def test_activation_functions_in_every_spelling(function: Any) -> None:
    model, images = Behind(function), torch.randn(2, 3, 4, 6)
    expected, given = model(images), model.layer(images)
    assert not torch.equal(expected, given)
    torch.testing.assert_close(seen(model, "after-relu", images, ("layer",))["layer"], [expected])
    torch.testing.assert_close(seen(model, "after-bn", images, ("layer",))["layer"], [given])


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y * torch.tanh(F.softplus(y)),
        lambda y: y * F.hardsigmoid(y),
        lambda y: y.sigmoid().mul_(y),
        lambda y: y.mul_(y.sigmoid()),
        lambda y: torch.multiply(torch.tanh(y), other=y),
        lambda y: torch.maximum(y, y.flip(1)),
        lambda y: y.max(),
        lambda y: y.clamp(min=torch.zeros(3, 1, 1, 1, 1)),
    ],
)
@torch.no_grad()
def test_a_part_of_an_activation_function_by_hand_is_none(function: Any) -> None:
    model, images = Behind(function), torch.randn(2, 3, 4, 6)
    given = model.layer(images)
    torch.testing.assert_close(seen(model, "after-relu", images, ("layer",))["layer"], [given])


@torch.no_grad()
def test_a_gate_of_something_else_is_the_activation_function_of_its_layer() -> None:
    for gate in (torch.sigmoid, torch.sigmoid_):  # squeeze and excitation
        model, images = Behind(gate), torch.randn(2, 3, 4, 6)  # type: ignore[arg-type]
        whole = Behind(lambda y, images=images: y * images[:, :1], model)
        torch.testing.assert_close(
            seen(whole, "after-relu", images, ("layer.layer",))["layer.layer"], [model(images)]
        )


class Native(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return torch.native_layer_norm(y, (5, 4, 6), None, None, 1e-5)[0]


def normalised(y: Tensor) -> Tensor:
    return F.layer_norm(y.movedim(1, -1), (5,)).movedim(-1, 1)


class ByHand(nn.Module):
    """A layer norm of channels as ConvNeXt's authors wrote it."""

    def forward(self, y: Tensor) -> Tensor:
        return (y - y.mean(1, keepdim=True)) / (y.var(1, keepdim=True, correction=0) + 1e-5).sqrt()


class LayerNormByHand(ByHand):
    pass


@pytest.mark.parametrize(
    "function",
    [
        normalised,
        lambda y: F.layer_norm(y.permute(0, 2, 3, 1), (5,)),
        lambda y: torch.layer_norm(y.permute(0, 2, 3, 1).contiguous(), (5,)).permute(0, 3, 1, 2),
        lambda y: F.layer_norm(y.transpose(1, 2).swapaxes(2, 3), (5,)),
        lambda y: F.layer_norm(torch.permute(y.float(), (0, 3, 2, 1)), (5,)).to(y.dtype),
        LayerNormByHand(),
    ],
)
@pytest.mark.parametrize("where", ["after-bn", "after-relu"])
@torch.no_grad()
def test_layer_norms_behind_permutations_come_in_the_layout_of_the_layer(function: Any, where: Where) -> None:
    model, images = Behind(lambda y: function(y).relu_()), torch.randn(2, 3, 4, 6)
    model.inside = function if isinstance(function, nn.Module) else nn.Identity()
    expected = ByHand()(model.layer(images))
    expected = expected.relu() if where == "after-relu" else expected
    (found,) = seen(model, where, images, ("layer",))["layer"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", [nn.RMSNorm((5, 4, 6)), Native(), nn.LayerNorm((5, 4, 6)), nn.GroupNorm(1, 5)])
@torch.no_grad()
def test_norms_of_whole_maps(function: Any) -> None:
    model, images = Behind(function), torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(seen(model, "after-bn", images, ("layer",))["layer"], [model(images)])


@torch.no_grad()
def test_of_linear_layers_channels_come_second_behind_a_layer_norm() -> None:
    model, images = Behind(nn.LayerNorm(5), nn.Linear(3, 5)), torch.randn(2, 4, 6, 3)
    torch.testing.assert_close(seen(model, "after-bn", images, ("layer",))["layer"], [model(images).movedim(-1, 1)])


@torch.no_grad()
def test_what_was_written_into_before_a_norm_reads_it_is_another_value() -> None:
    def before(y: Tensor) -> Tensor:
        permuted = y.permute(0, 2, 3, 1)
        y += 1
        return F.layer_norm(permuted, (5,))

    def after(y: Tensor) -> Tensor:
        y += 1
        return F.layer_norm(y.permute(0, 2, 3, 1), (5,))

    for function in (before, after):
        model, images = Behind(function), torch.randn(2, 3, 4, 6)
        torch.testing.assert_close(seen(model, "after-bn", images, ("layer",))["layer"], [model.layer(images)])


@pytest.mark.parametrize("name", ["convnext_atto", "convnext_tiny"])
@torch.no_grad()
def test_layer_norms_of_convnext(name: str) -> None:
    timm = pytest.importorskip("timm")
    options: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20)}
    model, images = timm.create_model(name, **options), torch.randn(2, 3, 64, 64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    layers = ["stem.0", "stages.1.blocks.0.conv_dw"]
    found = seen(model, "after-bn", images, layers)
    expected: dict[str, Tensor] = {}
    model.eval().stem[1].register_forward_hook(lambda m, a, out: expected.update({layers[0]: out}))
    model.stages[1].blocks[0].norm.register_forward_hook(lambda m, a, out: expected.update({layers[1]: out}))
    model(images)
    if expected[layers[1]].shape[1] != 12:
        expected[layers[1]] = expected[layers[1]].movedim(-1, 1)
    for layer in layers:
        torch.testing.assert_close(found[layer], [expected[layer]])


def test_lazy_and_scripted_layers_are_refused_and_nothing_stays() -> None:
    images = torch.randn(2, 3, 4, 4)
    lazy = nn.Sequential(nn.Conv2d(3, 2, 1), nn.LazyBatchNorm2d())
    said = "layer '1' cannot be measured: it is lazy and has no shape yet (run one forward pass first)"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        seen(lazy, "conv", images, ("0",))
    assert isinstance(lazy[1], nn.LazyBatchNorm2d)
    lazy(images)
    plain = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted, traced = torch.jit.script(plain), torch.jit.trace(plain, images)
        part = torch.jit.script(nn.ReLU())
    for model in (scripted, traced):
        with pytest.raises(ValueError, match=r"^layer '0' cannot be measured: it is scripted or traced by torch"):
            seen(model, "conv", images, ("0",))
    mixed = nn.Sequential(plain[0], part)  # in which nothing is seen
    assert torch.equal(seen(mixed, "after-relu", images, ("0",))["0"][0], plain[0](images))


def test_images_take_the_type_of_the_network() -> None:
    images = torch.randn(2, 3, 4, 4)
    for given in (torch.float64, torch.float16):
        for dtype in (torch.bfloat16, torch.float32):
            (found,) = seen(nn.Sequential(nn.Conv2d(3, 2, 1)).to(dtype), "conv", images.to(given), ("0",))["0"]
            assert found.dtype == dtype
