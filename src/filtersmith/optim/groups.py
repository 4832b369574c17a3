"""Parameter groups as all levels of a wrapped optimizer have them: read at one, written at all, put back.

Wrappers share the groups' dictionaries with what they wrap (Lookahead, accelerate), share them in a list of their own
(SAM), or have their own and copy the options at each step (ZeroRedundancyOptimizer) or never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from filtersmith.optim.wrappers import given_optimizers, levels


def group_options(group: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter group's own options (learning rate, momentum, decay), tensors copied, without its parameters."""
    own = {k: v for k, v in group.items() if k not in ("params", "param_names")}
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in own.items()}


def set_group_options(group: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Write what `group_options` gave back into a group; tensors keep being the objects that they are."""
    for key, value in options.items():
        if isinstance(group.get(key), Tensor):
            group[key].copy_(torch.as_tensor(value))  # compiled and captured optimizers hold on to the tensor itself
        else:
            group[key] = value.clone() if isinstance(value, Tensor) else value


def saved_groups(optimizer: Any) -> Callable[[], None]:
    """A function that gives all groups at all levels the options that they have now; groups that were added go."""
    before = [
        (level, [group_options(group) for group in level.param_groups]) for level in levels_with_groups(optimizer)
    ]

    def put_back() -> None:
        for level, saved in before:
            del level.param_groups[len(saved) :]  # those that were added since
            for group, options in zip(level.param_groups, saved, strict=True):
                for key in group_options(group).keys() - options.keys():
                    del group[key]
                set_group_options(group, options)

    return put_back


def levels_with_groups(optimizer: Any) -> list[Any]:
    """All levels of one optimizer or several that have parameter groups, from the outside in."""
    every = [level for one in given_optimizers(optimizer) for level in levels(one)]
    return [level for level in every if isinstance(getattr(level, "param_groups", None), list)]


def scheduled(optimizer: Any) -> tuple[Optimizer, ...]:
    """The optimizers that schedules belong to: of each chain of wrappers the outermost that has learning rates.

    A wrapper of several has none of its own, as a rule; then each of them is scheduled.
    """
    found: list[Optimizer] = []
    inside: set[int] = set()
    for level in levels_with_groups(optimizer):
        deeper = [inner for inner in levels(level) if inner is not level]
        if (
            isinstance(level, Optimizer)
            and id(level) not in inside
            and (_rated(level) or not any(map(_rated, deeper)))
        ):
            found.append(level)
            inside |= {id(one) for one in (level, *deeper)}
    return tuple(found)


class Groups:
    """The groups of an optimizer, written so that the levels inside have the options, too.

    A level that shares the dictionaries has them anyway. One with its own gets those options that were the same when
    this object was made: what differs is its own affair.

    Args:
        optimizer: one of those of `scheduled`.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._passed = {"lr"}
        self._inside = [(level, self._common(level)) for level in levels_with_groups(optimizer)[1:]]

    def options(self) -> list[dict[str, Any]]:
        """The options of each group."""
        return [group_options(group) for group in self.optimizer.param_groups]

    def rates(self) -> list[Any]:
        """The learning rate of each group, tensors copied; 0 where one has none."""
        rates = [group.get("lr", 0.0) for group in self.optimizer.param_groups]
        return [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]

    def write(self, options: Sequence[Mapping[str, Any]]) -> None:
        """Give each group these options, at all levels."""
        with self.passed_on():
            for group, own in zip(self.optimizer.param_groups, options, strict=True):
                set_group_options(group, own)

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """What changes in the groups meanwhile is passed on inside, and so is whatever has ever been.

        The rest is left: a step may keep counters among the options, which levels with groups of their own do not
        share; and a state that only the outer level was given leaves the inner ones behind.
        """
        before = {id(group): group_options(group) for group in self.optimizer.param_groups} if self._inside else {}
        yield
        if self._inside:
            for group in self.optimizer.param_groups:
                old = before.get(id(group), {})
                self._passed |= {k for k in group_options(group) if k not in old or differs(group[k], old[k])}
        for level, common in self._inside:
            for group, outer in self._pairs(level):
                set_group_options(group, {key: outer[key] for key in common & self._passed & outer.keys()})

    def forget(self, key: str) -> None:
        """Take an option out of the groups of all levels."""
        for level in levels_with_groups(self.optimizer):
            for group in level.param_groups:
                group.pop(key, None)

    def unreached(self) -> Any:
        """A level inside with learning rates of its own, to which those of the groups are not passed on."""
        for level, common in self._inside:
            if "lr" not in common and any("lr" in group for group, _ in self._pairs(level)):
                return level
        return None

    def _common(self, level: Any) -> set[str]:
        """The options that the groups of a level and the outer ones have in common, by name and value."""
        common = {key for group in level.param_groups for key in group_options(group)}
        for group, outer in self._pairs(level):
            common = {k for k in common if k in group and k in outer and not differs(group[k], outer[k])}
        return common

    def _pairs(self, level: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Each group of a level that has dictionaries of its own, with the outer group that it belongs to."""
        pairs = zip(level.param_groups, self._outer(level), strict=True)
        return [(group, outer) for group, outer in pairs if outer is not None and outer is not group]

    def _outer(self, level: Any) -> list[dict[str, Any] | None]:
        """The outer group of each group of a level: the same, one with its parameters, or the one at its place."""
        outer, inner = self.optimizer.param_groups, level.param_groups
        same = {id(group): group for group in outer}
        if all(id(group) in same for group in inner):
            return list(inner)
        of = {id(parameter): group for group in outer for parameter in group["params"]}
        by_position: list[Any] = list(outer) if len(outer) == len(inner) else [None] * len(inner)
        return [
            same.get(id(group)) or next((of[id(p)] for p in group["params"] if id(p) in of), other)
            for group, other in zip(inner, by_position, strict=True)
        ]


def differs(one: Any, other: Any) -> bool:
    """Whether two options have different values."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        numbers = all(isinstance(value, (Tensor, float, int)) for value in (one, other))
        return not numbers or not bool((torch.as_tensor(one).cpu() == torch.as_tensor(other).cpu()).all())
    return bool(one != other)


def _rated(level: Any) -> bool:
    """Whether all groups of a level have a learning rate."""
    groups: list[dict[str, Any]] = getattr(level, "param_groups", [])
    return isinstance(level, Optimizer) and bool(groups) and all("lr" in group for group in groups)
