"""Where single filters stand in a tensor that an optimizer keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from filtersmith.filters import FilterLayer, Slice, along, locate

Kind = tuple[bool, int] | None
"""Where the filters of a parameter are: columns, and in how many groups; ``None``: its rows."""


class Place(NamedTuple):
    """Where filters stand in a tensor of a state: as in the parameter, or at their numbers along some axes."""

    as_parameter: bool = False
    axes: tuple[int, ...] = ()

    def is_in(self, tensor: Tensor, shape: torch.Size) -> bool:
        """Whether a tensor has it; some keep a scalar for weights that are all 0. ``shape`` is the parameter's."""
        return tensor.ndim > max(self.axes, default=-1) and (not self.as_parameter or tensor.numel() == shape.numel())


def kind_of(layer: FilterLayer | None) -> Kind:
    return (True, layer.groups) if layer is not None and layer.transposed else None


def part_of(layer: FilterLayer | None, units: Tensor, tensor: Tensor) -> Slice:
    """Where filters stand in a tensor of the parameter's shape: of a layer's weight, or as rows."""
    if layer is not None:
        return locate(layer, units.to(tensor.device), tensor=tensor)
    return along(0, units.to(tensor.device), tensor)


def spots(
    place: Place, layer: FilterLayer | None, units: Tensor, shape: torch.Size, tensor: Tensor
) -> Iterator[Slice]:
    """Where filters stand in a tensor of a state; ``shape`` is the parameter's."""
    if place.as_parameter:
        yield part_of(layer, units, tensor if tensor.shape == shape else tensor.detach().view(shape))
    for axis in place.axes:
        yield along(axis, units.to(tensor.device), tensor)


def mask_of(layer: FilterLayer | None, unit: int, like: Tensor) -> Tensor:
    """bool, of the parameter's shape: what one filter has."""
    mask = torch.zeros(like.shape, dtype=torch.bool, device=like.device)
    view, index = part_of(layer, torch.tensor([unit]), mask)
    view[index] = True
    return mask


def place_in(
    shape: torch.Size, contiguous: bool, own: Tensor, unit: int, count: int, alone: Tensor, among: Tensor
) -> Place | None:
    """Where one filter stands in a tensor, from which entries its gradients change.

    Args:
        shape, contiguous: of the tensor.
        own: the filter's entries in the parameter; unit, count: its number, and how many filters there are.
        alone, among: what changes where all other gradients are 0, and where they are not: bool, of this shape.

    Returns:
        The place; one without axes where nothing belongs to single filters; ``None``: it mixes them.

    >>> no, f = torch.zeros(4, dtype=torch.bool), torch.tensor([0, 0, 1, 0]).bool()
    >>> place_in(no.shape, True, f[:, None].expand(4, 3), 2, 4, f, f)
    Place(as_parameter=False, axes=(0,))
    """
    if shape == own.shape or (contiguous and shape.numel() == own.numel() and count > 1):
        inside = own.reshape(shape)
        if not (among & ~inside).any() or not (alone & ~inside).any():
            return Place(as_parameter=True)
        return None
    if not among.any() and not alone.any():
        return Place()
    for changed in (among, alone):
        where = changed.nonzero()
        at = [axis for axis, size in enumerate(shape) if size == count > 1]
        single = [axis for axis in at if len(where) and bool((where[:, axis] == unit).all())]
        if len(at) >= 2 and len(where) and len(single) != 1:
            both = (where[:, at[0]] == unit) | (where[:, at[1]] == unit)
            if both.all():
                return Place(axes=(at[0], at[1]))
        if single:
            return Place(axes=(single[0],))
    return Place() if among.all() else None  # an average over all filters, or blocks of something


def same(a: Tensor, b: Tensor) -> Tensor:
    """Where two tensors are the same, also where both are no number."""
    return (a == b) | (a != a) & (b != b)


def write(
    place: Place,
    layer: FilterLayer | None,
    units: Tensor,
    shape: torch.Size,
    value: Tensor,
    start: float | str,
    source: Tensor | None,
) -> None:
    """Write a constant, or what stands at the same place in ``source``."""
    if source is None:
        for view, index in spots(place, layer, units, shape, value):
            view[index] = start  # type: ignore[assignment]
        return
    there = spots(place, layer, units, shape, source)
    for (view, index), (other, _) in zip(spots(place, layer, units, shape, value), there, strict=True):
        view[index] = other[index]
