"""Filters that are left out of one step: no gradients of theirs are computed, nothing that is kept of them moves."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from filtersmith.common.modules import unwrap
from filtersmith.common.said import warn_user
from filtersmith.filters import FilterLayer
from filtersmith.filters.part_gradient import PartGradient, reason_for_whole_gradient
from filtersmith.optim.chains import Chains, stores
from filtersmith.optim.hold import Rows, indices
from filtersmith.optim.state import clear_filters, keeps_nothing, places_of, refuse_unclear

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
    """

    def __init__(self, name: str, model: nn.Module, layers: Sequence[FilterLayer]) -> None:
        self._name = name
        self._parts: dict[str, PartGradient] = {}
        self._stateless: list[tuple[FilterLayer, Tensor]] = []
        self._known: dict[str, tuple[Any, list[Rows]]] = {}
        self._chosen: dict[tuple[Any, ...], _Chosen] = {}  # by device and names
        every = [module for module in unwrap(model).modules() if module._parameters.get("weight") is not None]
        for layer in layers:
            modules = [module for module in every if module._parameters["weight"] is layer.weight] or [layer.module]
            reasons = map(reason_for_whole_gradient, modules)
            if (reason := next(filter(None, reasons), None)) is not None:
                _log.info("layer %r computes the gradients of all its filters: %s", layer.name, reason)
            else:
                self._parts[layer.name] = PartGradient(layer, modules)
        if layers and not self._parts:
            warn_user(f"{name}: no layer can leave gradients of filters out (the log says why): nothing is skipped")

    def check(self, optimizer: Any) -> None:
        """``ValueError`` where nobody can tell what an optimizer keeps of single filters."""
        refuse_unclear(self._name, optimizer, [part.layer for part in self._parts.values()])

    def start(self) -> None:
        """From now on backward passes leave out what `compute` says."""
        for part in self._parts.values():
            part.start()

    def stop(self) -> None:
        """All gradients are computed from now on. Harmless when done already."""
        for part in self._parts.values():
            part.stop()

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
