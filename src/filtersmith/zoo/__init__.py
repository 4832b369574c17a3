"""Networks by name: the papers' own, and those of timm and torchvision.

``build("resnet20", num_classes=100)`` makes one; ``MODELS`` has a record for each family. A family is one
file with a ``build(match, task)`` and one record here. Only torch is imported; timm and torchvision are when
one of their networks is asked for.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from filtersmith.errors import unknown_name
from filtersmith.zoo import alexnet, cifar_quick, external, lenet, resnet, vanilla, vgg, wrn
from filtersmith.zoo.info import NUMBER, ModelInfo, Task

__all__ = ["MODELS", "ModelInfo", "build", "names", "parameter_count"]

MODELS: tuple[ModelInfo, ...] = (
    ModelInfo(
        pattern="vanilla-N-X",
        regex=f"vanilla(?:-(?P<layers>{NUMBER})-(?P<width>{NUMBER}))?",
        names=("vanilla", "vanilla-8-32", "vanilla-13-32", "vanilla-18-32"),
        input="image_size",
        paper="Prakash et al., RePr, CVPR 2019",
        summary="C^N(X): N convolutions of X filters, no pooling; vanilla is C^3(32)",
        build=vanilla.build,
    ),
    ModelInfo(
        pattern="resnetD",
        regex=f"resnet(?P<depth>{NUMBER})",
        names=("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
        input="any size from 4 pixels",
        paper="He et al., Deep Residual Learning, CVPR 2016",
        summary="CIFAR ResNet of depth D = 6n+2, basic blocks, parameter-free shortcuts",
        build=resnet.build,
    ),
    ModelInfo(
        pattern="alexnet",
        regex="alexnet",
        names=("alexnet",),
        input="image_size, from 29 pixels",
        paper="Krizhevsky et al., NeurIPS 2012, in WAU's layout for CIFAR",
        summary="five convolutions with biases, three poolings, no batch norm",
        build=alexnet.build,
    ),
    ModelInfo(
        pattern="cifar-quick",
        regex="cifar-quick",
        names=("cifar-quick",),
        input="image_size, from 15 pixels",
        paper="Henig and Giryes, KFLO, arXiv 2207.05532",
        summary="three 5x5 convolutions with batch norm, two linear layers",
        build=cifar_quick.build,
    ),
    ModelInfo(
        pattern="vgg16-kflo",
        regex="vgg16-kflo",
        names=("vgg16-kflo",),
        input="any size from 32 pixels",
        paper="Henig and Giryes, KFLO, arXiv 2207.05532",
        summary="VGG-16 with batch norm, global average, two linear layers",
        build=vgg.build,
    ),
    ModelInfo(
        pattern="wrn-D-K",
        regex=f"wrn-(?P<depth>{NUMBER})-(?P<width>{NUMBER})",
        names=("wrn-16-8", "wrn-28-2", "wrn-28-5", "wrn-28-10"),
        input="any size",
        paper="Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016",
        summary="wide ResNet of depth D = 6n+4, K times as wide, dropout 0.3",
        build=wrn.build,
    ),
    ModelInfo(
        pattern="lenet5",
        regex="lenet5",
        names=("lenet5",),
        input="image_size, from 12 pixels",
        paper="LeCun et al., Proceedings of the IEEE 1998",
        summary="two convolutions, three linear layers, with max pooling and ReLU",
        build=lenet.build,
    ),
    ModelInfo(
        pattern="timm:NAME",
        regex="timm:(?P<name>.*)",
        names=(),
        input="what the network takes",
        paper="timm",
        summary="any network of timm, untrained; small_images fits its stem",
        build=external.build_timm,
    ),
    ModelInfo(
        pattern="torchvision:NAME",
        regex="torchvision:(?P<name>.*)",
        names=(),
        input="what the network takes",
        paper="torchvision",
        summary="any classification network of torchvision, untrained; small_images fits its stem",
        build=external.build_torchvision,
    ),
)


def names() -> list[str]:
    """The listed names in the order of ``MODELS``; patterns such as ``vanilla-N-X`` make many more."""
    return [name for info in MODELS for name in info.names]


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
        name: ``vanilla``, ``vanilla-N-X``, ``resnetD``, ``alexnet``, ``cifar-quick``, ``vgg16-kflo``,
            ``wrn-D-K``, ``lenet5``, ``timm:NAME`` or ``torchvision:NAME``.
        num_classes: outputs.
        in_channels: channels of the images.
        image_size: height = width of the images in pixels. Only vanilla, alexnet, cifar-quick and lenet5,
            whose linear layer depends on it, and vgg16-kflo, which takes no less than 32, look at it.
        small_images: fits the stem of a timm or torchvision network to small images: first convolution 3x3
            with stride 1, no max pooling before the first block. Networks without such a stem (VGG, ViT)
            stay as they are, and so do our own, which are made for small images.

    Raises:
        ValueError: an unknown name, a depth or number that does not exist, an image too small, a library
            that is not installed.
    """
    task = Task(num_classes, in_channels, image_size, small_images)
    for info in MODELS:
        match = re.fullmatch(info.regex, str(name))
        if match:
            return info.build(match, task)
    patterns = [info.pattern for info in MODELS if info.pattern not in info.names]
    raise unknown_name("network", name, names() + patterns)


def parameter_count(
    name: str,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: int = 32,
    small_images: bool = False,
) -> int:
    """Number of parameters of ``build(...)`` with the same arguments; leaves torch's generator alone."""

    def make() -> nn.Module:
        return build(name, num_classes, in_channels, image_size=image_size, small_images=small_images)

    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):  # no memory, no time
                model = make()
        except NotImplementedError:  # RegNet computes its widths with tensors
            model = make()
    return sum(parameter.numel() for parameter in model.parameters())
