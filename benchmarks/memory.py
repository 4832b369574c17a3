"""The memory of a training: bytes of the tensors that are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile


def size(tensors: Iterable[Tensor]) -> int:
    """Bytes of the memory behind the tensors, each piece once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def state_of(optimizer: Optimizer) -> list[Tensor]:
    return [value for one in optimizer.state.values() for value in one.values() if isinstance(value, Tensor)]


def peak(run: Callable[[], object], device: str) -> int:
    """The most bytes that a run has at a time, beyond what was there before."""
    if device == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    assert results is not None
    now = most = 0
    for event in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def of_a_step(model: nn.Module, optimizer: Optimizer, step: Callable[[], object], device: str) -> int:
    """Bytes at the peak of a training step that is not the first: parameters, state, gradients, activations."""
    step()
    optimizer.zero_grad()
    return size(model.parameters()) + size(state_of(optimizer)) + peak(step, device)
