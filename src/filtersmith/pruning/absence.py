"""Filters that are left out of a network for a while: who they are, held still in every step, brought back anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer

from filtersmith.common.distributed import follow_first
from filtersmith.filters import FilterLayer, Slice
from filtersmith.graph.channels import ChannelGraph
from filtersmith.optim.hold import Hold
from filtersmith.optim.wrappers import owned_by, step_runs, update_is_skipped
from filtersmith.pruning.plan import ModulePlan, plan
from filtersmith.pruning.reinit import (
    Reinit,
    ReinitNext,
    clear_states,
    held,
    restart_filters,
    restart_inputs,
    shrink,
    without_state,
)
from filtersmith.pruning.subnetwork import leave_out, restore

Filter = tuple[str, int]
"""Name of a layer, and the number of one of its filters."""
DECAYED = 1e-3
"""What a filter is shrunk to before it is left out."""


class Absence:
    """The filters that a network lacks now; no step of its optimizers moves them.

    Args:
        graph: of the network.
        layers: those that may lose filters, by name.
        optimizers: whose steps move the network.

    Attributes:
        dropped: name of a layer -> bool, shape ``(filters,)``, on the CPU; empty where the network is complete.
    """

    def __init__(
        self, graph: ChannelGraph, layers: Mapping[str, FilterLayer], optimizers: Sequence[Optimizer]
    ) -> None:
        self._graph, self._layers, self._optimizers = graph, layers, tuple(optimizers)
        restore(graph)  # a copy that was made of another one's sub-network
        self.dropped: dict[str, Tensor] = {}
        self._plans: tuple[ModulePlan, ...] = ()
        self._stateless: dict[Optimizer, list[ModulePlan]] = {}
        self._hold = Hold(self._held)
        for optimizer in self._optimizers:
            self._hold.attach(optimizer)
        self._hooks = [optimizer.register_step_post_hook(self._after_step) for optimizer in self._optimizers]

    def add(self, filters: Iterable[Filter]) -> None:
        """Leave these out, too, from now on."""
        if not (filters := list(filters)):
            return
        for name, filter in filters:
            mask = self.dropped.setdefault(name, torch.zeros(self._layers[name].filters, dtype=torch.bool))
            mask[filter] = True
        self.set(self.dropped)

    def set(self, dropped: Mapping[str, Tensor]) -> None:
        """Leave these out and no others."""
        self.dropped = {name: mask.cpu().clone() for name, mask in dropped.items()}
        smaller = plan(self._graph, self.dropped)
        leave_out(smaller)
        self._plans = tuple(smaller.own)

    @torch.no_grad()
    def end(self, reinit: Reinit, scale: float, reinit_next: ReinitNext, generator: Generator) -> dict[str, int]:
        """Bring all of them back (how: see `filtersmith.RePr`). Returns how many came back in which way."""
        restore(self._graph)
        found: dict[str, int] = {}
        changed = [one.module for one in self._plans]
        mine = {id(layer.module) for layer in self._layers.values()}
        for one in self._plans if reinit != "none" else ():
            counts = restart_filters(one, reinit, scale, generator)
            clear_states(self._optimizers, one)
            if id(one.module) in mine:
                found = {kind: found.get(kind, 0) + count for kind, count in counts.items()}
        if reinit_next != "none":
            for one in plan(self._graph, self.dropped).consumers:
                restart_inputs(self._optimizers, one, reinit_next, generator)
                changed.append(one.module)
        for tensor in (t for module in changed for t in (*module.parameters(), *module.buffers())):
            follow_first(tensor)
        self.dropped, self._plans = {}, ()
        return found

    def detach(self) -> None:
        """Take the hooks off the optimizers."""
        self._hold.detach()
        for hook in self._hooks:
            hook.remove()

    def _held(self, optimizer: Optimizer) -> Iterator[Slice]:
        """What a step must not move: what is left out, and what the optimizer keeps of it."""
        owned = owned_by(optimizer)
        self._stateless[optimizer] = [one for one in self._plans if without_state(optimizer, one, owned)]
        for one in self._plans:
            yield from (part(tensor()) for tensor, part in held(optimizer, one, owned))

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if update_is_skipped(optimizer) or step_runs(optimizer):
            return
        for one in self._stateless.pop(optimizer, ()):  # it has made some: of gradients that are 0, and of decay
            clear_states(optimizer, one)


class Queue:
    """Filters that were chosen and are still there: the next ones to leave out, the worst first.

    Args:
        gradual_steps: optimizer steps over which they are left out; 0: at once.
        decay_steps: optimizer steps in which they shrink, to be left out together after them; 0: none.
    """

    def __init__(self, gradual_steps: int = 0, decay_steps: int = 0) -> None:
        self.gradual_steps, self.decay_steps = gradual_steps, decay_steps
        self.filters: list[Filter] = []
        self.chosen, self.waited = 0, 0
        """How many there were, and optimizer steps since then."""

    def __bool__(self) -> bool:
        return bool(self.filters)

    def fill(self, filters: list[Filter]) -> None:
        self.filters, self.chosen, self.waited = filters, len(filters), 0

    def due(self) -> list[Filter]:
        """Those that are to be left out before the next optimizer step; they are no longer in the queue."""
        if self.decay_steps:
            count = len(self.filters) if self.waited >= self.decay_steps else 0
        else:
            steps = max(1, self.gradual_steps)
            out = self.chosen * min(self.waited + 1, steps) // steps
            count = out - (self.chosen - len(self.filters))
        return self.take(count)

    def take(self, count: int) -> list[Filter]:
        """The first ``count``, which leave the queue."""
        taken, self.filters = self.filters[:count], self.filters[count:]
        return taken

    def after_step(self, layers: Mapping[str, FilterLayer]) -> list[Filter]:
        """Count an optimizer step, shrink what shrinks; `due` then."""
        self.waited += 1
        if self.decay_steps:
            factor = DECAYED ** (1 / self.decay_steps)
            for name, layer in layers.items():
                if filters := [filter for of, filter in self.filters if of == name]:
                    shrink(layer, torch.tensor(filters), factor)
        return self.due()

    def state_dict(self) -> dict[str, Any]:
        return {"queue": list(self.filters), "chosen": self.chosen, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.filters = [(name, filter) for name, filter in state["queue"]]
        self.chosen, self.waited = state["chosen"], state["waited"]
