"""The feature maps of a layer for some images, scaled to be drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from filtersmith.common.options import bad_option, whole_number
from filtersmith.measure.taps import Where, tapped

CONSTANT = 1e-3
"""A map whose standard deviation is below this counts as constant."""


class NotMapsError(ValueError):
    """A layer gives something else than a picture of each image in each channel."""


@dataclass(frozen=True)
class FeatureMaps:
    """What some channels of a layer give for some images.

    Attributes:
        maps: ``(images, channels, H, W)``, float32 in [0, 1]: each channel scaled by its own lowest and highest value
            over all the images; a channel of one value is 0. On the CPU.
        low: the lowest value of each channel, which is 0 in ``maps``: ``(channels,)``, float32.
        high: the highest, which is 1.
        constant: the share of maps, one for each image and channel, whose standard deviation before scaling is below
            1e-3.
    """

    maps: Tensor
    low: Tensor
    high: Tensor
    constant: float


def feature_maps(
    model: nn.Module,
    layer: str,
    images: Tensor,
    *,
    where: Where = "after-bn",
    channels: Iterable[int] | None = None,
) -> FeatureMaps:
    """The maps of a layer, each channel scaled by its own lowest and highest value over the images.

    So the images of one channel can be compared with each other, and two channels cannot: ``low`` and ``high`` say
    what black and white are.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        >>> found = fs.measure.feature_maps(model, "0", torch.randn(4, 3, 10, 10), channels=[0, 5])
        >>> found.maps.shape, found.constant
        (torch.Size([4, 2, 8, 8]), 0.0)

    Args:
        model: the network; it runs in evaluation mode and is left as it was.
        layer: the name of one whose output is ``(images, channels, H, W)``. Of one that is called several times, the
            maps of the first call are taken.
        images: ``(images, ...)`` as the network takes them, in one batch; floating ones get its type.
        where: ``"after-bn"`` (default): behind the norm that reads the layer's output, where one does;
            ``"after-relu"``: also behind the activation function there; ``"conv"``: what the layer itself gives.
        channels: which, from 0; default: all.

    Returns:
        The maps, what they were scaled by, and the share of almost constant ones.

    Raises:
        ValueError: an unknown layer, one that is not called or gives no such maps, a channel that it does not have,
            images that the network cannot take, values that are not finite. `maps.NotMapsError`, which is one, says
            that what the layer gives is no picture.

    Source: *Weight Asynchronous Update*, Fig. 1, https://doi.org/10.1007/s41095-020-0185-5
    """
    if not isinstance(images, Tensor) or not images.ndim or not len(images):
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise bad_option("images", found, "a tensor of at least one image")
    wanted = None if channels is None else indices("channels", channels)
    kept: list[Tensor] = []

    def see(name: str, values: Tensor) -> None:
        if kept:
            return
        if values.ndim != 4 or len(values) != len(images) or not values.numel():
            what = f"the output of layer {name!r}"
            raise NotMapsError(str(bad_option(what, tuple(values.shape), "maps (images, channels, H, W)")))
        if wanted is not None:
            among("channels", wanted, values.shape[1], name)
            values = values[:, wanted]
        kept.append(values.to("cpu", copy=True))

    with tapped(model, [layer], where, see) as run:
        run(images)
    return _scaled(layer, kept[0].double(), wanted)


def indices(option: str, value: Any) -> list[int]:
    """The value of an option as a list of whole numbers from 0; else, or if it is empty, the error for ``option``."""
    given = value.tolist() if isinstance(value, Tensor) else value
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise bad_option(option, value, "a sequence of whole numbers")
    found = [whole_number(option, one, 0) for one in given]
    if not found:
        raise bad_option(option, found, "at least one whole number")
    return found


def among(option: str, numbers: Iterable[int], count: int, layer: str) -> None:
    """``ValueError`` unless all are numbers of a layer's channels, of which there are ``count``."""
    for one in numbers:
        if one >= count:
            raise bad_option(option, one, f"below {count}, the number of channels of layer {layer!r}")


def _scaled(layer: str, values: Tensor, channels: list[int] | None) -> FeatureMaps:
    finite = values.isfinite().all(3).all(2).all(0)
    if not finite.all():
        first = int(finite.logical_not().nonzero()[0])
        raise ValueError(
            f"layer {layer!r}: channel {first if channels is None else channels[first]} has values that are not "
            "finite, and cannot be drawn"
        )
    low, high = values.amin((0, 2, 3)), values.amax((0, 2, 3))
    spread = torch.where(high > low, high - low, 1)[:, None, None]
    constant = values.std((2, 3), correction=0) < CONSTANT
    maps = (values - low[:, None, None]) / spread
    return FeatureMaps(maps.float(), low.float(), high.float(), float(constant.double().mean()))
