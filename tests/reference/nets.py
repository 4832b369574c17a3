"""A small network with every kind of layer, and training it a few steps: what the core's tests run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from filtersmith.testing import SmallNetwork, batch_number, small_network
from filtersmith.testing import assert_same as assert_same
from filtersmith.testing import hooks_of as hooks_of

MakeOptimizer = Callable[[Any], Optimizer]

Repeating, repeating = SmallNetwork, small_network
"""`Net` with two convolutions of equal shape, whose output is added to their input."""

CONVOLUTIONS = {"dense": 8, "grouped": 6, "depthwise": 6, "up": 5, "one": 1, "grouped_up": 4}
"""Layer name -> filters of `Net`."""


class Net(nn.Module):
    """Input ``(b, 3, 6, 6)``, output ``(b, 4)``."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 6, 1, groups=2, bias=False)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.up = nn.ConvTranspose2d(6, 5, 3)
        self.one = nn.Conv2d(5, 1, 1)
        self.grouped_up = nn.ConvTranspose2d(4, 4, 2, groups=2)
        self.fc = nn.Linear(4 * 7 * 7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.grouped(self.bn(self.dense(x)).relu()).relu())
        x = self.up(x)
        x = torch.cat([x[:, :3], self.one(x)], 1).relu()
        return self.fc(self.grouped_up(x).flatten(1))


def net(seed: int = 0) -> Net:
    """A `Net` with weights of its own seed; the global generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


def batches(size: int = 4) -> Iterator[tuple[Tensor, Tensor]]:
    """All batches, without end."""
    return (batch_number(n, size) for n in count())


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    batch: tuple[Tensor, Tensor],
    penalty: Callable[[], Tensor] | None = None,
) -> Tensor:
    optimizer.zero_grad()
    loss = loss_of(model, batch)
    (loss if penalty is None else loss + penalty()).backward()
    optimizer.step()
    return loss.detach()


def train(
    model: nn.Module,
    optimizer: Optimizer,
    steps: int,
    start: int = 0,
    penalty: Callable[[], Tensor] | None = None,
) -> None:
    """On batches number ``start`` to ``start + steps``, with ``penalty()`` added to the loss."""
    for n in range(start, start + steps):
        train_step(model, optimizer, batch_number(n), penalty)


def assert_same_run(
    left: tuple[nn.Module, Optimizer], right: tuple[nn.Module, Optimizer], *, groups: bool = True
) -> None:
    """Two trained networks agree in weights, buffers and everything that their optimizers remember."""
    assert_same(left[0].state_dict(), right[0].state_dict(), "model")
    ours, theirs = left[1].state_dict(), right[1].state_dict()
    assert_same(ours["state"], theirs["state"], "state")
    if groups:
        assert_same(ours["param_groups"], theirs["param_groups"], "param_groups")


class Decaying(SGD):
    """A user's own optimizer, as many are written: torch runs the hooks for both steps."""

    def step(self, closure: Any = None) -> Any:
        out = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(0.9)
        return out


class Wrapper:
    """As accelerate's and Lightning's: an object with the real optimizer inside."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
