"""The sub-network without some filters, computed with fewer channels, on the parameters of the whole network.

`leave_out` changes how the modules of a network compute: a convolution applies only the filters that are left, to the
channels that are left, and so do batch norms and linear layers; where a sum or the code needs all channels, zeros
stand for those left out. Parameters, buffers and names stay as they are; `restore` undoes it.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from filtersmith.common.subphase import Owner, owner_of, refuse_sub_phase
from filtersmith.filters import FilterLayer, outputs_of
from filtersmith.graph.channels import ChannelGraph, Producer
from filtersmith.pruning.plan import ModulePlan, Plan, positions_of
from filtersmith.pruning.sliced import (
    Slicing,
    have_classes_watched,
    slice_module,
    sliceable,
    slicing_of,
    unslice_module,
)

_log = logging.getLogger("filtersmith")


def leave_out(plan: Plan, not_by_zeros: Mapping[str, str] | None = None, owner: Owner | None = None) -> None:
    """Compute without some filters from now on, and without what stands only for their channels.

    Args:
        plan: at least one filter of each convolution has to stay.
        not_by_zeros: of which convolutions zeros do not make the network without some filters, and why (see
            `filtersmith.pruning.masks.not_by_zeros`). Where one of these loses some, copies of the network are
            sub-networks as well, else they are plain, with zeros.
        owner: whose doing this is, if it may be nobody else's meanwhile.

    Raises:
        ValueError: the network is in a sub-phase of somebody else; nothing has changed.
    """
    refuse_sub_phase(modules_of(plan.graph), "leave filters out", owner)
    have_classes_watched()
    losing = (name for name in plan.graph.producers if name in plan.modules and len(plan.modules[name].rows))
    reasons = [(name, not_by_zeros[name]) for name in losing if name in not_by_zeros] if not_by_zeros else []
    modules = modules_of(plan.graph)
    # An activation has no tensor of its own that says where the network is.
    usual = next((p.device for module in modules for p in module.parameters()), torch.device("cpu"))
    restore(plan.graph, owner)
    for one in plan.modules.values():
        slicing = _slicing(one)
        if slicing or len(one.rows):
            slicing = replace(slicing, **({"why_sliced": reasons[0]} if reasons else {"plan": one}))
            device = next((t.device for t in (*one.module.parameters(), *one.module.buffers())), usual)
            slice_module(one.module, _placed_on(device, slicing), owner)


def restore(graph: ChannelGraph, owner: Owner | None = None) -> None:
    """Compute with all filters again, but for those that somebody else than ``owner`` leaves out.

    A method that leaves out begins with it, so that what is compiled after that knows of classes that change.
    """
    have_classes_watched()
    for module in modules_of(graph):
        if owner_of(module) in (None, owner):
            unslice_module(module)


def left_out(module: Any) -> Tensor | None:
    """Which filters of a layer are left out now, bool, shape ``(filters,)``; ``None`` where none is."""
    slicing = slicing_of(module)
    kept = None if slicing is None else slicing.rows if slicing.rows is not None else slicing.narrow
    return None if kept is None else ~_mask(kept, outputs_of(module))


def computes_fewer(producer: Producer) -> bool:
    """Whether the sub-network saves the work of the filters that a convolution loses."""
    return _can_compute_fewer(producer.module)


def _can_compute_fewer(module: nn.Module) -> bool:
    """Whether a layer that reads several channels at a time can do with some of its rows and columns."""
    return sliceable(module) and FilterLayer("", module).groups == 1


def modules_of(graph: ChannelGraph) -> list[nn.Module]:
    """The modules that may compute otherwise where filters are left out."""
    return [*(one.module for one in graph.producers.values()), *(site.module for site in graph.sites.values())]


def _placed_on(device: torch.device, slicing: Slicing) -> Slicing:
    tensors = {f.name: v.to(device) for f in fields(slicing) if isinstance(v := getattr(slicing, f.name), Tensor)}
    return replace(slicing, **tensors)  # type: ignore[arg-type]


# --- what a module does otherwise ----------------------------------------------------------------------------


def _slicing(one: ModulePlan) -> Slicing:
    if one.role == "per-channel":
        return _of_per_channel(one)
    if one.role == "elementwise":
        return Slicing(spread=one.arriving if one.refilled else None, width=(0, one.width))
    consumed = Slicing() if one.role is None else _of_consumer(one)
    return _of_producer(one, consumed) if len(one.rows) else consumed


def _of_consumer(one: ModulePlan) -> Slicing:
    gone, there = _inputs(one)
    take, kept = _some(~gone[there]), positions_of(~gone)
    if _can_compute_fewer(one.module):
        return Slicing(take=take, columns=kept, width=(one.width, 0))
    return Slicing(take=take, fill=kept, width=(one.width, 0))


def _of_per_channel(one: ModulePlan) -> Slicing:
    gone, there = _inputs(one)
    repeats = one.filters // one.width
    out_gone, out_there = gone.repeat_interleave(repeats), there.repeat_interleave(repeats)
    on = _some(out_there)
    spread = positions_of(out_there) if one.refilled else None
    if sliceable(one.module):
        live = _some(~out_gone[out_there]) if isinstance(one.module, _BatchNorm) else None
        return Slicing(rows=on, spread=spread, live=live, width=(0, one.filters))
    live = positions_of(~out_gone) if hasattr(one.module, "running_mean") else None
    return Slicing(fill=_some(there), narrow=on, spread=spread, live=live, width=(one.width, one.filters))


def _of_producer(one: ModulePlan, consumed: Slicing) -> Slicing:
    """A layer that loses filters; ``consumed`` is what it does about lost input channels."""
    kept = positions_of(~_mask(one.rows.cpu(), one.filters))
    fewer = _can_compute_fewer(one.module)
    return replace(
        consumed,
        rows=kept if fewer else None,
        narrow=None if fewer else kept,
        spread=kept if one.refilled else None,
        width=(consumed.width[0], one.filters),
    )


def _inputs(one: ModulePlan) -> tuple[Tensor, Tensor]:
    """Which channels that a module reads are left out, and which come in: masks."""
    return _mask(one.inputs, one.width), _mask(one.arriving, one.width)


def _mask(positions: Tensor, length: int) -> Tensor:
    return torch.zeros(length, dtype=torch.bool, device=positions.device).index_fill(0, positions, True)


def _some(mask: Tensor) -> Tensor | None:
    """Where a mask is true; ``None`` where it is true everywhere."""
    return None if mask.all() else positions_of(mask)


def log_what_is_masked(method: str, graph: ChannelGraph, layers: Container[str]) -> None:
    """Say in the log for which layers leaving filters out saves no work."""
    for producer in graph.producers.values():
        if producer.name in layers and not computes_fewer(producer):
            _log.info("%s masks the filters of %s: leaving some out would save no work there", method, producer.name)
