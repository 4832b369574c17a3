"""A tensor that is computed from parameters, kept until one of them changes.

Batches whose gradients accumulate, and those of an evaluation, so share one composition of a kernel. Whether the
parameters are the same is asked of torch, which counts what is written into a tensor, and of some of their values:
what is written through ``.data``, as older optimizers and averages of weights do it, torch does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from filtersmith.reparam.sharded import gathered

Compute = Callable[..., Tensor]
SAMPLED = 64
"""How many values of a parameter are compared."""


class _Kept(NamedTuple):
    result: Tensor
    version: int
    key: tuple[Any, ...]
    values: list[Tensor]


class Reuse:
    """Calls a function of parameters only where its result may have changed.

    On the CPU: elsewhere to ask for values takes longer than to compute. Nothing is kept of sharded parameters and
    under ``torch.compile`` and ``torch.func``. A copy of it, and what is saved, has nothing.

    >>> calls, keep = [], Reuse()
    >>> parameter = nn.Parameter(torch.ones(2))
    >>> def double(parameter):
    ...     calls.append(1)
    ...     return 2 * parameter
    >>> for _ in range(3):
    ...     keep(double, [parameter]).sum().backward()
    >>> parameter.grad.tolist(), len(calls)
    ([6.0, 6.0], 1)
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def __call__(self, compute: Compute, parameters: Sequence[Tensor]) -> Tensor:
        """``compute(*parameters)``, or what it was before. Several backward passes may go through it."""
        if (
            torch.compiler.is_compiling()
            or torch._C._are_functorch_transforms_active()
            or not all(map(_is_plain, parameters))
        ):
            return compute(*parameters)
        key, values = _state(parameters), [_sample(parameter) for parameter in parameters]
        if self._kept is not None and _is_valid(self._kept, key, values):
            return self._kept.result
        self._kept = None  # before there is another one
        result: Tensor = _Repeatable.apply(compute, *parameters) if torch.is_grad_enabled() else compute(*parameters)
        if not result.is_inference():
            self._kept = _Kept(result, result._version, key, [value.clone() for value in values])
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Reuse:
        return Reuse()

    def __reduce__(self) -> tuple[type[Reuse], tuple[()]]:
        return Reuse, ()


class _Repeatable(torch.autograd.Function):
    """Computes with a graph of its own, which is not freed: it lives as long as the result."""

    @staticmethod
    def forward(ctx: Any, compute: Compute, *parameters: Tensor) -> Tensor:
        # Views, at which a backward pass of this graph ends: that of the graph around it calls the parameters' hooks.
        with torch.enable_grad():
            ctx.views = [parameter.view_as(parameter) for parameter in parameters]
        # With hooks that do nothing in front of others: those of checkpointing count what is saved, and would count
        # nothing where a result is there already.
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_itself, _itself):
            ctx.result = compute(*ctx.views)
        ctx.versions = [view._version for view in ctx.views]
        result: Tensor = ctx.result.detach()
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.versions != [view._version for view in ctx.views]:  # with hooks torch does not look
            raise RuntimeError("a parameter has been modified by an inplace operation before the backward pass")
        wanted = [one for one, needed in zip(ctx.views, ctx.needs_input_grad[1:], strict=True) if needed]
        graph = torch.is_grad_enabled()
        found = iter(torch.autograd.grad(ctx.result, wanted, gradient, retain_graph=True, create_graph=graph))
        return None, *(next(found) if needed else None for needed in ctx.needs_input_grad[1:])


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _is_valid(kept: _Kept, key: tuple[Any, ...], values: list[Tensor]) -> bool:
    """Whether a result would be the same, and nobody wrote into it."""
    same = kept.key == key and kept.result._version == kept.version
    return same and all(map(torch.equal, kept.values, values))


def _is_plain(parameter: Tensor) -> bool:
    """Whether it is all here, in memory that can be asked."""
    return type(parameter) is nn.Parameter and parameter.device.type == "cpu" and gathered(parameter) is None


def _state(parameters: Sequence[Tensor]) -> tuple[Any, ...]:
    """What a result depends on, but for values that changed without being counted."""
    cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    counted = [(id(p), p._version, p.data_ptr(), p.dtype, p.stride(), p.requires_grad) for p in parameters]
    return cast, torch.is_grad_enabled(), counted


def _sample(parameter: Tensor) -> Tensor:
    """A view of some of the values, at equal distances in memory."""
    count = min(parameter.numel(), SAMPLED)
    step = parameter.numel() // max(count, 1)
    return parameter.detach().as_strided((count,), (step,))
