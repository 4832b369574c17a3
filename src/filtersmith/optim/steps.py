"""What is at work in the steps that optimizers really take: one by one, or in rounds of several.

A step is none where a gradient scaler leaves it out, where a wrapper only accumulates, and where
`torch.distributed.checkpoint` steps an optimizer that has no state yet, with gradients and learning rates of 0, so
that it makes one.

What is at work on one optimizer is told in a fixed order, whoever came first: learning rates are put back, then what
is held, then zeros, then what counts steps, and averages last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from filtersmith.common.distributed import local
from filtersmith.common.said import warn_user
from filtersmith.optim.hooks import Hooks, refuse_what_cannot_be_watched
from filtersmith.optim.no_steps import has_stepped, refuse_capture, refuse_two_weights
from filtersmith.optim.wrappers import given_optimizers, groups_of, innermost_of, levels

SLOWED, HELD, ZEROS, COUNTED, AVERAGED = range(5)
"""The order in which an end is told: see the module's docstring."""

Told = Callable[[Any], None]
"""A function that is given the optimizer, or wrapper, that steps."""


class Steps:
    """Tells of the steps of the optimizers that it is attached to.

    Args:
        name: of the method, for warnings.
        order: which of those at work on one optimizer is told of an end first (`SLOWED` to `AVERAGED`).
        before: called at the begin of a step.
        after: called at the end of a step.
        none: called in place of ``after`` where it was no step, or did not come to its end.
        has_state: whether the method has a state to be loaded with that of the optimizer; then it is warned where
            only the optimizer's was (`own_state_was_loaded`).
    """

    def __init__(
        self,
        name: str,
        order: int,
        *,
        before: Told | None = None,
        after: Told | None = None,
        none: Told | None = None,
        has_state: bool = False,
    ) -> None:
        self.name: str = name
        self.order: int = order
        self._before, self._after, self._none = before, after, none
        self._attached: list[Any] = []
        self._handles: list[RemovableHandle] = []
        self._has_state = has_state
        self._loaded, self._own = False, False  # whose state was loaded since the last step
        self._seen, self._marks = False, list[tuple[Tensor, Tensor]]()
        self._resumed = False  # since `warn_if_unseen` last looked

    @property
    def optimizers(self) -> tuple[Any, ...]:
        """Those that are attached to, as they were given."""
        return tuple(self._attached)

    def attached_to(self, optimizer: Any) -> bool:
        """Whether the steps of one that was given, or of one inside, are told of."""
        mine = {inner for one in self._attached for inner in innermost_of(one)}
        return not mine.isdisjoint(innermost_of(optimizer))

    def attach(self, optimizer: Any) -> None:
        """Tell of the steps of one optimizer or several, too.

        Raises:
            ValueError: what is none, or attached to already, or keeps weights apart; nothing changed.
        """
        inner = innermost_of(optimizer)
        if self.attached_to(optimizer):
            raise ValueError(f"already attached to this {type(inner[0]).__name__}: call detach() first")
        given = given_optimizers(optimizer)
        for one in given:
            refuse_two_weights(one)
            refuse_what_cannot_be_watched(one)
        for one in given:
            self._tell_of(one)
        for one in inner if self._has_state else ():
            self._handles.append(one.register_load_state_dict_post_hook(self._state_was_loaded))
        self._attached += given
        self._mark(optimizer)

    def _tell_of(self, optimizer: Any) -> None:
        inner = innermost_of(optimizer)
        for level in levels(optimizer):
            if level in inner or callable(getattr(level, "step", None)):
                (Hooks.on(level) or Hooks(level)).told.append(self)

    def detach(self) -> None:
        """Tell of nothing any more. Harmless where nothing is attached."""
        for optimizer in self._attached:
            for level in levels(optimizer):
                if (hooks := Hooks.on(level)) is not None:
                    hooks.remove(self)
        for handle in self._handles:
            handle.remove()
        self._attached, self._handles = [], []

    def own_state_was_loaded(self) -> None:
        """To be said by whoever resumes: else the first step after an optimizer's state was loaded warns.

        Weights are loaded then, before or after, so that those to come are the ones to compare with.
        """
        self._own, self._resumed = True, True

    def warn_if_unseen(self) -> None:
        """Say it where weights have moved, and no step was ever seen: it is another object that steps."""
        if self._resumed:
            self._resumed = False
            self._marks = [(parameter, local(parameter).detach().clone()) for parameter, _ in self._marks]
        if not self._seen and any(not torch.equal(local(p), before) for p, before in self._marks):
            self._seen = True  # said once
            kind = type(innermost_of(self._attached[0])[0]).__name__ if self._attached else "optimizer"
            warn_user(
                f"{self.name}: the weights have moved, but no step of this {kind} was seen, so that {self.name} does "
                "nothing: attach to the optimizer whose step() moves them"
            )

    def begin(self, level: Any) -> None:
        refuse_capture(self.name)
        if self._loaded and not self._own:
            warn_user(
                f"{self.name}: the optimizer's state was loaded, that of {self.name} was not, and it goes on as "
                "it is: give load_state_dict() the state that was saved beside the optimizer's"
            )
        self._loaded, self._own = False, False
        if self._before is not None:
            self._before(level)

    def end(self, level: Any, taken: bool) -> None:
        if taken and not self._seen:
            self._seen, self._marks = True, []
        told = self._after if taken else self._none
        if told is not None:
            told(level)

    def _state_was_loaded(self, optimizer: Optimizer) -> None:
        self._loaded = self._loaded or any(map(has_stepped, optimizer.state.values()))

    def _mark(self, optimizer: Any) -> None:
        """Remember the values of the smallest parameter that is trained."""
        trained = (p for group in groups_of(optimizer) for p in group["params"] if p.requires_grad and p.numel())
        if not self._seen and (smallest := min(trained, key=lambda p: int(p.numel()), default=None)) is not None:
            self._marks.append((smallest, local(smallest).detach().clone()))


def warn_of_unseen(optimizer: Any) -> None:
    """`Steps.warn_if_unseen` for all that is attached to one optimizer or several."""
    for one in given_optimizers(optimizer):
        for level in levels(one):
            for listener in hooks.told if (hooks := Hooks.on(level)) is not None else ():
                if isinstance(listener, Steps):
                    listener.warn_if_unseen()


class Rounds:
    """Calls a function once for each round of steps: one step of each optimizer, or of those that take part in it.

    A round ends when all have stepped. One that steps again first ends it as well: the others have no gradients, say.
    """

    def __init__(
        self, name: str, order: int, optimizer: Any, over: Callable[[], None], has_state: bool = False
    ) -> None:
        self._over, self._stepped = over, set[Optimizer]()
        self.steps: Steps = Steps(name, order, before=self._before, after=self._after, has_state=has_state)
        self.steps.attach(optimizer)
        every = [level for one in given_optimizers(optimizer) for level in levels(one)]
        self._inside = {id(level): innermost_of(level) for level in every}
        self._all = innermost_of(optimizer)

    def close(self) -> None:
        """End a round that has begun."""
        if self._stepped:
            self._stepped = set()
            self._over()

    def detach(self) -> None:
        self.close()
        self.steps.detach()

    def _before(self, level: Any) -> None:
        if self._stepped.intersection(self._inside[id(level)]):
            self.close()

    def _after(self, level: Any) -> None:
        self._stepped.update(self._inside[id(level)])
        if self._stepped.issuperset(self._all):
            self.close()
