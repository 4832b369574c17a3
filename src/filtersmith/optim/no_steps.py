"""Steps that are none, and optimizers whose steps are not what they seem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from filtersmith.optim.wrappers import groups_of, innermost_of, levels


def update_is_skipped(optimizer: Any) -> bool:
    """Whether a gradient scaler told a fused optimizer to leave this step out.

    Fused optimizers check for infinities in their own kernel, so that ``step`` and its hooks run although no
    update happens; any other optimizer is not called at all.
    """
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and bool(found_inf)


def makes_its_state(optimizer: Any, inner: Iterable[Optimizer]) -> bool:
    """Whether this step can only make the optimizer's state, as `torch.distributed.checkpoint` has it do.

    It has no state yet; learning rates and gradients are 0.

    Args:
        inner: its innermost ones.
    """
    if any(one.state for one in inner):
        return False
    groups = groups_of(optimizer)
    if not all(group.get("lr") is not None and float(group["lr"]) == 0 for group in groups):
        return False
    gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    return bool(gradients) and not any(bool(gradient.any()) for gradient in gradients)


def has_stepped(state: Any) -> bool:
    """Whether what an optimizer keeps of a parameter is of a step, and not from its constructor."""
    if not isinstance(state, Mapping):
        return False
    step = state.get("step")
    return bool(state) and (not isinstance(step, (int, float, Tensor)) or bool(step > 0))


def refuse_two_weights(optimizer: Any) -> None:
    """``ValueError`` for an optimizer that keeps the weights to deploy apart from those that it moves."""
    inner = innermost_of(optimizer)
    for level in levels(optimizer):
        switches = callable(getattr(level, "train", None)) and callable(getattr(level, "eval", None))
        if switches and (level in inner or "train_mode" in vars(level)):  # others, as accelerate's, hand the call on
            raise ValueError(
                f"optimizer must move the weights that are deployed, got {type(level).__name__}: its eval() puts "
                "others in their place, in which nothing is held, zero or averaged; use one without eval()"
            )


def refuse_capture(name: str) -> None:
    """``ValueError`` inside the capture of a CUDA graph, whose replays would call no hooks."""
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        raise ValueError(
            f"optimizer must not step inside a captured CUDA graph, whose replays call no hooks of {name}: capture "
            "the forward and backward pass only"
        )
