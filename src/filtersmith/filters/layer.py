"""Which rows of which tensor are a layer's filters; the table is in the folder's docstring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized

Unit = Literal["filter", "input-channel", "element"]
UNITS: tuple[Unit, ...] = ("filter", "input-channel", "element")


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
        if weight is None:  # `filter_layers` has seen one
            raise ValueError(f"layer {self.name!r} had a weight, which is computed now: parametrize it before")
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


def outputs_of(module: Any) -> int:
    """How many channels or features a layer gives, however its weight is made."""
    return int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)


def channel_axis(module: nn.Module) -> int:
    """The dimension in which what a layer reads and gives has its channels: 1, or -1 of a linear layer."""
    return -1 if isinstance(module, nn.Linear) else 1


def sums_branches(module: nn.Module) -> bool:
    """Whether a module is a block of branches (ACNet, DBB) in the place of a convolution."""
    return getattr(module, "sums_branches", False) is True


def is_expansion(module: nn.Module) -> bool:
    """Whether a layer's weight is computed by a parametrization of ours (KFLO, DO-Conv)."""
    return is_parametrized(module, "weight") and getattr(module.parametrizations["weight"][0], "is_expansion", False)  # type: ignore[index]
