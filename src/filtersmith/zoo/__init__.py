"""Networks by name: the papers' own, those of timm and torchvision, and those of a user's files and modules.

``build("resnet20", num_classes=100)`` makes one, ``from_pretrained(FOLDER)`` brings back a trained one; ``MODELS``
has a record for each family. Torch is imported when a network is asked for, timm and torchvision when it is one of
theirs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from filtersmith.common.options import unknown_name
from filtersmith.zoo.families import MODELS
from filtersmith.zoo.info import ModelInfo, Task

if TYPE_CHECKING:
    from torch import nn

    from filtersmith.zoo.pretrained import from_pretrained

__all__ = [
    "MODELS",
    "ModelInfo",
    "Task",
    "build",
    "costs",
    "from_pretrained",
    "multiply_adds",
    "names",
    "parameter_count",
]


if not TYPE_CHECKING:  # so that a mistyped name is an error to a type checker

    def __getattr__(name: str) -> Any:
        if name == "from_pretrained":  # which needs torch
            from filtersmith.zoo.pretrained import from_pretrained

            return from_pretrained
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def names() -> list[str]:
    """The listed names that need torch alone, in the order of ``MODELS``.

    Patterns such as ``vanilla-N-X`` make many more, and so do timm and torchvision.
    """
    return [name for info in MODELS if not info.library for name in info.names]


def build(
    name: str,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: int = 32,
    small_images: bool = False,
) -> nn.Module:
    """The network called ``name``, randomly initialised from torch's generator, in training mode.

    Takes images (batch, in_channels, image_size, image_size), gives logits (batch, num_classes).

    Args:
        name: ``vanilla[-N-X][-nobn][-dropout]``, ``resnetD[-b1|-b2|-noaffine]``, ``resnet18-cifar``,
            ``resnet34-cifar``, ``preresnetD``, ``alexnet``, ``vgg16-bn``, ``vgg19-bn``, ``vgg16-kflo``,
            ``cifar-quick``, ``wrn-D-K``,
            ``resnext29-CxWd``, ``densenet-D-K``, ``densenet-bc-D-K``,
            ``dacnnD[-mix][-reg][-nobn][-wX][-unshared]``, ``lenet5``, ``torchvision:NAME``, ``timm:NAME``,
            ``FILE.py:FUNCTION`` or ``PACKAGE.MODULE:FUNCTION``, with options in brackets.
        num_classes: outputs.
        in_channels: channels of the images.
        image_size: height = width of the images in pixels. Only vanilla, alexnet, cifar-quick and lenet5,
            whose linear layer depends on it, and the VGGs, DenseNets and DACNNs, which take no less than 32, 4 and
            4 to 32, look at it.
        small_images: fits the stem of a timm or torchvision network to small images: first convolution 3x3
            with stride 1, no max pooling before the first block. Networks without such a stem (VGG, ViT)
            stay as they are, and so do our own, which are made for small images.

    Raises:
        ValueError: an unknown name, a depth or number that does not exist, an image too small, a library
            that is not installed, a function that cannot be called or makes no network.
    """
    return _build(name, Task(num_classes, in_channels, image_size, small_images))


def parameter_count(
    name: str,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: int = 32,
    small_images: bool = False,
) -> int:
    """Number of parameters of ``build(...)`` with the same arguments; leaves torch's generator alone."""
    from filtersmith.zoo import cost

    task = Task(num_classes, in_channels, image_size, small_images)
    return cost.measure(lambda: _build(name, task), cost.parameters)


def multiply_adds(
    name: str,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: int = 32,
    small_images: bool = False,
) -> int:
    """Multiply-adds of one image through ``build(...)`` with the same arguments, in evaluation mode.

    Convolutions, linear layers and attention count, normalisation, activations and pooling do not. Leaves torch's
    generator alone. An image that a network of another library does not take raises ValueError, as ``build`` does.
    """
    from filtersmith.zoo import cost

    task = Task(num_classes, in_channels, image_size, small_images)
    return cost.measure(lambda: _build(name, task), lambda network: cost.multiply_adds(network, name, task))


def costs(name: str, task: Task) -> tuple[int, int]:
    """`parameter_count` and `multiply_adds` of one network for ``task``, which is made only once."""
    from filtersmith.zoo import cost

    def both(network: nn.Module) -> tuple[int, int]:
        return cost.parameters(network), cost.multiply_adds(network, name, task)

    return cost.measure(lambda: _build(name, task), both)


def _build(name: str, task: Task) -> nn.Module:
    for info in MODELS:
        match = re.fullmatch(info.regex, str(name))
        if match:
            network: nn.Module = info.build(match, task)
            return network
    # Patterns first: the list is cut where it is long.
    patterns = [info.pattern for info in MODELS]
    raise unknown_name("network", name, dict.fromkeys(patterns + names()))
