"""Filters that are left out of a network for a while: who they are, held still in every step, brought back anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from filtersmith.common.distributed import follow_first
from filtersmith.common.subphase import Owner, refuse_sub_phase
from filtersmith.filters import FilterLayer
from filtersmith.graph.channels import ChannelGraph
from filtersmith.optim.chains import chains_of
from filtersmith.optim.hold import Hold, Spot
from filtersmith.optim.state import kept_now, refuse_unclear
from filtersmith.optim.steps import ZEROS, Steps
from filtersmith.optim.strangers import Strangers
from filtersmith.optim.wrappers import given_optimizers, owned_by
from filtersmith.pruning.masks import ZEROS_DO, ByZeros
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
from filtersmith.pruning.subnetwork import leave_out, modules_of, restore

Filter = tuple[str, int]
"""Name of a layer, and the number of one of its filters."""
DECAYED = 1e-3
"""What a filter is shrunk to before it is left out."""


class _Known(NamedTuple):
    """What a step must not move, and from what that was found; the next step looks anew where that is different."""

    owned: set[int]
    kept: list[Any]
    spots: list[Spot]
    stateless: list[ModulePlan]


class Absence:
    """The filters that a network lacks now; no step of its optimizers moves them.

    Args:
        graph: of the network.
        layers: those that may lose filters, by name.
        optimizer: one or several, whose steps move the network.
        name: of the method, for warnings.
        by_zeros: how zeros make the network without some of these filters, for its copies.

    Raises:
        ValueError: the network is in a sub-phase of another method, or an optimizer's state is unclear.

    Attributes:
        dropped: name of a layer -> bool, shape ``(filters,)``, on the CPU; empty where the network is complete.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        layers: Mapping[str, FilterLayer],
        optimizer: Any,
        name: str,
        by_zeros: ByZeros = ZEROS_DO,
    ) -> None:
        self._graph, self._owner = graph, Owner(name)
        self.refuse_others(f"make {name}")
        refuse_unclear(name, optimizer, layers.values())
        self._layers, self._optimizer = layers, optimizer
        self._by_zeros = by_zeros
        restore(graph)  # a copy of a sub-network that zeros do not make
        self.dropped: dict[str, Tensor] = {}
        self._plans: tuple[ModulePlan, ...] = ()
        self._parameters: list[Tensor] = []  # of these plans
        self._known: dict[int, _Known] = {}  # by the id of what steps
        self._strangers = Strangers(self._met)
        self._hold = Hold(name, self._held)
        self._clearing = Steps(name, ZEROS, after=self._after_step)
        self._hold.attach(optimizer)
        self._clearing.attach(optimizer)

    def refuse_others(self, doing: str) -> None:
        """``ValueError`` where another method leaves filters out of the network now; ``doing``: behind "cannot"."""
        refuse_sub_phase(modules_of(self._graph), doing, self._owner)

    def add(self, filters: Iterable[Filter]) -> None:
        """Leave these out, too, from now on."""
        if not (filters := list(filters)):
            return
        dropped = {name: mask.clone() for name, mask in self.dropped.items()}
        for name, filter in filters:
            mask = dropped.setdefault(name, torch.zeros(self._layers[name].filters, dtype=torch.bool))
            mask[filter] = True
        self.set(dropped)

    def set(self, dropped: Mapping[str, Tensor]) -> None:
        """Leave these out and no others."""
        dropped = {name: mask.cpu().clone() for name, mask in dropped.items()}
        smaller = plan(self._graph, dropped, self._by_zeros.alone)
        leave_out(smaller, self._by_zeros.reasons, self._owner)
        self.dropped = dropped
        self._become(smaller.own)

    @torch.no_grad()
    def end(self, reinit: Reinit, scale: float, reinit_next: ReinitNext, generator: Generator) -> dict[str, int]:
        """Bring all of them back (how: see `filtersmith.RePr`). Returns how many came back in which way."""
        restore(self._graph, self._owner)
        found: dict[str, int] = {}
        changed = [one.module for one in self._plans]
        mine = {id(layer.module) for layer in self._layers.values()}
        for one in self._plans if reinit != "none" else ():
            counts = restart_filters(one, reinit, scale, generator)
            clear_states(self._optimizer, one)
            if id(one.module) in mine:
                found = {kind: found.get(kind, 0) + count for kind, count in counts.items()}
        if reinit_next != "none":
            for one in plan(self._graph, self.dropped, self._by_zeros.alone).consumers:
                restart_inputs(self._optimizer, one, reinit_next, generator)
                changed.append(one.module)
        for tensor in (t for module in changed for t in (*module.parameters(), *module.buffers())):
            follow_first(tensor)
        self.dropped = {}
        self._become(())
        return found

    def detach(self) -> None:
        """Act in their steps no more."""
        self._strangers.stop()
        self._hold.detach()
        self._clearing.detach()

    @property
    def steps(self) -> Steps:
        """The steps in which filters are held, for warnings about what was never seen or loaded."""
        return self._hold.steps

    def _become(self, plans: Iterable[ModulePlan]) -> None:
        self._plans = tuple(plans)
        self._parameters = [parameter for one in self._plans for _, parameter in one.parameters()]
        self._known = {}
        if self._plans:
            self._strangers.watch(self._parameters, self._optimizer)
        else:
            self._strangers.stop()

    def _met(self, optimizer: Any) -> None:
        """Another optimizer has some of what is left out: a second one for norms, say, that nobody told of."""
        if not self._hold.steps.attached_to(optimizer):
            self._hold.attach(optimizer)
            self._clearing.attach(optimizer)
            self._optimizer = [*given_optimizers(self._optimizer), optimizer]
        self._strangers.watch(self._parameters, self._optimizer)

    def _held(self, level: Any) -> Sequence[Spot]:
        """What a step must not move: what is left out, and what the optimizer keeps of it."""
        if not self._plans:
            return ()
        owned, chains = owned_by(level), chains_of(level)
        kept = kept_now(chains, self._parameters)
        known = self._known.get(id(level))
        if known is None or known.owned != owned or known.kept != kept:
            spots = [spot for one in self._plans for spot in held(chains, one, owned)]
            stateless = [one for one in self._plans if without_state(chains, one, owned)]
            known = self._known[id(level)] = _Known(owned, kept, spots, stateless)
        return known.spots

    def _after_step(self, level: Any) -> None:
        known = self._known.get(id(level))
        for one in known.stateless if known else ():  # it has made some: of gradients that are 0, and of decay
            clear_states(self._optimizer, one)


class Queue:
    """Filters that were chosen and are still there: the next ones to leave out, the worst first.

    Args:
        gradual_steps: optimizer steps over which they are left out; 0: at once.
        decay_steps: optimizer steps in which they shrink, to be left out together after them; 0: none.
    """

    def __init__(self, gradual_steps: int = 0, decay_steps: int = 0) -> None:
        self.gradual_steps: int = gradual_steps
        self.decay_steps: int = decay_steps
        self.filters: list[Filter] = []
        self.chosen: int = 0
        self.waited: int = 0
        """How many there were, and optimizer steps since then."""

    def __bool__(self) -> bool:
        return bool(self.filters)

    @property
    def steps(self) -> int:
        """Optimizer steps until all of them are left out."""
        return self.gradual_steps or self.decay_steps

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
