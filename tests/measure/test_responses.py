"""Activations against hooks on named modules, and that watching changes nothing of what a network computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import ranking as slow
from reference.nets import hooks_of
from reference.ranked_nets import Overwriting, Repeating, case
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from filtersmith.filters import filter_layers
from filtersmith.measure import responses
from filtersmith.measure.responses import watched

NETWORKS = ("net", "vanilla", "resnet", "wrn", "dense", "gated", "inverted", "overwriting", "deciding")

CRITERIA: dict[str, tuple[Callable[..., dict[str, Tensor]], Callable[..., dict[str, Tensor]]]] = {
    "mean_activation": (responses.mean_activation, slow.activation),
    "share_of_zeros": (responses.share_of_zeros, lambda *a: {n: -x for n, x in slow.apoz(*a).items()}),
    "taylor": (lambda *a: responses.taylor(*a, cross_entropy), slow.taylor),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_criteria_are_the_slow_ones(criterion: str, name: str) -> None:
    some = case(name)
    data, (fast, naive) = some.data(batch=5, batches=2), CRITERIA[criterion]
    network = some.model.eval()
    found = fast(network, filter_layers(network, list(some.behind)), iter(data))
    expected = naive(network, some.behind, data)
    assert list(found) == list(some.behind)
    for layer, scores in expected.items():
        assert found[layer].dtype == torch.float64
        torch.testing.assert_close(found[layer], scores, rtol=1e-4, atol=1e-9, msg=lambda m, n=layer: f"{n}: {m}")


def test_gradients_are_those_of_the_rows() -> None:
    some = case("net")
    data = some.data(batches=2)
    groups = dict.fromkeys(("dense", "grouped", "depthwise", "one"), None) | {"up": 1, "grouped_up": 2}
    network = some.model.eval()
    network.up.weight.requires_grad_(False)  # type: ignore[union-attr, operator]
    found = responses.gradients(network, filter_layers(network, list(groups)), iter(data), cross_entropy)
    assert not network.up.weight.requires_grad  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in network.parameters())
    network.up.weight.requires_grad_(True)  # type: ignore[union-attr, operator]
    for layer, scores in slow.gradient(network, groups, data).items():
        torch.testing.assert_close(found[layer], scores, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_what_is_seen_is_what_hooks_see_and_the_output_stays(name: str) -> None:
    some = case(name)
    network, images = some.model.eval(), torch.randn(3, 3, some.size, some.size)
    expected, maps = network(images), {n: slow._maps(network, images, m) for n, m in some.behind.items()}
    optimizer = torch.optim.SGD(network.parameters())
    hooks, forwards = hooks_of(network, optimizer), [vars(m).get("forward") for m in network.modules()]
    seen: list[tuple[str, Tensor]] = []

    def see(layer: str, z: Tensor) -> Tensor:
        seen.append((layer, z.clone()))
        return z

    with watched(network, filter_layers(network, list(some.behind)), see):
        assert torch.equal(network(images), expected)
    network(images)  # nobody looks any more
    assert sorted(layer for layer, _ in seen) == sorted(some.behind), "each once"
    for layer, z in seen:
        assert torch.equal(z, maps[layer]), layer
    assert hooks_of(network, optimizer) == hooks
    assert [vars(m).get("forward") for m in network.modules()] == forwards


def test_a_layer_that_is_called_twice_is_watched_at_its_own_output() -> None:
    network, images = Repeating().eval(), torch.randn(3, 3, 6, 6)
    maps: list[Tensor] = []
    handle = network.b.register_forward_hook(lambda m, a, out: maps.append(out.detach()))
    network(images)
    handle.remove()
    found = responses.mean_activation(network, filter_layers(network, ["b"]), iter([(images, None)]))
    torch.testing.assert_close(found["b"], torch.cat(maps).abs().double().mean((0, 2, 3)))
    assert len(maps) == 2


@torch.no_grad()
def test_what_see_returns_goes_on() -> None:
    network, images = case("resnet").model.eval(), torch.randn(2, 3, 8, 8)
    layers = filter_layers(network, ["layer1.0.conv1"])
    with watched(network, layers, lambda layer, z: z.zero_()):
        found = network(images)
    network.layer1[0].bn1.register_forward_hook(lambda m, a, out: torch.zeros_like(out))  # type: ignore[index]
    assert torch.equal(found, network(images))


def test_an_error_of_the_network_ends_the_watch() -> None:
    for network in (Overwriting().eval(), case("deciding").model.eval()):
        forwards = [vars(m).get("forward") for m in network.modules()]
        optimizer = torch.optim.SGD(network.parameters())
        with pytest.raises(RuntimeError), watched(network, filter_layers(network), lambda layer, z: z):
            network(torch.randn(1, 2, 6, 6))
        assert hooks_of(network, optimizer) == 0
        assert [vars(m).get("forward") for m in network.modules()] == forwards


class Shuffling(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(super().forward(input), 2)


def test_a_layer_whose_filters_have_no_channel_each_is_named() -> None:
    network = nn.Sequential(Shuffling(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    data = [(torch.randn(2, 3, 6, 6), torch.tensor([0, 1]))]
    for criterion in ("mean_activation", "share_of_zeros", "taylor"):
        with pytest.raises(
            ValueError, match=r"^layer '0' .* gives the shape \(2, 2, 8, 8\), .* its 8 filters; leave"
        ):
            CRITERIA[criterion][0](network, filter_layers(network), iter(data))


class Lazy(nn.Module):
    """A layer that evaluation leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.aux = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return ((self.a(x) + self.aux(x)) if self.training else self.a(x)).mean((2, 3))


def test_a_layer_that_is_not_called_and_a_loss_that_is_none_are_named() -> None:
    network, data = Lazy().eval(), [(torch.randn(2, 3, 6, 6), torch.tensor([0, 1]))]
    layers = filter_layers(network)
    for criterion in ("mean_activation", "share_of_zeros", "taylor"):
        with pytest.raises(ValueError, match=r"^layer 'aux' is not called in evaluation mode, .* with layers=$"):
            CRITERIA[criterion][0](network, layers, iter(data))
    # Its gradient is 0.
    assert not responses.gradients(network, layers, iter(data), cross_entropy)["aux"].any()
    wrong: Any
    for wrong in (lambda y, t: y.sum().item(), lambda y, t: y, lambda y, t: y.sum().detach()):
        for measure in (responses.taylor, responses.gradients):
            with pytest.raises(ValueError, match=r"^loss must return one number that can be differentiated"):
                measure(network, layers[:1], iter(data), wrong)
