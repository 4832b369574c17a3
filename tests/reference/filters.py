"""Which weight belongs to which channels, found by trying: one weight set to 1, all others to 0."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

_KNOWN: dict[str, tuple[Tensor, Tensor]] = {}


def input_channels(module: nn.Module) -> int:
    return int(getattr(module, "in_channels", 0) or module.in_features)  # type: ignore[union-attr,arg-type]


def example(module: nn.Module, size: int = 5) -> Tensor:
    """An input whose channel ``i`` is constantly ``i + 1``, shape ``(1, c, *size)``, or ``(1, c)``, float64."""
    channels = torch.arange(1.0, input_channels(module) + 1, dtype=torch.float64)
    spatial = module.weight.ndim - 2  # type: ignore[union-attr,operator]
    return channels.view(1, -1, *[1] * spatial).expand(1, -1, *[size] * spatial)  # type: ignore[arg-type]


def roles(module: nn.Module) -> tuple[Tensor, Tensor]:
    """``(output channel, input channel)`` that each single weight connects, two int64 tensors of its shape.

    The layer is tried with one weight at a time: the channel of the output that is not 0 is the one it writes,
    and the value that stands there tells which input channel it read. Values play no part, so layers of one make
    are tried once.
    """
    if repr(module) not in _KNOWN:
        _KNOWN[repr(module)] = _try(module)
    return _KNOWN[repr(module)]


@torch.no_grad()
def _try(module: nn.Module) -> tuple[Tensor, Tensor]:
    module = copy.deepcopy(module).double()
    if module.bias is not None:
        module.bias.zero_()
    x = example(module)
    writes = torch.empty(module.weight.shape, dtype=torch.int64)
    reads = torch.empty_like(writes)
    for element in range(writes.numel()):
        where = tuple(int(i) for i in torch.unravel_index(torch.tensor(element), writes.shape))
        module.weight.zero_()
        module.weight[where] = 1
        y = module(x)[0].flatten(1).amax(1) if writes.ndim > 2 else module(x)[0]
        (channel,) = y.nonzero().flatten().tolist()
        writes[where] = channel
        reads[where] = int(y[channel]) - 1
    return writes, reads


def members(module: nn.Module, units: list[int], unit: str) -> Tensor:
    """What belongs to the units: bool of the weight's shape. Input channels of groups count within a group."""
    shape = module.weight.shape
    if unit == "element":
        return torch.isin(torch.arange(shape.numel()).view(shape), torch.tensor(units, dtype=torch.int64))
    writes, reads = roles(module)
    if unit == "filter":
        return torch.isin(writes, torch.tensor(units, dtype=torch.int64))
    groups = getattr(module, "groups", 1)
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        groups = 1  # the weight's first dimension runs over all input channels
    within = reads % (input_channels(module) // groups)
    return torch.isin(within, torch.tensor(units, dtype=torch.int64))
