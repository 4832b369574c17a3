"""Whether each channel of a tensor has one position, so that a view to two dimensions is a flattening."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd

from filtersmith.graph.ops import Call, is_activation

_ADAPTIVE = (
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
)
_IN_PLACE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, _BatchNorm)
_STAYING = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    torch.neg,
    torch.abs,
    torch.clone,
    "contiguous",
    "float",
)


def pooled(node: fx.Node, module: nn.Module | None, spatial: int, before: bool) -> bool:
    """Whether each channel surely has one position behind a call that keeps channels apart.

    Args:
        before: whether it has in what the call reads.
    """
    if isinstance(module, (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)):
        return _ones(module.output_size)
    if module is None and node.target in _ADAPTIVE:
        return _ones(Call(node, spatial).argument(0, "output_size"))
    if module is None and node.target in ("mean", torch.mean):
        dims = Call(node, spatial).argument(0, "dim")
        return before or len({dim % (spatial + 2) for dim in ([dims] if isinstance(dims, int) else dims)}) == spatial
    stays = isinstance(module, _IN_PLACE) if module is not None else node.target in _STAYING
    return before and (stays or is_activation(node, module))


def _ones(size: Any) -> bool:
    return all(side == 1 for side in (size if isinstance(size, (tuple, list)) else [size]))
