"""What an audit has, by what it is given."""

from __future__ import annotations

import torch
from reference import audits
from reference.running import digits

from filtersmith.lab.audit.audit import NULL_SEED, audit
from filtersmith.lab.audit.images import images_for
from filtersmith.lab.audit.target import open_target


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


def test_networks_with_nan_are_audited_by_weights_and_it_is_said() -> None:
    found = audits.broken()
    assert [(one.name, one.not_finite) for one in found.layers if one.not_finite] == [
        ("conv1", (3,)),
        ("layer2.0.conv1", (0, 1)),
    ]
    assert found.maps == {}
    assert found.notes == ("layer conv1 and 1 more has weights that are not finite: nothing is measured on images.",)
