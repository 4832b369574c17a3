"""The hooks around the steps of optimizers and of what wraps them, and whom they tell.

A step is what the user calls, with all that runs inside it: a wrapper's step with that of the optimizer in it, a
subclass's with its parent's. It is told of once, at its begin and at its end.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection
from functools import wraps
from types import MethodType
from typing import Any, Protocol

import torch

from filtersmith.optim.no_steps import makes_its_state, update_is_skipped
from filtersmith.optim.wrappers import innermost_of, levels

_PRE = "_optimizer_step_pre_hooks"
_MINE = "_told_of_steps"


class Listener(Protocol):
    """Who is told of steps.

    Attributes:
        order: which of several is told of an end first.
    """

    order: int

    def begin(self, level: Any) -> None: ...
    def end(self, level: Any, taken: bool) -> None: ...


class _UnderWay:
    """A step that has begun.

    Attributes:
        level: the optimizer, or wrapper, whose step it is.
        members: by id, this optimizer and what is inside.
        depth: how many of its steps inside one another have begun and not ended: a subclass's and its parent's.
        told: who was told of its begin, and of which level's.
        taken: whether it moves the weights, as far as it is known.
    """

    def __init__(self, level: Any, members: Collection[int]) -> None:
        self.level, self.members = level, members
        self.depth, self.taken = 0, False
        self.told: list[tuple[Listener, Any]] = []

    def over(self, taken: bool) -> None:
        for listener, level in sorted(self.told, key=lambda one: one[0].order):
            listener.end(level, taken)


class _UnderWayHere(threading.local):
    """The steps under way in a thread: optimizers may step in the backward pass, which has threads of its own."""

    def __init__(self) -> None:
        self.steps: list[_UnderWay] = []

    def with_inside(self, level: Any) -> _UnderWay | None:
        """The one that a step of ``level`` is part of."""
        return next((step for step in reversed(self.steps) if id(level) in step.members), None)


_here = _UnderWayHere()


class Hooks:
    """What is called before and after the steps of one optimizer, or wrapper, and whom it tells.

    It stands in that object alone. Of a wrapper that calls no hooks, as accelerate's, which often steps to accumulate
    and no more, only the end counts: until then it may move what the optimizer inside has moved.
    """

    def __init__(self, level: Any) -> None:
        self.told: list[Listener] = []
        self._members = frozenset(id(one) for one in levels(level))
        self._inner = innermost_of(level)
        self._only_ends = level not in self._inner and _PRE not in vars(level)
        setattr(level, _MINE, self)
        if _PRE in vars(level):
            level._patch_step_function()  # in case that its constructor did not call torch's
            hooks = level.register_step_pre_hook(self.before), level.register_step_post_hook(self.after)
            self._undo: list[Callable[[], None]] = [hook.remove for hook in hooks]
        else:
            self._undo = [self._around(level)]

    @staticmethod
    def on(level: Any) -> Hooks | None:
        """Those on an optimizer, if there are any."""
        found: Hooks | None = getattr(level, "__dict__", {}).get(_MINE)
        return found

    def remove(self, level: Any, listener: Listener) -> None:
        if listener in self.told:
            self.told.remove(listener)
        if not self.told:
            for undo in self._undo:
                undo()
            delattr(level, _MINE)

    def _around(self, level: Any) -> Callable[[], None]:
        """Call hooks around a step that calls none. Returns what undoes it."""
        before = vars(level).get("step")
        step = level.step

        @wraps(step)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            hooks = Hooks.on(self)
            assert hooks is not None, "they stand where this function stands"
            hooks.before(self, args, kwargs)
            result = step(*args, **kwargs)
            hooks.after(self, args, kwargs)
            return result

        mine = level.step = MethodType(wrapper, level)

        def undo() -> None:
            if vars(level).get("step") is mine:
                del level.step
                if before is not None:
                    level.step = before

        return undo

    @torch.no_grad()
    def before(self, level: Any, args: Any, kwargs: Any) -> None:
        under_way = _here.steps
        while under_way and not _runs(under_way[-1], level):
            under_way.pop().over(taken=False)  # it raised
        if (step := _here.with_inside(level)) is None:
            step = _UnderWay(level, self._members)
            under_way.append(step)
        step.depth += level is step.level
        if update_is_skipped(level) or makes_its_state(level, self._inner):
            return
        step.taken = step.taken or level in self._inner
        begun = [listener for listener, _ in step.told]
        for listener in self.told if not self._only_ends else ():
            if listener not in begun:
                listener.begin(level)
                step.told.append((listener, level))

    @torch.no_grad()
    def after(self, level: Any, args: Any, kwargs: Any) -> None:
        step = _here.with_inside(level)
        if step is None or step.level is not level:
            return  # attached in the middle of a step, or the end is that of a wrapper
        step.depth -= 1
        if step.depth == 0:
            _here.steps.remove(step)
            step.over(step.taken)


def _runs(step: _UnderWay, level: Any) -> bool:
    """Whether a step is still under way when one of ``level`` begins. Only the stack tells it from one that raised.

    Each step has a frame of torch's function that calls the hooks; the one that begins has its own.
    """
    frame, needed = sys._getframe(1), 2 if level is step.level else 1
    while needed and frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "wrapper" and frame.f_locals.get("self") is step.level:
            needed -= 1
    return not needed
