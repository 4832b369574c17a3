"""What filters are worth."""

from __future__ import annotations

import pytest
import torch
from reference.running import digits

import filtersmith as fs
from filtersmith import zoo
from filtersmith.lab.audit.images import images_for
from filtersmith.lab.audit.oracle import worth_of


def test_drops_accuracy_and_agreement_are_those_of_the_single_measures() -> None:
    torch.manual_seed(0)
    network = zoo.build("vanilla-1-4", 10, 1, image_size=8).eval()
    images = images_for(digits(), {}, 60)
    found = worth_of(network, images.batches())
    drops = fs.rank(network, "oracle", data=list(images.batches()))
    assert found.images == 60
    assert {name: one.tolist() for name, one in found.drops.items()} == {n: one.tolist() for n, one in drops.items()}
    with torch.no_grad():
        right = sum(int((network(x).argmax(1) == y).sum()) for x, y in images.batches())
    assert found.accuracy == right / 60
    assert found.agreement["l1"] == pytest.approx(fs.measure.oracle_correlation(fs.rank(network, "l1"), drops))
    name = next(iter(drops))
    assert found.cheap(name) == sum(float(d) < 0.005 for d in drops[name]) / len(drops[name])
    assert found.layers[name].counts == fs.measure.oracle_histogram(drops)[name].counts
