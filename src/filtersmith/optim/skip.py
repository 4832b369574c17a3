"""Filters that are left out of one step: no gradients of theirs are computed, nothing that is kept of them moves."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from filtersmith.common.modules import unwrap
from filtersmith.common.said import warn_user
from filtersmith.filters import FilterLayer
from filtersmith.filters.part_gradient import PartGradient, reason_for_whole_gradient
from filtersmith.optim.chains import Chains, chains_of, name_of, owns, stores
from filtersmith.optim.fresh import known
from filtersmith.optim.hold import Rows, indices
from filtersmith.optim.state import clear_filters, keeps_nothing, places_of, refuse_unclear
from filtersmith.optim.wrappers import given_optimizers, levels, owned_by

_log = logging.getLogger("filtersmith")


class _Chosen(NamedTuple):
    """Indices of filters of several layers, in one piece of memory."""

    sizes: list[int]
    whole: Tensor
    pieces: Sequence[Tensor]


class Skipped:
    """Those of the layers of one network.

    Args:
        name: of the method, for what is said.
        model: the network.
        layers: of it. Those whose backward pass cannot leave filters out (`reason_for_whole_gradient`) do not take
            part; the log says which.
        fixed: whether equally many filters of a layer are computed in each step.
    """

    def __init__(self, name: str, model: nn.Module, layers: Sequence[FilterLayer], fixed: bool = True) -> None:
        self._name = name
        self._watch: _Watch | None = None
        self._parts: dict[str, PartGradient] = {}
        self._stateless: list[tuple[FilterLayer, Tensor]] = []
        self._known: dict[str, tuple[Any, list[Rows]]] = {}
        self._chosen: dict[tuple[Any, ...], _Chosen] = {}  # by device and names
        found = unwrap(model).modules()  # some of which may be torch.jit's
        every = [module for module in found if "weight" in dict(module.named_parameters(recurse=False))]
        for layer in layers:
            modules = [module for module in every if module._parameters["weight"] is layer.weight] or [layer.module]
            reasons = map(reason_for_whole_gradient, modules)
            if (reason := next(filter(None, reasons), None)) is not None:
                _log.info("layer %r computes the gradients of all its filters: %s", layer.name, reason)
            else:
                self._parts[layer.name] = PartGradient(layer, modules, fixed)
        if layers and not self._parts:
            warn_user(f"{name}: no layer can leave gradients of filters out (the log says why): nothing is skipped")

    def check(self, optimizer: Any) -> None:
        """``ValueError`` where nobody can tell what an optimizer keeps of single filters, or it mixes them."""
        layers = [part.layer for part in self._parts.values()]
        refuse_unclear(self._name, optimizer, layers)
        for chain in chains_of(optimizer):
            for layer in layers:
                if owns(chain, layer.weight) and known(chain, layer.weight, layer).anew != "entries":
                    raise ValueError(
                        f"{self._name} with mode='skip' needs an optimizer that keeps apart what it keeps of "
                        f"single filters, {name_of(chain)} mixes them: take mode='update'"
                    )

    def start(self, optimizer: Any) -> None:
        """From now on backward passes leave out what `compute` says, and ``optimizer`` steps (one or several)."""
        for part in self._parts.values():
            part.start()
        if self._parts:
            self._watch = self._watch or _Watch(self._name, self._parts.values())
            self._watch.expect(optimizer)

    def stop(self) -> None:
        """All gradients are computed from now on. Harmless when done already."""
        for part in self._parts.values():
            part.stop()
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    def compute_all(self, layers: Iterable[FilterLayer]) -> None:
        """Compute the gradients of all filters of some layers."""
        for layer in layers:
            if layer.name in self._parts:
                self._parts[layer.name].choose_all()

    def compute(self, masks: Mapping[str, Tensor]) -> None:
        """Compute the gradients of these filters of some layers: name -> bool, shape ``(filters,)``, on the CPU."""
        on: dict[torch.device, list[str]] = {}
        for name in filter(self._parts.__contains__, masks):
            on.setdefault(self._parts[name].layer.weight.device, []).append(name)
        for device, names in on.items():
            chosen = indices([masks[name] for name in names], [torch.device("cpu")] * len(names))
            sizes, every = [len(one) for one in chosen], torch.cat(chosen)
            key = (device, *names)
            known = self._chosen.get(key)
            if known is None or known.sizes != sizes:
                whole = every.to(device)
                known = self._chosen[key] = _Chosen(sizes, whole, whole.split(sizes))
            else:  # in the same memory, in one transfer: what is compiled stays so
                known.whole.copy_(every, non_blocking=True)
            for name, piece in zip(names, known.pieces, strict=True):
                self._parts[name].choose(piece)

    def kept(self, chains: Chains, layer: FilterLayer, held: Tensor) -> Iterable[Rows]:
        """What optimizers keep of a layer's filters that are held: their int64 indices."""
        if layer.name not in self._parts:
            return ()
        states = [store.get(layer.weight) for chain in chains for store in stores(chain)]
        now = [[*map(id, state.values())] if isinstance(state, Mapping) else id(state) for state in states]
        known, rows = self._known.get(layer.name, (None, []))
        if known != now:
            rows = [Rows(tensor, part) for tensor, part in places_of(chains, layer.weight, layer)]
            self._known[layer.name] = now, rows
        if not rows and keeps_nothing(chains, layer.weight, layer):
            self._stateless.append((layer, held))
        for one in rows:
            one.units = held
        return rows

    def clear(self, level: Any) -> None:
        """After a step: forget what the first one of an optimizer made of filters that were held."""
        for layer, held in self._stateless:
            clear_filters(level, layer, held)
        self._stateless = []


class _Watch:
    """Makes all gradients be computed where an optimizer has stepped that nobody told of.

    What was chosen is for the next step of an optimizer that is attached to. Where a training ends without a
    `Skipped.stop` and another goes on, nobody would choose anew. It is at work as long as the network lives.
    """

    _all: ClassVar[list[_Watch]] = []

    def __init__(self, name: str, parts: Iterable[PartGradient]) -> None:
        self._name = name
        self._parts, self._expected = WeakSet(parts), WeakSet[Any]()
        _look_at_every_step()
        self._all.append(self)

    def expect(self, optimizer: Any) -> None:
        """Steps of one optimizer or several are those that are meant."""
        self._expected.update(level for one in given_optimizers(optimizer) for level in levels(one))

    def end(self) -> None:
        self._parts.clear()

    @classmethod
    def all_see(cls, optimizer: Optimizer, *_: Any) -> None:
        """After a step of any optimizer."""
        cls._all[:] = [watch for watch in cls._all if watch._parts]
        for watch in cls._all:
            watch._see(optimizer)

    def _see(self, optimizer: Optimizer) -> None:
        if not self._expected.isdisjoint(levels(optimizer)):
            return
        owned = owned_by(optimizer)
        if others := [part for part in self._parts if part.leaves_out and id(part.layer.weight) in owned]:
            warn_user(
                f"{self._name} with mode='skip' was not detached, and another optimizer ({type(optimizer).__name__}) "
                "has taken a step without the gradients that were left out: from now on all are computed. Call "
                "detach() where a training ends"
            )
        for part in others:
            part.choose_all()


@cache
def _look_at_every_step() -> None:
    register_optimizer_step_post_hook(_Watch.all_see)
