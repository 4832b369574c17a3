"""The filters of a network's first convolution, scaled to be drawn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.measure.kernels import kernels_of


@torch.no_grad()
def first_layer_kernels(model: nn.Module, layer: str | None = None) -> Tensor:
    """A convolution's filters as pictures, each scaled about 0: a weight of 0 is 0.5.

    Filters that read 1 or 3 channels are drawn as grey or RGB pictures; one that reads others has no such picture,
    and is given as it is.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3))
        >>> fs.measure.first_layer_kernels(model).shape
        torch.Size([8, 3, 5, 5])

    Args:
        model: the network; wrapped, compiled or expanded as well. It is left alone.
        layer: the name of a 2-d convolution, transposed or not; default: the first convolution of the network.

    Returns:
        ``(n, c, kh, kw)``: n filters of c channels each (c/g of a convolution with g groups), float32 in [0, 1], on
        the CPU. The largest ``|weight|`` of each filter is 0 or 1. A filter of zeros, or one with a weight that is
        not finite, is 0.5 everywhere.

    Raises:
        ValueError: an unknown layer, one that is not a 2-d convolution or has no values, no convolution at all.

    Source: own work; drawn as Krizhevsky et al. draw them, *ImageNet Classification with Deep ...*, Fig. 3, NIPS 2012
    """
    one = kernels_of(model, None if layer is None else [layer])[0]
    if one.filters.ndim != 4:
        name = f"layer {one.name!r}" if layer is not None else f"the first convolution, {one.name!r},"
        raise bad_option(name, f"filters {tuple(one.filters.shape)}", "a 2-d convolution")
    filters = one.filters.to("cpu", torch.float64)
    peak = filters.abs().amax((1, 2, 3), keepdim=True)  # not finite where a weight is not
    shares = torch.where((peak > 0) & peak.isfinite(), filters / peak, 0)
    return (0.5 + shares / 2).float()
