"""Detectors of half a thin ResNet-18 with a narrow head and few regions: a step takes little time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from reference import thin


def half(weights: None = None, norm_layer: Any = None) -> torch.nn.Module:
    from torchvision.models import resnet

    return resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], norm_layer=norm_layer)


def use(change: Callable[[Any, str, Any], None] = setattr) -> None:
    """From now on ``fasterrcnn-resnet18-fpn`` is such a one; ``change`` may be that of a monkeypatch."""
    from torchvision.models import resnet

    from filtersmith.lab.tasks.detection import network

    thin.use(change)
    change(resnet, "resnet18", half)
    change(network, "_width", lambda *arguments: 32)
    change(network, "build", partial(network.build, regions=32))
