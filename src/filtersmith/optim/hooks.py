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
from weakref import ref

import torch

from filtersmith.optim.no_steps import makes_its_state, update_is_skipped
from filtersmith.optim.wrappers import innermost_of, levels

_PRE = "_optimizer_step_pre_hooks"
_MINE = "_filtersmith_hooks"
_TELLS = "_tells_of_steps"
"""A mark of functions that call hooks, which `functools.wraps` hands on to those around them."""


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
        kept: where it is kept until it is over: `_UnderWayHere` does not.
        depth: how many of its steps inside one another have begun and not ended: a subclass's and its parent's.
        told: who was told of its begin, of which level's, and what is inside that by id.
        taken: whether it moves the weights, as far as it is known.
    """

    def __init__(self, level: Any, members: Collection[int], kept: list[_UnderWay]) -> None:
        self.level, self.members, self._kept = level, members, kept
        kept.append(self)
        self.depth, self.taken = 0, False
        self.told: list[tuple[Listener, Any, Collection[int]]] = []

    def begin(self, listener: Listener, level: Any, members: Collection[int]) -> None:
        """Tell of a begin, unless it is part of one that was told of."""
        if not any(known is listener and id(level) in inside for known, _, inside in self.told):
            listener.begin(level)
            self.told.append((listener, level, members))

    def over(self, taken: bool) -> None:
        self._kept.remove(self)
        _here.end(self)
        for listener, level, _ in sorted(self.told, key=lambda one: one[0].order):
            listener.end(level, taken)


class _UnderWayHere(threading.local):
    """The steps under way in a thread: optimizers may step in the backward pass, which has threads of its own.

    The optimizers have them, so that nothing is kept of one that is dropped after a step that raised.
    """

    def __init__(self) -> None:
        self._steps: list[ref[_UnderWay]] = []

    @property
    def steps(self) -> list[_UnderWay]:
        """From the outside in."""
        return [step for one in self._steps if (step := one()) is not None]

    def begin(self, step: _UnderWay) -> None:
        self._steps.append(ref(step))

    def end(self, step: _UnderWay) -> None:
        self._steps = [ref(one) for one in self.steps if one is not step]

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
        self._under_way: list[_UnderWay] = []
        self._level, self._members = level, frozenset(id(one) for one in levels(level))
        self._inner = innermost_of(level)
        self._only_ends = level not in self._inner and _PRE not in vars(level)
        vars(level)[_MINE] = {"steps": self}
        if _PRE in vars(level):
            level._patch_step_function()  # in case that its constructor did not call torch's
            hooks = level.register_step_pre_hook(self.before), level.register_step_post_hook(self.after)
            self._undo: list[Callable[[], None]] = [hook.remove for hook in hooks]
        else:
            self._undo = [_around_step_of(level)]

    def __reduce__(self) -> tuple[Callable[[], Hooks], tuple[()]]:
        """A copy of an optimizer steps on its own, so that its hooks tell nobody: as torch drops those it knows."""
        return _telling_nobody, ()

    @staticmethod
    def on(level: Any) -> Hooks | None:
        """Those on an optimizer that tell somebody, if there are any."""
        found: Hooks | None = getattr(level, "__dict__", {}).get(_MINE, {}).get("steps")
        return found if found is not None and found.told and found._level is level else None

    def remove(self, listener: Listener) -> None:
        if listener in self.told:
            self.told.remove(listener)
        if not self.told:
            for undo in self._undo:
                undo()
            delattr(self._level, _MINE)

    @torch.no_grad()
    def before(self, level: Any, args: Any, kwargs: Any) -> None:
        if Hooks.on(level) is not self:
            return  # a wrapper may share the attributes of what is inside, and its hooks (Fabric)
        for begun in reversed(_here.steps):
            if _runs(begun, level):
                break
            begun.over(taken=False)  # it raised
        if (step := _here.with_inside(level)) is None:
            step = _UnderWay(level, self._members, self._under_way)
            _here.begin(step)
        step.depth += level is step.level
        if update_is_skipped(level) or makes_its_state(level, self._inner):
            return
        step.taken = step.taken or level in self._inner
        for listener in self.told if not self._only_ends else ():
            step.begin(listener, level, self._members)

    @torch.no_grad()
    def after(self, level: Any, args: Any, kwargs: Any) -> None:
        step = _here.with_inside(level)
        if Hooks.on(level) is not self or step is None or step.level is not level:
            return  # attached in the middle of a step, or the end is that of a wrapper
        step.depth -= 1
        if step.depth == 0:
            step.over(step.taken)


def refuse_what_cannot_be_watched(optimizer: Any) -> None:
    """``ValueError`` for a wrapper that takes no attributes, so that nobody learns when its step ends."""
    for level in levels(optimizer):
        if not hasattr(level, "__dict__"):
            raise ValueError(
                f"optimizer must take attributes, which hooks around its step() are, got {type(level).__name__} "
                f"with __slots__: hand over what is inside ({type(innermost_of(level)[0]).__name__}), if nothing "
                "else moves the weights"
            )


def _telling_nobody() -> Hooks:
    hooks = object.__new__(Hooks)
    hooks.told = []
    return hooks


def _around_step_of(level: Any) -> Callable[[], None]:
    """Call the hooks on an object around its step, which calls none. Returns what undoes it.

    What is called is found from the object, so that a copy of it does not step the one that it was made of.
    """
    own: Any = vars(level).get("step")
    of_class: Any = getattr(type(level), "step", None)
    if hasattr(level.step, _TELLS) or (own is None and of_class is None):
        return lambda: None  # a schedule's wrapper stands around it still; or what is called is the step inside
    inside = of_class if own is None else getattr(own, "__func__", own)
    bound = own is None or inside is not own

    @wraps(inside)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (hooks := Hooks.on(self)) is not None:
            hooks.before(self, args, kwargs)
        result = inside(self, *args, **kwargs) if bound else inside(*args, **kwargs)
        if hooks is not None:
            hooks.after(self, args, kwargs)
        return result

    setattr(wrapper, _TELLS, True)
    mine = level.step = MethodType(wrapper, level)

    def undo() -> None:
        if vars(level).get("step") is mine:  # else somebody's wrapper stands around it
            del level.step
            if own is not None:
                level.step = own

    return undo


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
