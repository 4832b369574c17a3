"""What a filter is, in every kind of layer: the one place that knows.

A *filter* is everything that produces one output channel of a convolution (dense, grouped, depthwise or
transposed, in 1, 2 or 3 dimensions), or one output of a linear layer. With ``c`` inputs, ``n`` outputs, ``g``
groups and kernel size ``k``:

==================  ==========================  =================================
layer               weight                      filter ``f``
==================  ==========================  =================================
convolution         ``(n, c/g, *k)``            ``weight[f]``
transposed, g = 1   ``(c, n, *k)``              ``weight[:, f]``
transposed, g > 1   ``(c, n/g, *k)``            ``weight[c/g*i : c/g*(i+1), j]``,
                                                ``i, j = divmod(f, n/g)``
linear              ``(n, c)``                  ``weight[f]``
==================  ==========================  =================================

*Filter-major* is the one layout for all of them: ``(n, c/g, *k)``, filter ``f`` is row ``f``. `filter_major` and
`weight_layout` change between the two. A weight that KFLO computes (see `filtersmith.reparam`) has its *underlying
filters* as the rows of a filter-major parameter; they are more than the layer's outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.common.modules import plain_name, unwrap
from filtersmith.common.options import bad_option, unknown_name

Kind = Literal["dense", "grouped", "depthwise", "transposed", "linear"]
Unit = Literal["filter", "input-channel", "element"]
UNITS: tuple[Unit, ...] = ("filter", "input-channel", "element")

Slice = tuple[Tensor, tuple[Tensor, ...]]
"""A view of a parameter and the index of some of it: ``view[index]`` reads it, ``view[index] = x`` writes it."""


@dataclass(frozen=True)
class FilterLayer:
    """A named layer that has filters.

    The weight is looked up each time: a network may be moved, sharded or tied after this record was made.
    """

    name: str
    module: nn.Module

    @property
    def weight(self) -> Tensor:
        """The weight as the optimizer knows it, in its own shape; the underlying filters where KFLO expanded it."""
        weight = weight_of(self.module)
        assert weight is not None, "checked by filter_layers"
        return weight

    @property
    def groups(self) -> int:
        return getattr(self.module, "groups", 1)

    @property
    def transposed(self) -> bool:
        """Whether filters are columns of the weight and not rows."""
        return isinstance(self.module, _ConvTransposeNd) and underlying_filters(self.module) is None

    @property
    def filters(self) -> int:
        """Number of filters: the output channels, or the underlying filters of an expanded layer."""
        weight = self.weight
        return int(weight.shape[1]) * self.groups if self.transposed else int(weight.shape[0])

    @property
    def kind(self) -> Kind:
        if isinstance(self.module, nn.Linear):
            return "linear"
        if isinstance(self.module, _ConvTransposeNd):
            return "transposed"
        if self.groups == 1:
            return "dense"
        return "depthwise" if self.weight.shape[1] == 1 else "grouped"

    def units(self, unit: Unit) -> int:
        """How many of ``unit`` the layer has. Input channels of a convolution count within a group (``c/g``)."""
        if unit == "filter":
            return self.filters
        return self.weight.numel() if unit == "element" else int(self.weight.shape[0 if self.transposed else 1])


def weight_of(module: nn.Module) -> Tensor | None:
    """The parameter that holds a layer's filters, or ``None`` where its weight is computed in some other way."""
    weight = module._parameters.get("weight")
    return weight if weight is not None else underlying_filters(module)


def underlying_filters(module: nn.Module) -> Tensor | None:
    """The underlying filters of an expanded layer, filter-major; ``None`` for every other layer."""
    if not is_parametrized(module, "weight"):
        return None
    how: Any = module.parametrizations["weight"]  # type: ignore[index]
    return how.original0 if getattr(how[0], "has_underlying_filters", False) else None


def transposed_groups(module: nn.Module) -> int | None:
    """The groups of a transposed convolution, whose filters are columns; ``None`` where filters are rows."""
    return int(module.groups) if isinstance(module, _ConvTransposeNd) else None


def filter_major(weight: Tensor, groups: int | None) -> Tensor:
    """A weight as ``(n, c/g, *k)``, a view or a copy; ``groups`` as `transposed_groups` gives them for its layer."""
    return weight if groups is None else weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)


def weight_layout(rows: Tensor, groups: int | None) -> Tensor:
    """The inverse of `filter_major`, which is the same exchange of dimensions."""
    return filter_major(rows, groups)


def has_filters(module: nn.Module) -> bool:
    """Whether a module is of a kind that has filters, however its weight is made."""
    return isinstance(module, (_ConvNd, nn.Linear))


def layer_names(layers: Iterable[str]) -> list[str]:
    """The value of an option ``layers`` that is not ``None``; ``ValueError`` if it is no sequence of names."""
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise bad_option("layers", layers, "a sequence of layer names")
    names = list(layers)
    if not names or not all(isinstance(name, str) for name in names):
        raise bad_option("layers", names, "None or at least one layer name")
    return names


def filter_layers(model: nn.Module, layers: Iterable[str] | None = None) -> tuple[FilterLayer, ...]:
    """The layers of a network that have filters, in the order of ``named_modules``.

    Without ``layers`` these are all convolutions. ``layers`` names the wanted ones, linear layers allowed. Two
    layers that share one weight tensor count as one, under the first name.

    Raises ``ValueError`` where there is no such layer, a name is unknown, or a weight is not a plain parameter.
    """
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    model = unwrap(model)
    if any(type(m).__name__ == "FullyShardedDataParallel" for m in model.modules()):
        raise ValueError(
            "FullyShardedDataParallel flattens the weights, so that filters cannot be told apart: "
            "use torch.distributed.fsdp.fully_shard or DistributedDataParallel"
        )
    with_filters = {plain_name(name): module for name, module in model.named_modules() if has_filters(module)}
    if layers is None:
        chosen = [name for name, module in with_filters.items() if isinstance(module, _ConvNd)]
        if not chosen:
            raise ValueError(
                f"{type(model).__name__} has no convolution: name the layers that are meant with layers="
            )
    else:
        chosen = list(dict.fromkeys(layer_names(layers)))
        for name in chosen:
            if name not in with_filters:
                raise unknown_name("layer", name, with_filters)
    summed = {id(m) for block in model.modules() if getattr(block, "sums_branches", False) for m in block.modules()}
    found: dict[int, FilterLayer] = {}
    for name in chosen:
        if id(with_filters[name]) in summed:
            raise ValueError(
                f"the weight of layer {name!r} is one branch of several that sum up to a kernel (ACNet, DBB), "
                "so its rows are not the filters that are deployed: leave it out with layers="
            )
        weight = weight_of(with_filters[name])
        if weight is None:
            raise ValueError(
                f"the weight of layer {name!r} is not a parameter but computed from others (a parametrization, "
                "weight or spectral norm), so its filters are not rows of a parameter: leave it out with layers="
            )
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise ValueError(f"layer {name!r} is lazy and has no weight yet: run one forward pass first")
        found.setdefault(id(weight), FilterLayer(name, with_filters[name]))
    return tuple(found.values())


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
    if isinstance(tensor, DTensor):
        if blocked:
            raise ValueError(f"the filters of the sharded grouped transposed layer {layer.name!r} span ranks")
        start, stop = _local_range(tensor, axis, layer.name)
        tensor = tensor.to_local()
        units = units[(units >= start) & (units < stop)] - start
    if blocked:
        blocks = tensor.unflatten(0, (layer.groups, -1)).transpose(1, 2)
        per_group = tensor.shape[1]
        return blocks, (units // per_group, units % per_group)
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
