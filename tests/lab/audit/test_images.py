"""The images of an audit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from reference.running import digits

from filtersmith.lab.audit import images as module
from filtersmith.lab.audit.images import images_for


def test_the_same_images_each_time_spread_over_the_set_as_the_network_knows_them() -> None:
    data = digits()
    facts = {"in_channels": 1, "mean": [0.25], "std": [0.5]}
    found = images_for(data, facts, 100)
    once, again = (list(found.batches()) for _ in range(2))
    assert sum(len(labels) for _, labels in once) == 100
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(once, again, strict=True))
    assert len(torch.cat([labels for _, labels in once]).unique()) == data.num_classes
    values = torch.cat([images for images, _ in once]) * 0.5 + 0.25
    assert 0 <= float(values.min()) < float(values.max()) <= 1 + 1e-6
    assert sum(len(labels) for _, labels in found.batches(7)) == 7
    assert images_for(data, {}, 10**6).count == len(data.test)


def test_large_images_come_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    found = images_for(digits(), {}, 50)
    monkeypatch.setattr(module, "PIXELS", 8 * 8 * 20)
    assert [len(labels) for _, labels in found.batches()] == [20, 20, 10]


def test_images_of_other_channels_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="data must be of 3 channels, which the network takes, got 'digits with 1'"):
        images_for(digits(), {"in_channels": 3}, 10)
    with pytest.raises(ValueError, match="images must be a whole number from 4 on, got 3"):
        images_for(dataclasses.replace(digits()), {}, 3)
