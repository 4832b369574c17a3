"""The activations of layers on all data, as tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.common.options import layer_names, whole_number
from filtersmith.measure.kernels import convolutions
from filtersmith.measure.passes import images_of
from filtersmith.measure.taps import Where, tapped


def activations(
    model: nn.Module,
    layers: Iterable[str] | None,
    batches: Iterable[Any],
    where: Where = "after-bn",
    *,
    pool: int | None = None,
) -> dict[str, Tensor]:
    """What layers give on all images: of any network that runs, whether torch.fx can trace it or not.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        >>> fs.measure.activations(model, ["0"], [torch.randn(5, 3, 6, 6)])["0"].shape
        torch.Size([5, 8, 16])

    Args:
        model: the network; it runs in evaluation mode and is left as it was.
        layers: names of convolutions, linear layers or other modules; ``None``: all convolutions that it calls.
        batches: of images, or ``(images, labels)``; images of one size.
        where: ``"after-bn"`` (default): behind the norm that reads a layer's output, where one does;
            ``"after-relu"``: also behind the activation function right there; ``"conv"``: what the layer gives.
        pool: maps are averaged down to at most so many pixels a side; default: not at all. All values of a layer
            take 4 bytes times samples, channels and positions.

    Returns:
        Layer name -> ``(samples, channels, positions)``, or ``(samples, channels)`` where there are no positions;
        float32 (float64 of such a network), on the CPU. Where a layer is called several times for an image, the
        positions of its calls stand one behind another.

    Raises:
        ValueError: an option out of range, an unknown layer, one that is not called, empty data, images that the
            network cannot take or of several sizes.

    Source: own work; the place behind the norm is that of *WAU*, Fig. 3, https://doi.org/10.1007/s41095-020-0185-5
    """
    size = None if pool is None else whole_number("pool", pool, 1)
    names = convolutions(model) if layers is None else layer_names(layers)
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    calls: dict[str, list[Tensor]] = {}

    def see(name: str, values: Tensor) -> None:
        values = values.detach()
        values = values if values.dtype == torch.float64 else values.float()
        if size is not None and values.ndim > 2:
            values = pooled(values, size)
        kept = values.flatten(2) if values.ndim > 2 else values
        calls.setdefault(name, []).append(kept.to("cpu", copy=True))

    with tapped(model, names, where, see, every=layers is not None) as run:
        for images in images_of(batches, run.device):
            calls.clear()
            run(images)
            for name in calls:
                several = [one if one.ndim > 2 else one.unsqueeze(2) for one in calls[name]]
                found[name].append(calls[name][0] if len(several) == 1 else torch.cat(several, 2))
    return {name: _joined(name, each) for name, each in found.items() if each}


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
