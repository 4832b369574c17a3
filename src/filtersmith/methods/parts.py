"""One method of a composition, and which methods go together in which order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from filtersmith.common.options import bad_option
from filtersmith.methods import METHODS
from filtersmith.methods.lifecycle import (
    asks_for,
    call,
    maker,
    needs_network,
    of_class,
    option_defaults,
    owns_schedule,
)
from filtersmith.methods.spelling import Spelled, write


@dataclass(eq=False)
class Part:
    """A method with its options, and the object that works for it once there is one.

    Attributes:
        spelled: name and options as they were given.
        made: the object; from the start where it needs no network, else from `make` on.
        options: what it is made with: the given ones, with names resolved.
    """

    spelled: Spelled
    made: Any = None
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_text(cls, spelled: Spelled, resolve: Callable[[str], Any] | None) -> Part:
        """From a text. ``ValueError`` where an option is out of range or missing, as far as the text shows it."""
        method, options = spelled.record.cls, dict(spelled.options)
        for option in of_class(method, "resolved", ()):
            if option in options:
                options[option] = _resolved(option, options[option], resolve)
        check_spelled(replace(spelled, options=options))
        part = cls(spelled, options=options)
        part.refuse_missing()
        return part if needs_network(method) else replace(part, made=maker(method)(**options))

    def refuse_missing(self) -> None:
        """``ValueError`` where an option without a default was not given."""
        for name, default in option_defaults(self.cls).items():
            if default is inspect.Parameter.empty and name not in self.options and name != "seed":
                check = of_class(self.cls, "checks", {}).get(name)
                if check is not None:
                    check(name, None)  # which says what is allowed
                raise bad_option(name, None, f"given, as in {self.spelled.name}({name}=...)")

    @property
    def cls(self) -> Any:
        return self.spelled.record.cls

    def has(self, name: str) -> bool:
        """Whether the object, or before there is one its class, takes part in a step of the lifecycle."""
        return hasattr(self.cls if self.made is None else self.made, name)

    @property
    def prepares(self) -> bool:
        return not inspect.isclass(self.cls) or hasattr(self.cls, "prepare")

    @property
    def restarts(self) -> bool:
        return owns_schedule(self.cls)

    def prepare(self, model: nn.Module) -> nn.Module:
        """The network as the method changes it."""
        if self.made is None and inspect.isclass(self.cls):
            self.make({"model": model})
        changed = self.cls(model, **self.options) if self.made is None else self.made.prepare(model)
        return changed if isinstance(changed, nn.Module) else model

    def make(self, given: Mapping[str, Any]) -> None:
        """Make the object of its options and of those given things that it asks for."""
        make = maker(self.cls)
        wanted = {*asks_for(make), *option_defaults(self.cls)}
        self.made = make(**{name: value for name, value in given.items() if name in wanted} | self.options)

    def forget(self) -> None:
        """Without an object again, where it was made for a network."""
        if needs_network(self.cls):
            self.made = None

    def parameters(self) -> list[nn.Parameter]:
        """What the method trains beside the network's parameters."""
        return list(self.made.parameters()) if self.made is not None and hasattr(self.made, "parameters") else []

    def schedule_epochs(self, epochs: int) -> int:
        function = of_class(self.cls, "schedule_epochs")
        return epochs if function is None else int(call(function, {"epochs": epochs, **self.options}))


def _resolved(option: str, value: Any, resolve: Callable[[str], Any] | None) -> Any:
    """What a name, or each of several, stands for."""
    if isinstance(value, list):
        return [_resolved(option, one, resolve) for one in value]
    if not isinstance(value, str):
        return value
    if resolve is None:
        raise bad_option(option, value, "an object: nobody here resolves names")
    return resolve(value)


def check_spelled(spelled: Spelled) -> None:
    """``ValueError`` where an option is out of range."""
    for option, check in of_class(spelled.record.cls, "checks", {}).items():
        if option in spelled.options:
            check(option, spelled.options[option])


def arranged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts, if they make sense together and in this order; else ``ValueError`` in one line."""
    text = write([part.spelled for part in parts])
    names = [part.spelled.name for part in parts]
    for name in names:
        if names.count(name) > 1:
            raise bad_option("method", text, f"without {name} twice")
    _refuse_two([part for part in parts if _place(part) == (1, 0)], "both re-parametrize the kernels")
    order = [_place(part) for part in parts]
    if order != sorted(order):
        changes = "".join(f"[{r.name} +] " for r in METHODS.values() if not r.same_network)
        allowed = f"in the order {changes}[a re-parametrization +] others"
        raise bad_option("method", text, allowed)
    refuse_together(parts)
    return tuple(parts)


def refuse_together(parts: Sequence[Part]) -> None:
    """``ValueError`` for parts that do not go together, as far as their classes, or objects, show it."""
    for what, why in (
        ("timeline", "both divide the training into phases of their own"),
        ("network", "both deploy a network of their own"),
    ):
        _refuse_two([part for part in parts if part.has(what)], why)
    takes_away = [part for part in parts if part.has("parameters_kept")]
    averages = [part for part in parts if part.has("network")]
    if takes_away and averages:
        _refuse_two([*averages, *takes_away], "the average would not have the zeros of what is pruned")


def attach_order(parts: Iterable[Part]) -> list[Part]:
    """Those that start schedules after those that change parameter groups, averages last: they see what all did."""
    return sorted(parts, key=lambda part: (part.has("network"), part.restarts))


def _place(part: Part) -> tuple[int, int]:
    """Where in the order it belongs: architecture in the order of the registry, re-parametrization, others."""
    if not part.spelled.record.same_network:
        return 0, list(METHODS).index(part.spelled.name)
    return (1, 0) if part.prepares else (2, 0)


def _refuse_two(parts: Sequence[Part], why: str) -> None:
    if len(parts) > 1:
        names = " and ".join(part.spelled.name for part in parts[:2])
        raise ValueError(f"{names} do not go together: {why}; take one of them")
