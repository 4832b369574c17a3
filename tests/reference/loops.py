"""A plain training loop with a composition: what trainers that others keep are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

import filtersmith as fs
from filtersmith.testing import batch_number

Batch = tuple[Tensor, Tensor]


def batches_of(count: int) -> list[Batch]:
    """The first of all batches."""
    return [batch_number(number) for number in range(count)]


def trained(
    network: nn.Module,
    methods: Any,
    batches: Sequence[Batch],
    epochs: int,
    make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    *,
    seed: int = 0,
    scheduler: Any = None,
    accumulate: int = 1,
    divided_by_batches: bool = False,
    clip: float | None = None,
    bf16: bool = False,
    cache: bool = True,
) -> fs.Composition:
    """The loop of the README, for a training that has ended."""
    training = fs.compose(methods)
    torch.manual_seed(seed)
    network = training.prepare(network)
    optimizer = make(training.param_groups(network, weight_decay=1e-2))
    training.attach(network, optimizer, epochs=epochs, seed=seed, scheduler=scheduler)
    network.train()
    for _ in range(epochs):
        for number, (images, labels) in enumerate(batches, start=1):
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache) if bf16 else nullcontext():
                outputs = network(images)
                loss = F.cross_entropy(outputs, labels)
            loss = loss + training.penalty(images, outputs, labels)
            left = len(batches) - (number - 1) // accumulate * accumulate
            (loss / (min(accumulate, left) if divided_by_batches else accumulate)).backward()
            if number % accumulate and number < len(batches):
                continue
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            training.end_batch()
        training.end_epoch()
    training.finish()
    return training


def of_batches(batches: Sequence[Batch]) -> torch.utils.data.DataLoader[Batch]:
    """A loader of these batches, in this order."""
    return torch.utils.data.DataLoader(list(batches), batch_size=None)


def sgd(groups: Any) -> SGD:
    return SGD(groups, lr=0.05, momentum=0.9)


def same(found: nn.Module, expected: nn.Module, tolerance: float = 1e-5) -> None:
    """``AssertionError`` unless two networks have the same state, up to a tolerance."""
    assert list(found.state_dict()) == list(expected.state_dict())
    for (name, one), other in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
