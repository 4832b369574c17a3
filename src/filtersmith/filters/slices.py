"""Where units of a layer (filters, input channels, single weights) stand in a tensor, sharded ones included."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard

from filtersmith.filters.layer import FilterLayer, Unit

Slice = tuple[Tensor, tuple[Tensor, ...]]
"""A view of a parameter and the index of some of it: ``view[index]`` reads it, ``view[index] = x`` writes it."""


def locate(layer: FilterLayer, units: Tensor, unit: Unit = "filter", tensor: Tensor | None = None) -> Slice:
    """Where the given units of a layer stand in its weight, or in a ``tensor`` of the weight's shape.

    Args:
        layer: the layer.
        units: int64 indices of units, shape ``(u,)``, on the device of the weight.
        unit: ``"filter"`` (output channels), ``"input-channel"`` (``c/g`` of them) or ``"element"`` (single
            weights, counted in the order of ``weight.flatten()``).
        tensor: what to look into, by default the weight: a gradient or a momentum buffer, for instance.

    Returns:
        ``(view, index)``: ``view[index]`` is what belongs to these units, its first dimension running over them.
        Of a sharded weight (FSDP2) it is the part that this rank holds.
    """
    tensor = layer.weight if tensor is None else tensor
    tensor = tensor.detach()
    if unit == "element":
        if isinstance(tensor, DTensor):
            raise ValueError(
                f"single elements of the sharded layer {layer.name!r} cannot be chosen: use unit='filter'"
            )
        return tensor, torch.unravel_index(units, tensor.shape)
    axis = int(layer.transposed == (unit == "filter"))
    # A filter of a grouped transposed convolution is a column of one group's block.
    blocked = layer.transposed and unit == "filter" and layer.groups > 1
    if blocked:
        if isinstance(tensor, DTensor):
            raise ValueError(f"the filters of the sharded grouped transposed layer {layer.name!r} span ranks")
        blocks = tensor.unflatten(0, (layer.groups, -1)).transpose(1, 2)
        per_group = tensor.shape[1]
        return blocks, (units // per_group, units % per_group)
    return along(axis, units, tensor, layer.name)


def along(axis: int, units: Tensor, tensor: Tensor, name: str = "") -> Slice:
    """Where units stand along one axis of a tensor; of a sharded one, the part that this rank holds.

    Args:
        name: of the layer, for what is said of a placement that does not keep units whole.
    """
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        start, stop = _local_range(tensor, axis, name)
        tensor = tensor.to_local()
        units = units[(units >= start) & (units < stop)] - start
    return _rows(tensor.transpose(0, axis)), (units,)


def _rows(tensor: Tensor) -> Tensor:
    """A view with the first dimension as it is and the rest flattened in memory order, where strides allow.

    Whole rows then are runs of memory also in channels_last, which copies several times faster.
    """
    rest = sorted(range(1, tensor.ndim), key=tensor.stride, reverse=True)
    ordered = tensor.permute(0, *rest)
    if tensor.numel() == 0 or not ordered.is_contiguous():
        return tensor
    return ordered.view(tensor.shape[0], math.prod(ordered.shape[1:]))


def _local_range(tensor: DTensor, axis: int, name: str) -> tuple[int, int]:
    """The range of rows of ``axis`` that this rank holds of a sharded tensor (torch shards like ``chunk``)."""
    start, stop = 0, int(tensor.shape[axis])
    for mesh_dim, placement in enumerate(tensor.placements):
        if type(placement) not in (Shard, Replicate):
            raise ValueError(f"layer {name!r} is placed as {placement}: only Shard and Replicate keep filters whole")
        if placement.is_shard(axis):
            size = -(-(stop - start) // tensor.device_mesh.size(mesh_dim))
            start = min(stop, start + size * tensor.device_mesh.get_local_rank(mesh_dim))
            stop = min(stop, start + size)
    return start, stop
