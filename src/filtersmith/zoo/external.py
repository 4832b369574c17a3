"""Classification networks of timm and torchvision by name, randomly initialised, fitted to small images.

Those networks are made for images of 224 pixels: on 32 pixels the stem alone, a convolution and a pooling of
stride 2 each, leaves 8x8. ``fit_stem`` takes that reduction away, as is usual for CIFAR.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from types import ModuleType

import torch
from torch import nn

from filtersmith.zoo.info import Task, not_installed

# The deepest stems (ResNet-D, Inception) have three convolutions in front of their pooling; a pooling behind
# more of them belongs to the body.
_DEEPEST_STEM = 3


def build_timm(match: re.Match[str], task: Task) -> nn.Module:
    """``timm:NAME``; ValueError for a name that timm does not have."""
    name = match["name"]
    timm = _library("timm")
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models(), "timm.list_models()")
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=task.num_classes, in_chans=task.in_channels
        )
    except RuntimeError as error:
        if "pretrained tag" not in str(error):
            raise
        raise ValueError(f"unknown timm network {name!r}: {error}") from None
    if getattr(model, "num_classes", task.num_classes) != task.num_classes:
        raise ValueError(f"timm network {name!r} is an encoder; a classification network is needed")
    if task.small_images:
        # timm says where its networks begin; several convolutions where they run side by side.
        first = getattr(model, "default_cfg", {}).get("first_conv") or ()
        fit_stem(model, (first,) if isinstance(first, str) else tuple(first))
    return model


def build_torchvision(match: re.Match[str], task: Task) -> nn.Module:
    """``torchvision:NAME``; ValueError for a name that is not among its classification networks."""
    name = match["name"]
    models = _library("torchvision").models
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known, "torchvision.models.list_models(module=torchvision.models)")
    # These two return a tuple in training mode unless their auxiliary classifiers are left out.
    plain = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = models.get_model(name, weights=None, num_classes=task.num_classes, **plain)
    if task.in_channels != 3:
        conv = _submodule(model, _first_conv(model) or "")
        assert isinstance(conv, nn.Conv2d)  # every one of its classification networks has one
        _redraw(conv, task.in_channels, conv.kernel_size)
    if task.small_images:
        fit_stem(model)
    return model


def fit_stem(model: nn.Module, first: tuple[str, ...] = ()) -> None:
    """Fits, in place, the stem of ``model`` to small images.

    The first convolution gets stride 1 and, unless it is 1x1, a 3x3 kernel with padding 1; filters and bias
    stay. The max pooling between it and the first block goes. A network whose first convolution has stride 1
    (VGG), or cuts the image into a fixed number of patches (ViT), is left as it is. A network made for one
    image size (CoAtNet) takes images smaller by the strides that went.

    Args:
        model: the network.
        first: names of the modules that are its first convolutions, several if they run side by side; by
            default the first one in the order of registration.
    """
    paths = [path for path in first or [_first_conv(model)] if path is not None]
    convs = {path: conv for path in paths if isinstance(conv := _submodule(model, path), nn.Conv2d)}
    if all(max(conv.stride) == 1 for conv in convs.values()) or any(_cuts_patches(model, path) for path in convs):
        return
    for conv in convs.values():
        side = 1 if max(conv.kernel_size) == 1 else 3
        conv.stride, conv.padding, conv.dilation = (1, 1), (side // 2, side // 2), (1, 1)
        conv._reversed_padding_repeated_twice = [side // 2] * 4
        if conv.kernel_size != (side, side):
            _redraw(conv, conv.in_channels, (side, side))
    _remove_stem_pooling(model, next(iter(convs)))


def _redraw(conv: nn.Conv2d, in_channels: int, kernel: tuple[int, ...]) -> None:
    """Gives ``conv`` new weights for other input channels or another kernel size; the bias stays.

    It is changed in place because subclasses (weight standardisation) have a forward pass of their own. The
    new weights are normal, scaled so that the variance of the output stays what the network's own
    initialisation made it.
    """
    old = conv.weight
    conv.in_channels, conv.kernel_size = in_channels, (kernel[0], kernel[1])
    fresh = old.new_empty((conv.out_channels, in_channels // conv.groups, *kernel))
    shrunk = old[0].numel() / fresh[0].numel()
    with torch.no_grad():
        deviation = (old.square().mean() * shrunk).sqrt()
        conv.weight = nn.Parameter(torch.randn_like(fresh) * deviation)
    if isinstance(getattr(conv, "scale", None), float):
        # timm's ScaledStdConv2d keeps 1 / sqrt(fan in) from when it was made.
        conv.scale = conv.scale * shrunk**0.5


def _first_conv(model: nn.Module) -> str | None:
    """Name of the first convolution in the order of registration; torchvision registers in running order."""
    return next((name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), None)


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _around(model: nn.Module, path: str) -> list[str]:
    """Names of the modules that contain the module ``path``, the network itself ("") first."""
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts))]


def _cuts_patches(model: nn.Module, path: str) -> bool:
    """Whether a module around ``path`` counts patches, so that another stride would change their number."""
    return any(hasattr(model.get_submodule(name), "patch_size") for name in _around(model, path))


def _remove_stem_pooling(model: nn.Module, first: str) -> None:
    """Replaces the max pooling that follows the convolution ``first`` outside of any block, if there is one.

    Outside of a block means: beside ``first`` or beside a module that contains it. Poolings inside later
    modules run beside a convolution (Inception) or a shortcut (Hiera) and have to keep their shape.
    """
    outside = _around(model, first)
    convs, begun = 0, False
    for name, module in model.named_modules():
        begun = begun or name == first
        if begun and isinstance(module, nn.Conv2d):
            convs += 1
        if convs > _DEEPEST_STEM:
            return
        parent, _, child = name.rpartition(".")
        if begun and parent in outside and _is_pooling(module):
            setattr(model.get_submodule(parent), child, nn.Identity())
            return


def _is_pooling(module: nn.Module) -> bool:
    """Whether ``module`` is a max pooling that halves, possibly as maximum and then blur (timm's BlurNets)."""
    if isinstance(module, nn.Sequential) and len(module):
        return isinstance(module[0], nn.MaxPool2d) and not any(isinstance(m, nn.Conv2d) for m in module.modules())
    return isinstance(module, nn.MaxPool2d) and module.stride not in (1, (1, 1))


def _library(name: str) -> ModuleType:
    """The optional library ``name``; ValueError that names the extra when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(not_installed(name)) from None


def _unknown(library: str, name: str, known: Iterable[str], listing: str) -> ValueError:
    """The error for an unknown name of a library; its lists are too long to be printed."""
    close = difflib.get_close_matches(name, list(known), n=3)
    hint = f"did you mean {' or '.join(repr(found) for found in close)}?" if close else "nothing is near it"
    return ValueError(f"unknown {library} classification network {name!r} ({hint}); {listing} lists them all")
