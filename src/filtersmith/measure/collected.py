"""The activations of layers on all data, as tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.common.options import bad_option, layer_names, whole_number
from filtersmith.common.said import warn_user
from filtersmith.measure.kernels import convolutions, listed
from filtersmith.measure.passes import images_of
from filtersmith.measure.taps import Run, Where, tapped


def activations(
    model: nn.Module,
    layers: Iterable[str] | None,
    batches: Iterable[Any],
    where: Where = "after-bn",
    *,
    pool: int | None = None,
    channel_axis: int | None = None,
) -> dict[str, Tensor]:
    """What layers give on all images: of any network that runs, whether torch.fx can trace it or not.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        >>> fs.measure.activations(model, ["0"], [torch.randn(5, 3, 6, 6)])["0"].shape
        torch.Size([5, 8, 16])

    Args:
        model: the network; it runs in evaluation mode and is left as it was.
        layers: names of convolutions, linear layers or other modules; ``None``: all convolutions that it calls, and
            a warning names the others.
        batches: of images, or ``(images, labels)``; images of one size, floating ones of any type.
        where: ``"after-bn"`` (default): behind the norm that reads a layer's output, where one does;
            ``"after-relu"``: also behind the activation function right there; ``"conv"``: what the layer gives. What
            runs inside of a scripted module is not seen.
        pool: maps are averaged down to at most so many pixels a side; default: not at all. All values of a layer
            take 4 bytes times samples, channels and positions.
        channel_axis: which dimension of what a layer gives has the channels. It is known of convolutions, linear
            layers, norms, and whatever gives ``(N, C)``; of other modules it is 1 in a network without layer norms.
            In one with them (transformers, ConvNeXt) it has to be said: -1 of a block that gives tokens.

    Returns:
        Layer name -> ``(samples, channels, positions)``, or ``(samples, channels)`` where there are no positions;
        float32 (float64 of such a network), on the CPU. Where a layer is called several times for an image, the
        positions of its calls stand one behind another.

    Raises:
        ValueError: an option out of range, an unknown layer, one that is not called or sees other than each whole
            image by itself, one whose channels' dimension is not known, empty data, images that the network cannot
            take or of several sizes.

    Source: own work; the place behind the norm is that of *WAU*, Fig. 3, https://doi.org/10.1007/s41095-020-0185-5
    """
    size = None if pool is None else whole_number("pool", pool, 1)
    if channel_axis is not None and (isinstance(channel_axis, bool) or not isinstance(channel_axis, int)):
        raise bad_option("channel_axis", channel_axis, "None or a whole number")
    names = convolutions(model) if layers is None else layer_names(layers)
    found = _Found(names, size)
    with tapped(model, names, where, found.see, every=layers is not None, channel_axis=channel_axis) as run:
        for images in images_of(batches, run.device):
            found.take(run, images)
    if never := found.never:
        if len(never) == len(names):
            raise ValueError("no convolution is called as a module: name the layers that are meant with layers=")
        warn_user(f"{listed(never)}: not called as a module on these images, and left out")
    return {name: _joined(name, each) for name, each in found.values.items() if each}


class _Found:
    """What layers give, batch by batch."""

    def __init__(self, names: Iterable[str], size: int | None) -> None:
        self.values: dict[str, list[Tensor]] = {name: [] for name in names}
        self._calls: dict[str, list[Tensor]] = {}
        self._size, self._images = size, 0

    @property
    def never(self) -> list[str]:
        """The layers that no images came to."""
        return [name for name, each in self.values.items() if not each]

    def take(self, run: Run, images: Tensor) -> None:
        self._images = len(images)
        self._calls.clear()
        run(images)
        for name, each in self._calls.items():
            several = [one if one.ndim > 2 else one.unsqueeze(2) for one in each]
            self.values[name].append(each[0] if len(each) == 1 else torch.cat(several, 2))

    def see(self, name: str, values: Tensor) -> None:
        if len(values) != self._images:
            raise ValueError(
                f"layer {name!r} gives {tuple(values.shape)} in one call for {self._images} images, and not one for "
                "each: leave it out with layers="
            )
        values = values.detach()
        values = values if values.dtype == torch.float64 else values.float()
        if self._size is not None and values.ndim > 2:
            values = pooled(values, self._size)
        kept = values.flatten(2) if values.ndim > 2 else values
        self._calls.setdefault(name, []).append(kept.to("cpu", copy=True))


def pooled(values: Tensor, size: int) -> Tensor:
    """Maps ``(samples, channels, *positions)`` averaged down to at most ``size`` positions a side."""
    sides = tuple(min(side, size) for side in values.shape[2:])
    if sides == tuple(values.shape[2:]):
        return values
    pools = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
    return pools[len(sides)](values, sides)  # type: ignore[arg-type]


def _joined(name: str, each: list[Tensor]) -> Tensor:
    shapes = {tuple(one.shape[1:]) for one in each}
    if len(shapes) > 1:
        raise ValueError(
            f"layer {name!r} gives maps of several sizes, {' and '.join(map(str, sorted(shapes)))}: take images of "
            "one size, or pool=1"
        )
    return torch.cat(each)
