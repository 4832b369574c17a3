"""What an audit has, by what it is given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from reference import audits
from reference.running import digits
from torch import Tensor, nn
from torch.nn import functional

from filtersmith.lab.audit.audit import NULL_SEED, audit, not_finite
from filtersmith.lab.audit.document import document
from filtersmith.lab.audit.images import images_for
from filtersmith.lab.audit.page import render
from filtersmith.lab.audit.target import Target, open_target
from filtersmith.lab.audit.verdict import verdict


def test_weights_alone() -> None:
    found = audits.weights_alone()
    assert (found.images, found.maps, found.against, found.worth) == (0, {}, None, None)
    assert {layer.name: found.dead(layer) for layer in found.layers}["layer1.0.conv1"] == (1, 2, 3)


def test_on_images_beside_the_random_network_and_another_one() -> None:
    found = audits.whole()
    names = [layer.name for layer in found.layers]
    assert list(found.maps) == list(found.random_maps) == names
    assert (found.images, found.data) == (60, "digits")
    assert found.against is not None
    assert found.against.title == "resnet8"
    assert found.against.similar == (names, names)
    assert [len(row) for row in found.against.cka] == [len(names)] * len(names)
    assert not torch.equal(found.against.maps["conv1"].correlation, found.random_maps["conv1"].correlation)
    assert found.worth is not None
    assert found.worth.images == 20
    layer = next(layer for layer in found.layers if layer.name == "layer1.0.conv1")
    assert {1, 2, 3} <= set(found.dead(layer)), "on the images there may be more"


def test_without_another_one_it_is_the_random_network() -> None:
    target = open_target("resnet8", data=audits.FACTS)
    told: list[tuple[str, int]] = []

    def progress(what: str, steps: int):  # type: ignore[no-untyped-def]
        told.append((what, steps))
        return lambda: None

    found = audit(target, images_for(digits(), target.facts, 300), progress=progress)
    assert found.against is not None
    assert found.against.title == "random weights"
    assert found.against.maps is found.random_maps
    assert not torch.equal(next(target.network.parameters()), next(target.drawn(NULL_SEED).parameters()))
    random = "maps of the random network"
    assert told == [("weights", 7), ("maps", 2), (random, 2), ("similarity", 7), ("pictures of filters", 3)]


def test_of_a_network_of_another_depth_the_layers_that_both_have_are_compared() -> None:
    target = open_target("resnet8", data=audits.FACTS)
    deeper = open_target("resnet14", data=audits.FACTS)
    images = images_for(digits(), target.facts, 60)
    found = audit(target, images, against=(deeper, images))
    assert found.against is not None
    assert list(found.against.canonical) == list(found.canonical), "all of them are in the deeper one"
    assert [len(side) for side in found.against.similar] == [7, 13]
    wider = open_target("wrn-10-2", data=audits.FACTS)
    found = audit(target, images, against=(wider, images))
    assert found.against is not None
    assert list(found.against.canonical) == ["conv1"], "others have as many filters in one alone"
    assert any(note.startswith("wrn-10-2 has no such layers 'layer1") for note in found.notes)


class Odd(nn.Module):
    """A network of which one convolution is not called, and one sees half of the images at a time."""

    def __init__(self, module: bool = True) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(c, 4, 3, padding=1) for c in (1, 4, 4))
        self.norm, self.module = nn.BatchNorm2d(4), module

    def forward(self, x: Tensor) -> Tensor:
        if not self.module:
            return functional.conv2d(x, self.first.weight).mean((2, 3))
        x = self.norm(self.first(x))
        if float(x.detach().abs().sum()) < 0:  # no graph can follow this
            x = -x
        x = functional.conv2d(x, self.second.weight)
        return torch.cat([self.third(half) for half in x.chunk(2)]).mean((2, 3))


def test_layers_that_cannot_be_seen_are_named() -> None:
    odd = Target("odd", Odd().eval(), "of a test", lambda seed: Odd().eval(), audits.FACTS)
    images = images_for(digits(), audits.FACTS, 60)
    found = audit(odd, images)
    assert list(found.maps) == ["first", "third"]
    assert [one.folded for one in found.maps.values()] == [False, True]
    assert list(found.canonical) == ["first"]
    norms, called, folded = found.notes
    assert norms.startswith(
        "Batch norms behind 3 layers were not looked at for dead filters, the first being first: "
    )
    assert called == "Not called on the images, so measured by weights alone: layer 'second'."
    assert folded == "Given parts of the images, so not compared with other layers: layer 'third'."
    unused = Target("odd", Odd(False).eval(), "of a test", lambda seed: Odd(False).eval(), audits.FACTS)
    found = audit(unused, images)
    assert found.maps == {}
    assert any(note.endswith("layers 'first', 'second', 'third'.") for note in found.notes)
    assert "Not called on the images" in render(found)


def test_values_that_are_not_finite_are_named_wherever_they_are() -> None:
    for name, value in (("fc.weight", torch.nan), ("bn1.running_var", torch.inf)):
        target = audits.planted()
        tensor = dict(target.network.named_parameters()) | dict(target.network.named_buffers())
        tensor[name].data.view(-1)[0] = value
        found = audit(target, images_for(digits(), target.facts, 60), oracle=20)
        assert (found.not_finite, found.maps, found.worth) == ((name,), {}, None)
        assert verdict(found).headline == f"Broken: {name} has values that are not finite."
    masked = nn.Sequential(nn.Conv2d(1, 4, 3))
    masked.register_buffer("mask", torch.tensor([-torch.inf]))
    assert not_finite(masked) == []


def test_filters_that_are_dead_in_the_random_network_too_are_no_sign_of_waste() -> None:
    timm = pytest.importorskip("timm")

    def drawn(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        network: nn.Module = timm.create_model("resnet18", in_chans=1, num_classes=10)
        return network.eval()  # the last batch norm of each block has a scale of 0

    found = audit(Target("zeros", drawn(0), "of a test", drawn, audits.FACTS), None)
    dead = [(len(found.dead(layer)), found.random_dead(layer)) for layer in found.layers]
    assert sum(own for own, _ in dead) > 1000
    assert all(own == null for own, null in dead)
    assert "dead" not in verdict(found).headline


def test_a_kernel_that_layers_share_counts_once() -> None:
    target = open_target("dacnn5", data={"num_classes": 10, "in_channels": 1, "image_size": 16})
    found = audit(replace(target, random=False), None)
    assert [layer.same_as for layer in found.layers] == ["", "", *["sections.0.0.conv"] * 3]
    assert any(ground.startswith("0 of 256 filters are dead") for ground in verdict(found).grounds)
    (shared,) = [note for note in found.notes if note.startswith("One kernel")]
    assert "that of sections.0.0.conv and layers 'sections.1.0.conv'" in shared


def test_the_share_of_the_weights_that_is_looked_at_is_said_where_it_is_small() -> None:
    def drawn(seed: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10)).eval()

    found = audit(Target("small", drawn(0), "of a test", drawn, audits.FACTS), None)
    assert any(note.startswith("1 convolution with 2% of the weights: other layers") for note in found.notes)
    assert not any("of the weights" in note for note in audits.weights_alone().notes)


def test_two_networks_are_compared_by_weights_alone_too() -> None:
    found = audit(audits.planted(), None, against=(open_target("resnet14", data=audits.FACTS), None))
    assert found.against is not None
    assert found.against.of is not None
    assert (found.against.title, len(found.against.of.layers), found.against.maps) == ("resnet14", 13, {})
    assert document(found)["against"]["audit"]["target"] == "resnet14"
    render(found)


def test_networks_with_nan_are_audited_by_weights_and_it_is_said() -> None:
    found = audits.broken()
    assert [(one.name, one.not_finite) for one in found.layers if one.not_finite] == [
        ("conv1", (3,)),
        ("layer2.0.conv1", (0, 1)),
    ]
    assert found.maps == {}
    assert found.notes == ("conv1.weight and 1 more tensor not finite: nothing is measured on images.",)
