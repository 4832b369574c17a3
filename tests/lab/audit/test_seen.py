"""What is drawn of filters, against the measures one by one."""

from __future__ import annotations

import pytest
import torch
from reference import audits
from reference.running import digits
from torch import nn

from filtersmith import measure, zoo
from filtersmith.lab.audit import seen as module
from filtersmith.lab.audit.images import images_for
from filtersmith.lab.audit.responses import maps_of
from filtersmith.lab.audit.seen import excited, sight


def test_a_test_image_what_the_first_layer_makes_of_it_and_what_excites_filters() -> None:
    found, images = audits.whole(), images_for(digits(), audits.FACTS, 60)
    assert found.sight is not None
    batch = next(iter(images.batches(8)))[0]
    expected = measure.feature_maps(found.target.network, "conv1", batch)
    torch.testing.assert_close(found.sight.maps, expected.maps[0])
    mean, std = images.mean[0], images.std[0]
    torch.testing.assert_close(found.sight.image, batch[0] * std + mean)
    one = found.exciting[0]
    assert one.images.shape == (9, 1, 8, 8)
    dead = set(found.maps["conv1"].constant)
    assert one.filters == tuple(f for f in range(16) if f not in dead)[:9]
    network, normal = found.target.network, (one.images - mean) / std
    excited = measure.activations(network, ["conv1"], normal, "after-relu")["conv1"].mean(2)
    usual = measure.activations(network, ["conv1"], batch, "after-relu")["conv1"].mean((0, 2))
    better = [float(excited[k, f]) > float(usual[f]) for k, f in enumerate(one.filters)]
    assert sum(better) >= 6, "more than digits do, for most: noise does not"


def test_large_images_have_maps_alone_and_maps_that_are_no_pictures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_for(digits(), audits.FACTS, 20)
    network = zoo.build("vanilla-1-4", 10, 1, image_size=8).eval()
    maps = maps_of(network, {"features.0": 4}, images.batches())
    monkeypatch.setattr(module, "LARGEST", 7)
    assert sight(network, list(maps), images) is not None
    said = "What excites filters is not drawn: 8 pixels a side are more than 7."
    assert excited(network, list(maps), images) == ([], said)
    monkeypatch.setattr(module, "LARGEST", 8)
    monkeypatch.setattr(module, "_seconds", lambda network, images: 1.0)
    assert excited(network, list(maps), images) == (
        [],
        "What excites filters is not drawn: it would take 10 minutes.",
    )
    flat = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (1, 64)), nn.Conv1d(1, 3, 3)).eval()
    assert sight(flat, ["2"], images) is None


def test_the_other_network_makes_maps_of_the_same_image() -> None:
    found = audits.whole()
    assert found.against is not None
    assert found.against.sight is not None
    assert found.sight is not None
    torch.testing.assert_close(found.against.sight.image, found.sight.image)
    assert not torch.equal(found.against.sight.maps, found.sight.maps)


def test_layers_of_one_kernel_are_all_drawn_and_otherwise_some_spread_over_the_network() -> None:
    images = images_for(digits(), audits.FACTS, 20)
    network = nn.Sequential(nn.Conv2d(1, 4, 1), *(nn.Conv2d(4, 4, 1) for _ in range(8)))
    layers = [str(number) for number in range(9)]
    assert excited(network, layers, images)[0] == ["0", "4", "8"]
    network[3].weight = network[1].weight
    network[7].weight = network[1].weight
    network[5].weight = network[4].weight
    assert excited(network, layers, images)[0] == ["1", "3", "7"]
