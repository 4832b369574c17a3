"""Entries of parameters that are 0 and stay so through every step of an optimizer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from filtersmith.optim.chains import chains_of
from filtersmith.optim.state import clear_elements
from filtersmith.optim.steps import ZEROS, Steps
from filtersmith.optim.strangers import Strangers
from filtersmith.optim.wrappers import given_optimizers, owned_by
from filtersmith.pruning.masks import Entries, set_zero


class KeptAtZero:
    """Sets entries of parameters to 0 again after each step, and what the optimizer keeps of them to a fresh one's.

    What is frozen is never written into.

    Args:
        name: of the method, for warnings.
        optimizer: one or several; as its user has it, since the innermost one may have the parameters of one rank.

    Attributes:
        entries: module and name of a parameter -> which of its entries.
    """

    def __init__(self, name: str, optimizer: Any) -> None:
        self._entries: Entries = {}
        self._optimizer = optimizer
        self._strangers = Strangers(self._met)
        self.steps: Steps = Steps(name, ZEROS, after=self._after_step, has_state=True)
        self.attach()

    @property
    def entries(self) -> Entries:
        return self._entries

    @entries.setter
    def entries(self, entries: Entries) -> None:
        self._entries = entries
        self._watch()

    def attach(self) -> None:
        """Keep them at 0 from now on, if they are not yet."""
        if not self.steps.optimizers:
            self.steps.attach(self._optimizer)
        self._watch()

    def detach(self) -> None:
        """What is 0 may move again."""
        self._strangers.stop()
        self.steps.detach()

    @torch.no_grad()
    def apply(self) -> None:
        """Set the entries to 0 now."""
        self._apply(None)

    @torch.no_grad()
    def release(self) -> None:
        """Let the entries move again, under an optimizer that knows nothing of them."""
        for (module, name), mask in self.entries.items():
            parameter = module._parameters[name]
            assert parameter is not None, "it was there"
            clear_elements(self._optimizer, parameter, mask, mixed=True)
        self.entries = {}

    def _watch(self) -> None:
        if self.entries and self.steps.optimizers:
            parameters = (module._parameters[name] for module, name in self.entries)
            self._strangers.watch((p for p in parameters if p is not None), self._optimizer)
        else:
            self._strangers.stop()

    def _met(self, optimizer: Any) -> None:
        """Another optimizer has some of what is 0: a second one, that nobody told of."""
        if not self.steps.attached_to(optimizer):
            self.steps.attach(optimizer)
            self._optimizer = [*given_optimizers(self._optimizer), optimizer]
        self._watch()

    def _after_step(self, level: Any) -> None:
        self._apply(owned_by(level))

    def _apply(self, owned: Collection[int] | None) -> None:
        """Set the entries of these parameters, by id, to 0; of all where none are given; frozen ones stay."""
        chains = chains_of(self._optimizer)
        for (module, name), mask in self.entries.items():
            parameter = module._parameters[name]
            assert parameter is not None, "it was there"
            if parameter.requires_grad and (owned is None or id(parameter) in owned):
                mask = self.entries[module, name] = mask.to(parameter.device)
                set_zero(chains, parameter, mask)
