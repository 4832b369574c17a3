"""Writing into what a network and its optimizer know of some filters, in place: no Parameter is ever replaced."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from filtersmith.filters import FilterLayer, filter_major, has_filters, locate, transposed_groups, weight_layout
from filtersmith.optim.hold import Spot
from filtersmith.optim.state import clear_elements, clear_filters, clear_rows, keeps_nothing, kept_of
from filtersmith.pruning.frozen import is_frozen
from filtersmith.pruning.orthogonal import restart
from filtersmith.pruning.plan import ModulePlan

Reinit = Literal["orthogonal", "random", "none"]
ReinitNext = Literal["none", "small", "random", "zero"]
REINITS: tuple[Reinit, ...] = ("orthogonal", "random", "none")
REINITS_NEXT: tuple[ReinitNext, ...] = ("none", "small", "random", "zero")
SIZES = {"small": 0.1, "random": 1.0, "zero": 0.0}
"""Of new kernels, relative to the others of their layer (root mean square)."""


def new_filters(
    rows: Tensor, dropped: Tensor, groups: int, reinit: Reinit, scale: float, generator: Generator
) -> tuple[Tensor, dict[str, int]]:
    """What dropped filters start again as (RePr Sec. 4).

    Args:
        rows: the layer's filters, flattened, shape ``(n, D)``; dropped ones as they were when they were dropped.
        dropped: bool, shape ``(n,)``.
        groups: of the convolution; filters of one group read the same channels, and only they are compared.
        reinit: ``"orthogonal"`` or ``"random"``.
        scale: length relative to the mean of the filters that stayed.
        generator: on the CPU.

    Returns:
        The new filters in the order of the dropped ones, shape ``(u, D)``, and how many are of which kind
        (see `filtersmith.pruning.orthogonal.restart`).
    """
    stayed = rows if dropped.all() else rows[~dropped]
    length = scale * stayed.float().norm(dim=1).mean()
    found, counts = [], dict.fromkeys(("orthogonal", "kept only", "least overlap", "random"), 0)
    for of_group, gone in zip(rows.chunk(groups), dropped.chunk(groups), strict=True):
        if not gone.any():
            continue
        if reinit == "orthogonal":
            directions, kinds = restart(of_group[gone], of_group[~gone], generator)
        else:
            shape = int(gone.sum()), rows.shape[1]
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
            directions, kinds = F.normalize(drawn), {"random": shape[0]}
        found.append(directions)
        for kind, count in kinds.items():
            counts[kind] += count
    return (torch.cat(found).to(rows.device) * length).to(rows.dtype), counts


@torch.no_grad()
def restart_filters(one: ModulePlan, reinit: Reinit, scale: float, generator: Generator) -> dict[str, int]:
    """Start filters, or channels of a batch norm, anew; returns how many filters are of which kind.

    Biases become 0; a norm's weight 1, its bias 0, its running mean 0 and its running variance 1; the slope of a
    PReLU what it started as. What is frozen stays as it is.
    """
    module: Any = one.module
    if not has_filters(module):
        weight = module.init if isinstance(module, nn.PReLU) else 1
        for name, value in (("weight", weight), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            if (tensor := getattr(module, name, None)) is not None and _may_change(module, tensor):
                tensor[one.rows] = value
        return {}
    if module.bias is not None and module.bias.requires_grad:
        module.bias[one.rows] = 0
    if not module.weight.requires_grad:
        return {}
    groups = transposed_groups(module)
    filters = filter_major(module.weight, groups).clone()
    dropped = torch.zeros(len(filters), dtype=torch.bool, device=filters.device)
    dropped[one.rows] = True
    groups_of = FilterLayer("", module).groups
    new, counts = new_filters(filters.flatten(1), dropped, groups_of, reinit, scale, generator)
    filters[dropped] = new.view(-1, *filters.shape[1:])
    module.weight.copy_(weight_layout(filters, groups))
    return counts


def _may_change(module: nn.Module, tensor: Tensor) -> bool:
    """Whether a parameter is trained, or a buffer is one of a module that is."""
    return tensor.requires_grad if isinstance(tensor, nn.Parameter) else not is_frozen(module)


@torch.no_grad()
def restart_inputs(optimizer: Any, one: ModulePlan, how: ReinitNext, generator: Generator) -> None:
    """Start the kernels anew with which a consumer reads what was left out, and forget what is known of them.

    They are normally distributed, as large as `SIZES` says.
    """
    weight = one.module._parameters.get("weight")
    if weight is None or one.alone or not weight.requires_grad:
        return  # it is computed, and what is written into it would be lost; or it is another layer's, too; or frozen
    mask = one.reading_weights()
    if how == "zero":
        weight[mask] = 0
    else:
        others = weight if mask.all() else weight[~mask]
        drawn = torch.randn(int(mask.sum()), generator=generator, device="cpu")
        weight[mask] = (drawn.to(weight.device) * SIZES[how] * others.float().square().mean().sqrt()).to(weight.dtype)
    clear_elements(optimizer, weight, mask, mixed=True)


def held(optimizer: Any, one: ModulePlan, owned: Collection[int]) -> Iterator[Spot]:
    """Where filters, or channels of a batch norm, stand in parameters and in what the optimizer keeps of them.

    Of parameters that are the optimizer's own, by their ids.
    """
    for name, parameter in one.parameters():
        if id(parameter) in owned:
            yield Spot(partial(_itself, parameter), partial(one.own_part, name))
            for tensor, part in kept_of(optimizer, parameter, _kernel(one, name), one.rows):
                yield Spot(tensor, part)


def _itself(parameter: nn.Parameter) -> Tensor:
    return parameter


def _kernel(one: ModulePlan, name: str) -> FilterLayer | None:
    """The layer whose filters a parameter has; ``None`` where it has rows for them."""
    return FilterLayer("", one.module) if name == "weight" and has_filters(one.module) else None


def without_state(optimizer: Any, one: ModulePlan, owned: Collection[int]) -> bool:
    """Whether the optimizer keeps nothing yet of some parameter of a module that is its own, by its id."""
    return any(keeps_nothing(optimizer, p, _kernel(one, name)) for name, p in one.parameters() if id(p) in owned)


def clear_states(optimizer: Any, one: ModulePlan) -> None:
    """Make what the optimizer keeps of filters, or of channels of a batch norm, what a fresh one would hold."""
    for name, parameter in one.parameters():
        if (layer := _kernel(one, name)) is not None:
            clear_filters(optimizer, layer, one.rows)
        else:
            clear_rows(optimizer, parameter, one.rows)


@torch.no_grad()
def shrink(layer: FilterLayer, filters: Tensor, factor: float) -> None:
    """Multiply filters by a number, unless they are frozen."""
    if not layer.weight.requires_grad:
        return
    view, index = locate(layer, filters.to(layer.weight.device))
    view[index] = view[index] * factor
