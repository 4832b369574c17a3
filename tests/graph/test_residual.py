"""Where residual branches and sections end: against what a network computes when the ends give nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.calls import Calls
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith import zoo
from filtersmith.graph.residual import Place, places
from filtersmith.graph.trace import parts


def found(network: nn.Module) -> tuple[dict[int, list[Place]], dict[str, str]]:
    (part,) = parts(network, training=False)
    return places(part)


def outputs_of(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What each module gave in a forward pass, in the order in which they were done."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda m, a, out, name=name: seen.update({name: out}))
        for name, module in network.named_modules()
    ]
    network(x)
    for handle in handles:
        handle.remove()
    return seen


BRANCHES = {"resnet14": 6, "preresnet14": 6, "wrn-10-2": 3, "resnet18-cifar": 8, "resnext29-2x2d": 9, "dacnn18-w4": 8}
"""A network -> its residual blocks."""


@pytest.mark.parametrize("name", [name for name in BRANCHES if name != "dacnn18-w4"])  # whose layers have one kernel
def test_without_the_ends_only_shortcuts_are_left(name: str) -> None:
    """With zeros in the place of what the ends give, no kernel of a branch has a part in the output; shortcuts do."""
    network = zoo.build(name).eval()
    sections, reasons = found(network)
    ends = [place.name for group in sections.values() for place in group]
    assert reasons == {}
    assert len(ends) == len(set(ends)) == BRANCHES[name]
    for end in ends:
        network.get_submodule(end).register_forward_hook(lambda m, a, out: torch.zeros_like(out))
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    blocks = [block for block in network.modules() if hasattr(block, "conv1") and hasattr(block, "conv2")]
    inside = {id(m) for block in blocks for m in block.children() if m is not getattr(block, "projection", None)}
    for module_name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            gradient = module.weight.grad
            assert (gradient is None or not gradient.any()) == (id(module) in inside), module_name


@pytest.mark.parametrize("name", [*BRANCHES, "vanilla-3-4", "vgg16-bn", "alexnet", "cifar-quick"])
def test_a_section_is_what_works_at_one_resolution(name: str) -> None:
    network = zoo.build(name).eval()
    sections, reasons = found(network)
    seen = outputs_of(network, torch.randn(1, 3, 32, 32))
    sizes = [{seen[place.name].shape[2:] for place in group} for group in sections.values()]
    assert all(len(of_one) == 1 for of_one in sizes)
    assert len({next(iter(of_one)) for of_one in sizes}) == len(sizes), "each resolution has one section"
    order = list(seen)
    firsts = [min(order.index(place.name) for place in group) for group in sections.values()]
    assert firsts == sorted(firsts)
    assert list(sections) == list(range(1, len(sections) + 1))
    for place in (place for group in sections.values() for place in group):
        assert (place.channels, place.dims) == (seen[place.name].shape[1], 2)
        assert any(place.like is parameter for parameter in network.parameters())
    if name not in BRANCHES:
        # The last convolution at each resolution, and no more than one.
        maps = [seen[n] for n in order if isinstance(network.get_submodule(n), nn.Conv2d)]
        assert [len(group) for group in sections.values()] == [1] * len({m.shape[2:] for m in maps})
        assert reasons == {}


def test_the_end_of_a_section_is_followed_through_its_norm_and_activation() -> None:
    network = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1), nn.GroupNorm(1, 5), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(5, 6, 3, padding=1), nn.Softmax(1), nn.Flatten()),
    )
    sections, _ = found(network)
    assert {number: [place.name for place in group] for number, group in sections.items()} == {1: ["4"], 2: ["6"]}
    assert [sections[1][0].like is network[2].weight, sections[2][0].like is network[6].weight] == [True, True]
    three = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2), nn.AdaptiveAvgPool3d(1))
    ((place,),) = found(three)[0].values()
    assert (place.name, place.channels, place.dims) == ("1", 2, 3)


def branch(end: Any, **parts: nn.Module) -> nn.Module:
    """The sum of a shortcut and of ``end(net, b(relu(a(x))))``."""
    convs = {name: nn.Conv2d(4, 4, 3, padding=1) for name in ("stem", "a", "b")}

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        return end(net, net.b(F.relu(net.a(x))), x)

    return Calls(forward, **convs, **parts)


def test_what_comes_behind_the_last_norm_or_convolution_of_a_branch_stays_behind_it() -> None:
    for end, parts_of in (
        (lambda net, y, x: y + x, {}),
        (lambda net, y, x: x + net.drop(y), {"drop": nn.Dropout2d()}),
        (lambda net, y, x: x + 0.1 * y, {}),
        (lambda net, y, x: x + y * net.gate(y.mean((2, 3), keepdim=True)).sigmoid(), {"gate": nn.Conv2d(4, 4, 1)}),
    ):
        sections, reasons = found(branch(end, **parts_of))
        assert ([[p.name for p in group] for group in sections.values()], reasons) == ([["b"]], {})
    ((place,),) = found(branch(lambda net, y, x: x + net.bn(y).relu(), bn=nn.BatchNorm2d(4)))[0].values()
    assert place.name == "bn"


@pytest.mark.parametrize(
    ("end", "parts_of", "reason"),
    [
        (lambda net, y, x: y + net.b(net.a(x)), {}, "its two branches have the same number of convolutions"),
        (lambda net, y, x: torch.cat([y, y], 1) + torch.cat([x, x], 1), {}, "its branch ends in cat"),
        (lambda net, y, x: y.softmax(1) + x, {}, "its branch ends in softmax"),
        (lambda net, y, x: net.b(y) + x, {}, "b is called more than once"),
        (
            lambda net, y, x: F.interpolate(net.down(y), scale_factor=2) + x,
            {"down": nn.Conv2d(4, 4, 2, 2)},
            "its branch changes the resolution behind its last convolution",
        ),
        (
            lambda net, y, x: F.max_pool2d(y, 2) + net.down(x),
            {"down": nn.MaxPool2d(2)},
            "its branch changes the resolution behind its last convolution",
        ),
        (lambda net, y, x: net.thin(y) + x.chunk(2, 1)[0], {"thin": nn.Conv2d(4, 2, 1)}, "its shortcut is a part of"),
    ],
)
def test_branches_without_an_end_are_told(end: Any, parts_of: dict[str, nn.Module], reason: str) -> None:
    sections, reasons = found(branch(end, **parts_of))
    assert sections == {}
    assert len(reasons) == 1
    assert next(iter(reasons.values())).startswith(reason)


def test_an_end_that_is_also_kept_in_a_plain_list_is_none() -> None:
    network = branch(lambda net, y, x: y + x)
    network.all = [network.b]  # type: ignore[assignment]
    assert list(found(network)[1].values()) == ["b is also kept in a plain list or attribute"]


def changes(y: Tensor, x: Tensor) -> Tensor:
    y += x
    return y


ENDS: dict[str, tuple[Any, bool | None]] = {
    "x + y": (lambda net, y, x: x + y, False),
    "torch.add(y, x)": (lambda net, y, x: torch.add(y, x), False),
    "y += x": (lambda net, y, x: changes(y, x), True),
    "y + x": (lambda net, y, x: y + x, True),  # to torch.fx the same
    "relu in place": (lambda net, y, x: net.act(y) + x, True),
    "relu": (lambda net, y, x: x + F.relu(y), False),
    "out=": (lambda net, y, x: x + torch.mul(y, 2, out=y), True),
    "a method in place": (lambda net, y, x: x + y.relu_(), True),
    "through what gives it back": (lambda net, y, x: x + net.same(y).relu_(), True),
    "through what may copy": (lambda net, y, x: x + y.contiguous().relu_(), True),
    "a product": (lambda net, y, x: x + y * torch.sigmoid(net.gate(y.mean((2, 3), keepdim=True))), True),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_is_written_into_is_known(name: str) -> None:
    """Torch counts what is written into a tensor; where it does, the place must say so."""
    end, expected = ENDS[name]
    network = branch(end, act=nn.ReLU(inplace=True), same=nn.Identity(), gate=nn.Conv2d(4, 4, 1))
    ((place,),) = found(network)[0].values()
    kept: list[tuple[Tensor, int]] = []
    network.get_submodule(place.name).register_forward_hook(lambda m, a, out: kept.append((out, out._version)))
    with torch.no_grad():
        network(torch.randn(2, 4, 5, 5))
    ((output, version),) = kept
    assert place.overwritten or output._version == version, "the worst is believed"
    assert place.overwritten == expected
