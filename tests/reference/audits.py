"""Small audits: of a network with faults that were planted, on digits."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from filtersmith.lab.audit.audit import Audit, audit
from filtersmith.lab.audit.images import images_for
from filtersmith.lab.audit.target import Target, open_target

from .running import digits

FACTS = {"num_classes": 10, "in_channels": 1, "image_size": 8}


def planted() -> Target:
    """A network as if it were trained: three filters are dead, three are copies, one layer is nearly of rank 1."""
    target = open_target("resnet8", data=FACTS)
    network: nn.Module = target.drawn(5)
    with torch.no_grad():
        weight = network.get_submodule("layer1.0.conv1").weight
        weight[1:4] = 0
        weight[5], weight[6] = weight[4], -weight[4]
        weight = network.get_submodule("layer3.0.conv2").weight
        weight.copy_(weight[:1] + 0.1 * weight)
    return Target("planted", network, "of a test", target.drawn, target.facts)


@cache
def whole() -> Audit:
    """With images, the Oracle, and another network."""
    target = planted()
    other = open_target("resnet8", data=FACTS)
    images = images_for(digits(), target.facts, 60)
    return audit(target, images, against=(other, images), oracle=20)


@cache
def weights_alone() -> Audit:
    return audit(planted(), None)


def broken() -> Audit:
    """With filters that are not finite."""
    target = planted()
    target.network.get_submodule("conv1").weight.data[3] = torch.nan
    target.network.get_submodule("layer2.0.conv1").weight.data[:2] = torch.inf
    return audit(target, images_for(digits(), target.facts, 60))
