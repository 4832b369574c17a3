"""One frozen record a method. The command line, the docs and the contract tests iterate over them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "step mask", "flow", "control", "re-parametrization", "average", "cycle", "pruning", "loss", "architecture"
]


@dataclass(frozen=True)
class Method:
    """What is known of a method without running it.

    Attributes:
        name: as users type it, with hyphens.
        kind: how it meets a training loop. ``"step mask"`` and ``"control"``: ``cls(model, **options)`` and
            ``.attach(optimizer)``, before the schedule is made. ``"average"``: likewise, and ``.network`` is
            deployed.
            ``"flow"``: ``cls(wau, optimizer, ...)`` in place of the schedule, ``.step()`` once per epoch.
            ``"re-parametrization"``: ``expand(model, cls(**options))`` before the optimizer is made, with
            `param_groups`, and ``collapse(model)`` is deployed.
        summary: one line.
        paper: where it was published.
        cls: the public class or function.
            ``"cycle"``: ``cls(model, optimizer, **options)``, ``.step()`` at the end of each epoch beside the
            schedule's, and ``.finish()`` at the end. ``"pruning"``: likewise, once and for good, and
            ``.parameters_kept`` is what is left. ``"loss"``: ``cls(model, **options)``, whose value, when called, is
            added to the loss.
            ``"architecture"``: a function, ``cls(model, **options)``, before everything else; it changes the network
            in place, also the deployed one.
        same_network: whether the deployed network is the one that was handed in.
        off: the options with which it is exactly plain training (plain restarts, for a flow); none for a
            re-parametrization, which is off when it is collapsed, and for what changes the network.
    """

    name: str
    kind: Kind
    summary: str
    paper: str
    cls: Callable[..., Any]
    same_network: bool = True
    off: Mapping[str, Any] = field(default_factory=dict)

    @property
    def card(self) -> str:
        """The method card: the docstring of the method's file."""
        return inspect.cleandoc(sys.modules[self.cls.__module__].__doc__ or "")
