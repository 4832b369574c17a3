"""Entries of parameters that are 0 and stay so through every step of an optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from filtersmith.optim.wrappers import innermost_of
from filtersmith.pruning.masks import Entries, set_zero


class KeptAtZero:
    """Sets entries to 0 again after each step, in the parameters and in what the optimizer keeps of them.

    Args:
        optimizer: one or several; as its user has it, since the innermost one may have the parameters of one rank.

    Attributes:
        entries: module and name of a parameter -> which of its entries.
    """

    def __init__(self, optimizer: Any) -> None:
        self.entries: Entries = {}
        self._optimizer = optimizer
        self._hooks: list[RemovableHandle] = []
        self.attach()

    def attach(self) -> None:
        """Put the hooks on, where there are none."""
        if not self._hooks:
            self._hooks = [o.register_step_post_hook(self._after_step) for o in innermost_of(self._optimizer)]

    def detach(self) -> None:
        """Take the hooks off; what is 0 may move again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @torch.no_grad()
    def apply(self) -> None:
        """Set the entries to 0 now."""
        for (module, name), mask in self.entries.items():
            parameter = module._parameters[name]
            assert parameter is not None, "it was there"
            mask = self.entries[module, name] = mask.to(parameter.device)
            set_zero(self._optimizer, parameter, mask)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.apply()
