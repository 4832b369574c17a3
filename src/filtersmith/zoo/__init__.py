"""Networks by name: the papers' own, and those of timm and torchvision.

``build("resnet20", num_classes=100)`` makes one; ``MODELS`` has a record for each family. A family is one
file with a ``build(match, task)`` and one record here. Only torch is imported; timm and torchvision are when
one of their networks is asked for.
"""

from __future__ import annotations

import re

from torch import nn

from filtersmith.common.options import unknown_name
from filtersmith.zoo import (
    alexnet,
    cifar_quick,
    cost,
    dacnn,
    densenet,
    external,
    lenet,
    preresnet,
    resnet,
    resnet18,
    resnext,
    vanilla,
    vgg,
    wrn,
)
from filtersmith.zoo.info import NUMBER, ModelInfo, Task

__all__ = ["MODELS", "ModelInfo", "Task", "build", "costs", "multiply_adds", "names", "parameter_count"]

MODELS: tuple[ModelInfo, ...] = (
    ModelInfo(
        pattern="vanilla-N-X",
        regex=f"vanilla(?:-(?P<layers>{NUMBER})-(?P<width>{NUMBER}))?",
        names=("vanilla-2-32", "vanilla", "vanilla-8-32", "vanilla-13-32", "vanilla-18-32"),
        input="square, of image_size pixels",
        paper="Prakash et al., RePr, CVPR 2019",
        summary="C^N(X): N convolutions of X filters, no pooling; vanilla is C^3(32)",
        build=vanilla.build,
        tables={
            "vanilla-2-32": "RePr Fig. 2",
            "vanilla": "RePr T1, T2, T4",
            "vanilla-8-32": "RePr T4",
            "vanilla-13-32": "RePr T4",
            "vanilla-18-32": "RePr T4",
        },
    ),
    ModelInfo(
        pattern="resnetD",
        regex=f"resnet(?P<depth>{NUMBER})",
        names=("resnet20", "resnet32", "resnet44", "resnet50", "resnet56", "resnet110", "resnet182"),
        input="any size from 4 pixels",
        paper="He et al., Deep Residual Learning, CVPR 2016",
        summary="CIFAR ResNet of depth D = 6n+2, basic blocks, parameter-free shortcuts",
        build=resnet.build,
        tables={
            "resnet20": "RePr T3, T4",
            "resnet32": "WAU T4, RePr T4",
            "resnet50": "WAU T1",
            "resnet110": "RePr T4",
            "resnet182": "RePr T4",
        },
    ),
    ModelInfo(
        pattern="resnetD-cifar",
        regex=f"resnet(?P<depth>{NUMBER})-cifar",
        names=("resnet18-cifar", "resnet34-cifar"),
        input="any size",
        paper="He et al., Deep Residual Learning, CVPR 2016, with a stem for small images",
        summary="ImageNet's ResNet of depth D = 18 or 34, its stem 3x3 without stride and pooling",
        build=resnet18.build,
        tables={"resnet18-cifar": "DACNN T3, T6, T7, T8", "resnet34-cifar": "DACNN T3, T6, T7"},
    ),
    ModelInfo(
        pattern="preresnetD",
        regex=f"preresnet(?P<depth>{NUMBER})",
        names=("preresnet110",),
        input="any size",
        paper="He et al., Identity Mappings in Deep Residual Networks, ECCV 2016",
        summary="pre-activated CIFAR ResNet of depth D = 6n+2, basic blocks, projections",
        build=preresnet.build,
        tables={"preresnet110": "WAU T1"},
    ),
    ModelInfo(
        pattern="alexnet",
        regex="alexnet",
        names=("alexnet",),
        input="square, of image_size pixels, from 29",
        paper="Krizhevsky et al., NeurIPS 2012, in WAU's layout for CIFAR",
        summary="five convolutions with biases, three poolings, no batch norm",
        build=alexnet.build,
        tables={"alexnet": "WAU T1, T6"},
    ),
    ModelInfo(
        pattern="vggD-bn",
        regex="vgg(?P<depth>16|19)-bn",
        names=("vgg16-bn", "vgg19-bn"),
        input="any size from 32 pixels",
        paper="Simonyan and Zisserman, ICLR 2015, with batch norm and one linear layer",
        summary="VGG of depth D = 16 or 19 with batch norm, global average, one linear layer",
        build=vgg.build_bn,
        tables={"vgg16-bn": "DACNN T3, T6", "vgg19-bn": "WAU T1"},
    ),
    ModelInfo(
        pattern="vgg16-kflo",
        regex="vgg16-kflo",
        names=("vgg16-kflo",),
        input="any size from 32 pixels",
        paper="Henig and Giryes, KFLO, arXiv 2207.05532",
        summary="VGG-16 with batch norm, global average, two linear layers",
        build=vgg.build_kflo,
        tables={"vgg16-kflo": "KFLO T1, T2"},
    ),
    ModelInfo(
        pattern="cifar-quick",
        regex="cifar-quick",
        names=("cifar-quick",),
        input="square, of image_size pixels, from 15",
        paper="Henig and Giryes, KFLO, arXiv 2207.05532",
        summary="three 5x5 convolutions with batch norm, two linear layers",
        build=cifar_quick.build,
        tables={"cifar-quick": "KFLO T1, T2"},
    ),
    ModelInfo(
        pattern="wrn-D-K",
        regex=f"wrn-(?P<depth>{NUMBER})-(?P<width>{NUMBER})",
        names=("wrn-16-8", "wrn-28-2", "wrn-28-5", "wrn-28-10"),
        input="any size",
        paper="Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016",
        summary="wide ResNet of depth D = 6n+4, K times as wide, dropout 0.3",
        build=wrn.build,
        tables={
            "wrn-16-8": "KFLO T1-T5",
            "wrn-28-2": "KFLO T1-T5",
            "wrn-28-5": "KFLO T1-T5",
            "wrn-28-10": "WAU T1, KFLO T1-T5",
        },
    ),
    ModelInfo(
        pattern="resnext29-CxWd",
        regex=f"resnext29-(?P<groups>{NUMBER})x(?P<width>{NUMBER})d",
        names=("resnext29-8x64d",),
        input="any size",
        paper="Xie et al., Aggregated Residual Transformations, CVPR 2017",
        summary="ResNeXt of depth 29, bottleneck blocks of C groups of W filters",
        build=resnext.build,
        tables={"resnext29-8x64d": "WAU T1"},
    ),
    ModelInfo(
        pattern="densenet-D-K",
        regex=f"densenet-(?P<depth>{NUMBER})-(?P<growth>{NUMBER})",
        names=("densenet-5-12", "densenet-40-12", "densenet-100-12"),
        input="any size from 4 pixels",
        paper="Huang et al., Densely Connected Convolutional Networks, CVPR 2017",
        summary="plain DenseNet of depth D = 3n+4, growth rate K; depth 5: our own layout, none is printed",
        build=densenet.build,
        tables={"densenet-5-12": "RePr T4", "densenet-40-12": "RePr T4", "densenet-100-12": "RePr T4"},
    ),
    ModelInfo(
        pattern="densenet-bc-D-K",
        regex=f"densenet-bc-(?P<depth>{NUMBER})-(?P<growth>{NUMBER})",
        names=("densenet-bc-40-12", "densenet-bc-100-12"),
        input="any size from 4 pixels",
        paper="Huang et al., Densely Connected Convolutional Networks, CVPR 2017",
        summary="DenseNet of depth D = 6n+4, growth rate K, with bottlenecks of 4K and compression 0.5",
        build=densenet.build_bc,
        tables={"densenet-bc-40-12": "WAU T1", "densenet-bc-100-12": "WAU T1"},
    ),
    ModelInfo(
        pattern="dacnnD[-mix][-reg][-nobn][-wX][-unshared]",
        regex=dacnn.REGEX,
        names=tuple(dacnn.TABLES),
        input="any size from 4 (3 layers), 16 or 32 pixels (14 layers)",
        paper="Huang et al., Deep Anchored CNN, CVPR Workshops 2019",
        summary="D layers, one kernel: -mix one for each width, -reg regulators (-reg3: section 3), -nobn no batch "
        "norm, -wX X channels, -unshared free kernels",
        build=dacnn.build,
        tables=dacnn.TABLES,
    ),
    ModelInfo(
        pattern="lenet5",
        regex="lenet5",
        names=("lenet5",),
        input="square, of image_size pixels, from 12",
        paper="LeCun et al., Proceedings of the IEEE 1998",
        summary="two convolutions, three linear layers, with max pooling and ReLU",
        build=lenet.build,
        tables={"lenet5": "KFLO Fig. 1"},
        listed_for=Task(in_channels=1, image_size=28),
    ),
    ModelInfo(
        pattern="torchvision:NAME",
        regex="torchvision:(?P<name>.*)",
        names=tuple(
            f"torchvision:{name}"
            for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16", "googlenet")
        ),
        input="what the network takes",
        paper="torchvision",
        summary="any classification network of torchvision, untrained; small_images fits its stem; googlenet is "
        "Inception v1, while Inception v2 (BN-Inception, RePr T5) is in neither torchvision nor timm",
        build=external.build_torchvision,
        tables={
            "torchvision:resnet18": "RePr T5",
            "torchvision:resnet34": "RePr T5",
            "torchvision:resnet50": "RePr T5, T7",
            "torchvision:resnet101": "RePr T5, T7",
            "torchvision:resnet152": "RePr T5",
            "torchvision:vgg16": "RePr T5",
            "torchvision:googlenet": "RePr T5",
        },
        listed_for=Task(num_classes=1000, image_size=224),
        library="torchvision",
    ),
    ModelInfo(
        pattern="timm:NAME",
        regex="timm:(?P<name>.*)",
        names=(),
        input="what the network takes",
        paper="timm",
        summary="any network of timm, untrained; small_images fits its stem",
        build=external.build_timm,
        library="timm",
    ),
)


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
        name: ``vanilla``, ``vanilla-N-X``, ``resnetD``, ``resnet18-cifar``, ``resnet34-cifar``, ``preresnetD``,
            ``alexnet``, ``vgg16-bn``, ``vgg19-bn``, ``vgg16-kflo``, ``cifar-quick``, ``wrn-D-K``,
            ``resnext29-CxWd``, ``densenet-D-K``, ``densenet-bc-D-K``,
            ``dacnnD[-mix][-reg][-nobn][-wX][-unshared]``, ``lenet5``, ``torchvision:NAME`` or ``timm:NAME``.
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
            that is not installed.
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
    task = Task(num_classes, in_channels, image_size, small_images)
    return cost.measure(lambda: _build(name, task), lambda network: cost.multiply_adds(network, name, task))


def costs(name: str, task: Task) -> tuple[int, int]:
    """`parameter_count` and `multiply_adds` of one network for ``task``, which is made only once."""

    def both(network: nn.Module) -> tuple[int, int]:
        return cost.parameters(network), cost.multiply_adds(network, name, task)

    return cost.measure(lambda: _build(name, task), both)


def _build(name: str, task: Task) -> nn.Module:
    for info in MODELS:
        match = re.fullmatch(info.regex, str(name))
        if match:
            return info.build(match, task)
    # Patterns first: the list is cut where it is long.
    patterns = [info.pattern for info in MODELS]
    raise unknown_name("network", name, dict.fromkeys(patterns + names()))
