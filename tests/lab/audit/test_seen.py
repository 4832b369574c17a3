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
from filtersmith.lab.audit.seen import seen


def test_a_test_image_what_the_first_layer_makes_of_it_and_what_excites_filters() -> None:
    found, images = audits.whole(), images_for(digits(), audits.FACTS, 60)
    assert found.seen is not None
    batch = next(iter(images.batches(8)))[0]
    expected = measure.feature_maps(found.target.network, "conv1", batch)
    torch.testing.assert_close(found.seen.maps, expected.maps[0])
    mean, std = images.mean[0], images.std[0]
    torch.testing.assert_close(found.seen.image, batch[0] * std + mean)
    one = found.seen.exciting[0]
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
    found = seen(network, maps, images)
    assert found is not None
    assert found.exciting == ()
    flat = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (1, 64)), nn.Conv1d(1, 3, 3)).eval()
    assert seen(flat, maps_of(flat, {"2": 3}, images.batches()), images) is None
