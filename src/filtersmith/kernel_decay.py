"""Weight decay on a kernel that is computed and no parameter: added to its gradient in the backward pass.

Decay ``d`` of a kernel ``W'`` adds ``d * W'`` to the gradient with respect to ``W'``, from where the chain rule
takes it to the parameters: what a penalty ``d/2 * ||W'||^2`` in the loss does, without computing ``W'`` a second
time. It is added once for each state of the parameters, so that backward passes that accumulate count it once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler


def with_decay(
    kernel: Tensor, decay: float, *, due: Callable[[], bool] | None = None, scaler: GradScaler | None = None
) -> Tensor:
    """The kernel, with ``decay * kernel`` added to its gradient in the backward pass.

    Args:
        kernel: any shape.
        decay: what an optimizer's ``weight_decay`` would be for a parameter.
        due: asked in each backward pass whether to add it; ``None``: always.
        scaler: the gradient scaler of the loss, by which the decay is then scaled, too.
    """
    return _WithDecay.apply(kernel, decay, due, scaler)  # type: ignore[no-any-return]


class _WithDecay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Tensor, decay: float, due: Any, scaler: Any) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.decay, ctx.due, ctx.scaler = decay, due, scaler
        return kernel.view_as(kernel)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (kernel,) = ctx.saved_tensors
        if ctx.due is None or ctx.due():
            if ctx.scaler is not None:
                kernel = ctx.scaler.scale(kernel.float())
            gradient = add_decay(gradient, kernel, ctx.decay)
        return gradient, None, None, None


def add_decay(gradient: Tensor, kernel: Tensor, decay: float) -> Tensor:
    """``gradient + decay * kernel`` in the gradient's type; in bfloat16 right on average.

    A gradient that comes in bfloat16 has 8 bits, and the decay is often less than half of its last one: rounded to
    the nearest number it would be lost at every step. So it is rounded up or down with probabilities that make the
    mean right. The chance comes from the bits themselves, no generator is touched.
    """
    if gradient.dtype != torch.bfloat16:
        return torch.add(gradient, kernel, alpha=decay).to(gradient.dtype)  # a scaled kernel is float32
    exact = gradient.float().add_(kernel, alpha=decay)
    bits = exact.view(torch.int32)
    chance = bits * -1640531527  # multiplicative hashing (Knuth): 2^32 over the golden ratio
    bits += chance.bitwise_right_shift_(16).bitwise_and_(0xFFFF)
    bits &= -0x10000
    return exact.bfloat16()
