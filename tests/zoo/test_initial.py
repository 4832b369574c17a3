"""He's start of convolutions, and what it leaves alone."""

from __future__ import annotations

import torch
from reference import zoo_checks
from torch import nn

from filtersmith.zoo.initial import he_fan_out


def test_convolutions_are_drawn_anew_and_nothing_else() -> None:
    network = nn.Sequential(nn.Conv2d(8, 64, 3), nn.Conv2d(64, 96, 3, groups=4), nn.BatchNorm2d(96), nn.Linear(4, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    he_fan_out(network)
    for conv in (network[0], network[1]):
        zoo_checks.starts_as_he_says(conv)
        assert abs(conv.weight.mean()) < 0.01
    kept = {name for name, value in network.state_dict().items() if torch.equal(value, before[name])}
    assert before.keys() - kept == {"0.weight", "1.weight"}, "biases, too, stay as torch starts them"
