"""What stands around an optimizer and its steps: wrappers, skipped steps, steps inside steps."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from torch.optim import Optimizer

from filtersmith.common.words import plural


def innermost(optimizer: Any) -> Optimizer:
    """The optimizer whose ``step`` moves the weights, inside wrappers (accelerate, ZeroRedundancyOptimizer)."""
    while True:
        inner = getattr(optimizer, "optimizer", None) or getattr(optimizer, "optim", None)
        if not isinstance(inner, Optimizer):
            break
        optimizer = inner
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer


def update_is_skipped(optimizer: Optimizer) -> bool:
    """Whether a gradient scaler told a fused optimizer to leave this step out.

    Fused optimizers check for infinities in their own kernel, so that ``step`` and its hooks run although no
    update happens; any other optimizer is not called at all.
    """
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and bool(found_inf)


def step_runs(optimizer: Optimizer) -> bool:
    """Whether we are inside the body of a ``step`` of ``optimizer``: a subclass's that calls ``super().step()``.

    torch runs the hooks for both. Only the stack tells this from a step that raised and so never got to its end.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "step" and frame.f_locals.get("self") is optimizer:
            return True
    return False


def warn_if_idle(method: str, layers: int, seen: int) -> None:
    """Say it when an optimizer that is attached to moves none of a method's layers: almost always a mistake."""
    if layers and not seen:
        warnings.warn(
            f"{method}: this optimizer has none of its {plural(layers, 'layer')} "
            "(was it made for another copy of the model?)",
            stacklevel=2,
        )


def innermost_of(optimizer: Any) -> tuple[Optimizer, ...]:
    """The optimizers whose steps move the weights: of one, or of a list or tuple of several."""
    given = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
    if not given:
        raise ValueError("optimizer must be a torch.optim.Optimizer or several, got none")
    found = tuple(dict.fromkeys(innermost(one) for one in given))
    if len(found) < len(given):
        raise ValueError("optimizer must be different optimizers, got one of them twice")
    return found


def groups_of(optimizer: Any) -> list[dict[str, Any]]:
    """All parameter groups of one optimizer or several, as the outermost wrapper shows them."""
    given = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
    return [group for one in given for group in one.param_groups]


def owned_by(optimizer: Any) -> set[int]:
    """The parameters, by id, that one optimizer or several have."""
    return {id(parameter) for group in groups_of(optimizer) for parameter in group["params"]}
