"""A tensor that is computed from parameters, kept until one of them changes.

Batches whose gradients accumulate, and those of an evaluation, so share one composition of a kernel. Where each step
has one batch nothing is kept: whether the batches of a step are several is seen in the step before. Whether the
parameters are the same is asked of torch, which counts what is written into a tensor, and of sums over their bits:
what is written through ``.data``, as older optimizers and averages of weights do it, torch does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from filtersmith.reparam.sharded import gathered

Compute = Callable[..., Tensor]
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers of as many bytes."""


class _Kept(NamedTuple):
    made: Tensor | _Graph
    result: Tensor
    version: int
    key: tuple[Any, ...]
    sums: list[Tensor]


class Reuse:
    """Calls a function of parameters only where its result may have changed.

    On the CPU: elsewhere to ask for values takes longer than to compute. Nothing is kept of sharded parameters, nor
    where torch traces or transforms: under ``torch.compile``, ``torch.jit.trace``, ``torch.func``, with fake tensors.
    A copy of it, and what is saved, has nothing. What is kept, with what its backward pass needs, takes memory until
    the parameters change; and it holds them, so that ``torch.utils.swap_tensors`` refuses to swap them until then.

    >>> calls, keep = [], Reuse()
    >>> parameter = nn.Parameter(torch.ones(2))
    >>> def double(parameter):
    ...     calls.append(1)
    ...     return 2 * parameter
    >>> with torch.no_grad():
    ...     results = [keep(double, [parameter]) for _ in range(3)]
    >>> len(calls)
    1
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None
        self._key: tuple[Any, ...] = ()
        self._calls = 0
        """With gradients, and this key."""
        self._keeps = False
        """Whether there were several with the last one."""

    def __call__(self, compute: Compute, parameters: Sequence[Tensor]) -> Tensor:
        """``compute(*parameters)``, or what it was before. Several backward passes may go through it."""
        if _is_traced() or not all(map(_is_plain, parameters)):
            return compute(*parameters)
        key = _state(parameters)
        if torch.is_grad_enabled():
            if key != self._key:
                self._key, self._keeps, self._calls = key, self._calls > 1, 0
            self._calls += 1
            if not self._keeps:
                self._kept = None
                # Views, as `_Graph` has them: autocast keeps what it makes of a parameter, not of a view, and adds up
                # the gradients of all that is made of it in another type.
                return compute(*[parameter.view_as(parameter) for parameter in parameters])
        sums = [one for parameter in parameters for one in _sums(parameter)]
        if self._kept is None or not _is_valid(self._kept, key, sums):
            self._kept = None  # before there is another one
            made = _Graph(compute, parameters) if torch.is_grad_enabled() else compute(*parameters)
            result = made.result if isinstance(made, _Graph) else made
            if result.is_inference():
                return result
            self._kept = _Kept(made, result, result._version, key, [*sums, *_sums(result)])
        # Another object for each: hooks and gradients that somebody asks of it are those of one batch.
        if isinstance(self._kept.made, _Graph):
            repeated: Tensor = _Repeated.apply(self._kept.made, *parameters)
            return repeated
        return self._kept.result.view_as(self._kept.result)

    def __deepcopy__(self, memo: dict[int, Any]) -> Reuse:
        return Reuse()

    def __reduce__(self) -> tuple[type[Reuse], tuple[()]]:
        return Reuse, ()


class _Graph:
    """What was computed, with a graph that is not freed: it lives as long as this."""

    def __init__(self, compute: Compute, parameters: Sequence[Tensor]) -> None:
        # Views, at which a backward pass of this graph ends: that of the graph around it calls the parameters' hooks.
        self.views = [parameter.view_as(parameter) for parameter in parameters]
        # With hooks that do nothing in front of others: those of checkpointing count what is saved, and would count
        # nothing where a result is there already.
        with torch.autograd.graph.saved_tensors_hooks(_itself, _itself):
            self.result = compute(*self.views)
        self.versions = [view._version for view in self.views]


class _Repeated(torch.autograd.Function):
    """The result of a graph. Each has a backward pass of its own through it, as if it had been computed again."""

    @staticmethod
    def forward(ctx: Any, made: _Graph, *parameters: Tensor) -> Tensor:
        ctx.made = made
        return made.result.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        made, needed = ctx.made, ctx.needs_input_grad[1:]
        if made.versions != [view._version for view in made.views]:  # with hooks torch does not look
            raise RuntimeError("a parameter has been modified by an inplace operation before the backward pass")
        wanted = [view for view, needs in zip(made.views, needed, strict=True) if needs]
        graph = torch.is_grad_enabled()
        found = iter(torch.autograd.grad(made.result, wanted, gradient, retain_graph=True, create_graph=graph))
        return None, *(next(found) if needs else None for needs in needed)


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _is_valid(kept: _Kept, key: tuple[Any, ...], sums: list[Tensor]) -> bool:
    """Whether a result would be the same, and nobody wrote into it."""
    if kept.key != key or kept.result._version != kept.version:
        return False
    return all(map(torch.equal, kept.sums, [*sums, *_sums(kept.result)]))


def _is_traced() -> bool:
    """Whether something other than numbers comes out now, or a program that shall compute them later."""
    modes = torch._C._TorchDispatchModeKey
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or any(torch._C._get_dispatch_mode(mode) is not None for mode in (modes.FAKE, modes.PROXY, modes.FUNCTIONAL))
    )


def _is_plain(parameter: Tensor) -> bool:
    """Whether it is all here, in memory that can be asked."""
    return type(parameter) is nn.Parameter and parameter.device.type == "cpu" and gathered(parameter) is None


def _state(parameters: Sequence[Tensor]) -> tuple[Any, ...]:
    """What a result depends on, but for values that changed without being counted."""
    cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    counted = [(id(p), p._version, p.data_ptr(), p.dtype, p.stride(), p.requires_grad) for p in parameters]
    return cast, torch.is_grad_enabled(), counted


def _sums(tensor: Tensor) -> tuple[Tensor, ...]:
    """Of the bits of each row, and over all rows: one value cannot change without them. To add takes no memory, and a
    fiftieth of the time of composing."""
    bits = tensor.detach()
    bits = (torch.view_as_real(bits) if bits.is_complex() else bits).view(BITS[tensor.element_size()])
    if bits.ndim < 2:
        return (bits.clone(),)
    bits = bits.permute(sorted(range(bits.ndim), key=bits.stride, reverse=True))  # as they lie in memory
    return bits.sum(tuple(range(1, bits.ndim)), dtype=bits.dtype), bits.sum(0, dtype=bits.dtype)
