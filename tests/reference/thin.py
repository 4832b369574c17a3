"""torchvision's ResNets, VGG-16 and pyramids of features with an eighth of their filters or so: the same layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def use(change: Callable[[Any, str, Any], None]) -> None:
    """From now on they are such; ``change`` is that of a monkeypatch."""
    from torchvision.models import resnet, vgg
    from torchvision.models.detection import backbone_utils

    class Thin(resnet.ResNet):  # type: ignore[misc, name-defined]
        def __init__(self, *arguments: Any, num_classes: int = 1000, **options: Any) -> None:
            super().__init__(*arguments, num_classes=1, **options)
            self.fc = nn.Linear(self.inplanes, num_classes)

        def _make_layer(self, block: Any, planes: int, *rest: Any, **more: Any) -> Any:
            return super()._make_layer(block, planes // 8, *rest, **more)

    def pyramid(*parts: Any, **options: Any) -> Any:
        return with_fpn(*parts[:3], 32, **options)

    with_fpn = backbone_utils.BackboneWithFPN
    change(resnet, "ResNet", Thin)
    change(backbone_utils, "BackboneWithFPN", pyramid)
    change(vgg, "cfgs", {**vgg.cfgs, "D": [n if n == "M" else n // 16 for n in vgg.cfgs["D"]]})
