"""What a network is without some filters: one plan, from which all else follows.

`plan` says of each module which of its filters, channels and inputs are left out, and where zeros stand for them. The
sliced forward pass (`filtersmith.pruning.subnetwork`), the entries that are 0 (`filtersmith.pruning.masks`), what
starts anew (`filtersmith.pruning.reinit`) and the oracle (`filtersmith.measure.removal`) are read from it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from filtersmith.filters import FilterLayer, Slice, has_filters, locate
from filtersmith.graph.channels import ChannelGraph, Producer
from filtersmith.graph.flow import left_out
from filtersmith.graph.sites import Role, Site

_NONE = torch.empty(0, dtype=torch.int64, device="cpu")


class Fill(NamedTuple):
    """A value for some entries of a module's parameter or buffer, by its name; ``mask`` is bool, of its shape."""

    name: str
    mask: Tensor
    value: float


@dataclass(frozen=True, eq=False)
class ModulePlan:
    """What a module is in the network without some filters. All tensors are int64 positions.

    Attributes:
        name: of the module.
        module: the module.
        role: how it meets the channels that it reads, as `Site.role`; ``None`` where none of them is left out.
        inputs: of the channels that it reads, those that are left out, on the CPU.
        arriving: those that come in, on the CPU: zeros may stand for some that are left out.
        width: how many it reads with all filters; a linear layer reads each as a block of features.
        rows: of its own filters or channels, those that are left out, on the device of the module; none where it has
            nothing of its own for them.
        filters: how many filters or channels it has.
        refilled: whether zeros take the place of left-out channels behind it.
        alone: whether its weights that read left-out channels stay, see `filtersmith.pruning.masks.by_zeros`.
    """

    name: str
    module: nn.Module = field(repr=False)
    role: Role | None = None
    inputs: Tensor = _NONE
    arriving: Tensor = _NONE
    width: int = 0
    rows: Tensor = _NONE
    filters: int = 0
    refilled: bool = False
    alone: bool = False

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The module's parameters that have something for each filter or channel; not a gain for all of them."""
        for name, parameter in self.module.named_parameters(recurse=False):
            if self._is_kernel(name) or parameter.shape[:1] == (self.filters,):
                yield name, parameter

    def own_part(self, name: str, tensor: Tensor) -> Slice:
        """Where its left-out filters or channels stand in a tensor of the shape of the parameter ``name``."""
        rows = self.rows.to(tensor.device)
        if self._is_kernel(name):
            return locate(FilterLayer("", self.module), rows, tensor=tensor)
        return tensor.detach(), (rows,)

    def fills(self) -> Iterator[Fill]:
        """What stands for all that is left out where the module keeps its shape.

        Zeros for what the left-out filters and channels have for themselves, and in the weights that read them;
        running statistics of which a norm makes 0 of 0.
        """
        masks: dict[str, Tensor] = {}
        for name, parameter in self.parameters() if len(self.rows) else ():
            mask = masks[name] = torch.zeros_like(parameter, dtype=torch.bool)
            view, index = self.own_part(name, mask)
            view[index] = True
        if self.role == "consumer" and not self.alone:
            reading = self.reading_weights()
            masks["weight"] = masks["weight"] | reading if "weight" in masks else reading
        yield from (Fill(name, mask, 0.0) for name, mask in masks.items())
        for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
            statistic = self.module._buffers.get(name)
            if statistic is not None and len(self.rows):
                mask = torch.zeros_like(statistic, dtype=torch.bool)
                yield Fill(name, mask.index_fill_(0, self.rows.to(mask.device), True), value)

    def reading_weights(self) -> Tensor:
        """Which weights of a consumer read channels that are left out: bool, of the weight's shape."""
        return inputs_of(self.module, self.width, self.inputs)

    def _is_kernel(self, name: str) -> bool:
        return name == "weight" and has_filters(self.module)

    def __str__(self) -> str:
        told = []
        if len(self.inputs):
            told.append(f"reads {self.width - len(self.inputs)} of {self.width} channels")
        if len(self.rows):
            own = " of its own" if self.role == "per-channel" else " filters"
            told.append(f"keeps {self.filters - len(self.rows)} of {self.filters}{own}")
        return f"{self.name}: {', '.join(told)}{', zeros behind it' if self.refilled else ''}"


@dataclass(frozen=True, eq=False)
class Plan:
    """A network without some filters; ``print`` shows it.

    Attributes:
        graph: of the network.
        modules: what changes, by name: first the convolutions that lose filters, then what their channels meet.
    """

    graph: ChannelGraph = field(repr=False)
    modules: Mapping[str, ModulePlan]

    @property
    def own(self) -> list[ModulePlan]:
        """What has filters, channels of parameters or statistics that stand only for what is left out."""
        return [one for one in self.modules.values() if len(one.rows)]

    @property
    def consumers(self) -> list[ModulePlan]:
        """The convolutions and linear layers that read channels which are left out, in the order of their calls."""
        met = (self.modules[name] for name in self.graph.sites if name in self.modules)
        return [one for one in met if one.role == "consumer"]

    def __str__(self) -> str:
        return "\n".join(map(str, self.modules.values())) or "nothing is left out"


def plan(graph: ChannelGraph, dropped: Mapping[str, Tensor], alone: Container[str] = ()) -> Plan:
    """What the network is without some filters, and without what stands only for their channels.

    Args:
        graph: of the network.
        dropped: name of a producer -> bool, shape ``(filters,)``.
        alone: names of layers whose weights stay as they are where they read channels that are left out.
    """
    ends = {producer.end for producer in graph.producers.values() if producer.full_width_reason is not None}
    modules: dict[str, ModulePlan] = {}
    for name, producer in graph.producers.items():
        if name in dropped and dropped[name].any():
            modules[name] = _of_producer(producer, dropped[name], refilled=name in ends)
    for name, site in graph.sites.items():
        gone = left_out(site.inputs, dropped)
        if gone.any():
            before = replace(modules.get(name, ModulePlan(name, site.module)), alone=name in alone)
            modules[name] = _of_site(before, site, gone, _there(graph, site, gone), dropped, refilled=name in ends)
    return Plan(graph, modules)


def _of_producer(producer: Producer, gone: Tensor, *, refilled: bool) -> ModulePlan:
    rows = _on_device(producer.module, gone)
    return ModulePlan(producer.name, producer.module, rows=rows, filters=len(gone), refilled=refilled)


def _of_site(
    before: ModulePlan, site: Site, gone: Tensor, there: Tensor, dropped: Mapping[str, Tensor], *, refilled: bool
) -> ModulePlan:
    met = replace(before, role=site.role, inputs=positions_of(gone), arriving=positions_of(there), width=len(gone))
    if site.role == "consumer":
        return met
    outputs = left_out(site.outputs, dropped)
    rows = _on_device(site.module, outputs) if site.has_own else _NONE
    return replace(met, rows=rows, filters=len(outputs), refilled=refilled)


def _there(graph: ChannelGraph, site: Site, gone: Tensor) -> Tensor:
    """Which channels come in: behind the end of a producer of full width, zeros have been put in."""
    if site.within is not None:
        return ~gone
    full = (
        torch.full((run.width,), run.producer is None or graph.producers[run.producer].full_width_reason is not None)
        for run in site.inputs
    )
    return ~gone | torch.cat(list(full))


def positions_of(mask: Tensor) -> Tensor:
    """Where a mask is true: int64."""
    return mask.nonzero().flatten()


@torch.no_grad()
def fill(one: ModulePlan) -> None:
    """Write into a module what stands for all that is left out."""
    tensors = {**one.module._parameters, **one.module._buffers}
    for name, mask, value in one.fills():
        tensor = tensors[name]
        assert tensor is not None, "only those that are there are filled"
        tensor.masked_fill_(mask, value)


def _on_device(module: nn.Module, mask: Tensor) -> Tensor:
    return positions_of(mask).to(next(module.parameters(), mask).device)


def inputs_of(module: nn.Module, channels: int, positions: Tensor) -> Tensor:
    """Which weights of a convolution or linear layer read some of its input channels: bool, of the weight's shape.

    Args:
        channels: how many it reads.
        positions: of those that are meant, int64.
    """
    weight = module.weight
    assert isinstance(weight, Tensor), "a convolution or linear layer has one"
    mask = torch.zeros(weight.shape, dtype=torch.bool, device=weight.device)
    positions = positions.to(weight.device)
    if isinstance(module, nn.Linear):
        mask.unflatten(1, (channels, -1))[:, positions] = True
    elif isinstance(module, _ConvTransposeNd):
        mask[positions] = True
    else:  # of a grouped one, the filters of one group read c/g channels
        assert isinstance(module, _ConvNd)
        per_group = weight.shape[1]
        mask.unflatten(0, (module.groups, -1))[positions // per_group, :, positions % per_group] = True
    return mask
