"""Weight decay on a kernel that is computed and no parameter: added to its gradient in the backward pass.

Decay ``d`` of a kernel ``W'`` adds ``d * W'`` to the gradient with respect to ``W'``, from where the chain rule takes
it to the parameters: what a penalty ``d/2 * ||W'||^2`` in the loss does, without computing ``W'`` a second time. It
is added once for each gradient that an optimizer sees, however many backward passes accumulate in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.distributed.tensor import DTensor

from filtersmith.common.distributed import local
from filtersmith.reparam.sharded import Gathered, gathered

Share: TypeAlias = float | Tensor
"""How much of the decay to add: 0, 1, or a tensor that is one of them (so that no device has to be waited for)."""


def with_decay(
    kernel: Tensor, decay: float, *, share: Callable[[], Share] | None = None, scaler: GradScaler | None = None
) -> Tensor:
    """The kernel, with ``decay * kernel`` added to its gradient in the backward pass.

    Args:
        kernel: any shape.
        decay: what an optimizer's ``weight_decay`` would be for a parameter.
        share: asked in each backward pass how much of it to add; ``None``: all, always.
        scaler: the gradient scaler of the loss, by which the decay is then scaled, too.
    """
    return _WithDecay.apply(kernel, decay, share, scaler)  # type: ignore[no-any-return]


class Once:
    """A share that is 1 once for each gradient: where the parameters' gradients are still empty, None or zero.

    Within one backward pass it is 1 for the first to ask: a layer may have been called several times. What matters is
    the gradient that the optimizer sees: under FSDP2 that of the sharded parameter.

    Attributes:
        sharded: whether the optimizer has sharded parameters, as far as is known.
    """

    def __init__(self) -> None:
        self._last = -1
        self.sharded = False

    def __call__(self, parameters: Sequence[Tensor]) -> Share:
        running = torch._C._current_graph_task_id()  # -1 outside of a backward pass: under torch.func
        if running == self._last != -1:
            return 0.0
        self._last = running
        # Gradients in `.grad` are those of leaves; others are handed to whoever asked for them, each time anew.
        leaves = [p for p in parameters if p.requires_grad and p.is_leaf]
        kept = [p.grad for p in leaves if p.grad is not None]
        if leaves and (shards := self._shards(leaves[0], running)) is not None and (elsewhere := shards.kept()):
            return shards.is_zero_everywhere([*elsewhere, *(local(gradient) for gradient in kept[:1])])
        return 1.0 if not kept else (kept[0] == 0).all()

    def _shards(self, parameter: Tensor, running: int) -> Gathered | None:
        found = gathered(parameter)
        if found is None and self.sharded and running != -1 and not isinstance(parameter, DTensor):
            raise ValueError(
                f"the decay of computed kernels (KFLO) cannot be counted with fully_shard in torch "
                f"{torch.__version__}: use DistributedDataParallel, or weight_decay=0 in param_groups"
            )
        return found


class _WithDecay(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(kernel: Tensor, decay: float, share: Any, scaler: Any) -> Tensor:
        return kernel.view_as(kernel)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        kernel, ctx.decay, ctx.share, ctx.scaler = inputs
        ctx.save_for_backward(kernel)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (kernel,) = ctx.saved_tensors
        share = 1.0 if ctx.share is None else ctx.share()
        if isinstance(share, Tensor):
            kernel = kernel * share
        elif share == 0:
            return gradient, None, None, None
        if ctx.scaler is not None:
            kernel = ctx.scaler.scale(kernel.float())
        return add_decay(gradient, kernel, ctx.decay), None, None, None


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
