"""A small network that trains with one optimizer or several, and all that can be compared of it.

Two twins of one set-up start from the same weights; at step n they see the same batch and draw the same random
numbers. Nothing here knows of filtersmith.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

LAYERS = ("0", "2", "5", "9")
"""Every layer with filters of the network below."""
OWN = {"2": ("2.weight", "3.weight", "3.bias"), "5": ("5.weight", "5.bias")}
"""Convolution that RePr may prune -> the parameters of which each filter has a row."""

State = dict[tuple[str, str], Any]
"""(parameter or group, key) -> what an optimizer keeps there."""


def network() -> nn.Sequential:
    """Three convolutions, one of them without a bias and with a batch norm behind it, and a linear layer.

    No two of a layer's sizes are equal, so that the filters' dimension of any tensor shows by its size. They are
    above 16, from which on the Adafactors of timm keep sums of rows and columns. No filter is ever dead: tanh.
    """
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 17, 3), nn.Tanh(), nn.Conv2d(17, 20, 3, bias=False), nn.BatchNorm2d(20), nn.Tanh())
    return nn.Sequential(
        *layers, nn.Conv2d(20, 18, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(18, 4)
    )


@dataclass(frozen=True)
class Setup:
    """What a twin is made of.

    Attributes:
        make: from a network and a weight decay to its optimizers, new ones at each call.
        closure: whether ``step`` has to be given one.
    """

    library: str
    name: str
    make: Callable[[nn.Module, float], list[Optimizer]]
    closure: bool = False
    device: str = "cpu"
    decay: float = 0.01

    def without_decay(self) -> Setup:
        return replace(self, decay=0.0)


class Twin:
    """A network in training; ``weights`` to start from, by default those of the seed."""

    def __init__(self, setup: Setup, weights: Mapping[str, Tensor] | None = None) -> None:
        self.model = network().to(setup.device)
        self._setup = setup
        self.parameters = dict(self.model.named_parameters())
        if weights is not None:
            self.load(weights)
        self.optimizers = setup.make(self.model, setup.decay)
        self.levels = [level for one in self.optimizers for level in _levels(one)]

    @property
    def optimizer(self) -> Any:
        """What a method is given: the optimizer, or a list where there are several."""
        return self.optimizers[0] if len(self.optimizers) == 1 else self.optimizers

    def step(self, n: int, still: Mapping[str, Tensor] | None = None) -> None:
        """Step n; ``still``: parameter -> bool, of its shape or of its first dimension: where its gradient is 0."""
        generator = Generator().manual_seed(n)
        images = torch.randn(16, 3, 10, 10, generator=generator).to(self._setup.device)
        labels = torch.randint(4, (16,), generator=generator).to(self._setup.device)
        second_order = any(getattr(one, "is_second_order", False) for one in self.optimizers)

        def closure() -> Tensor:
            self.model.zero_grad()
            loss = F.cross_entropy(self.model(images), labels)
            loss.backward(create_graph=second_order)
            for name, mask in (still or {}).items():
                parameter = self.parameters[name]
                assert parameter.grad is not None
                there = mask.to(parameter.device).view(*mask.shape, *[1] * (parameter.ndim - mask.ndim))
                parameter.grad = parameter.grad * ~there
            return loss

        self._seed(n)
        if self._setup.closure:
            for optimizer in self.optimizers:
                optimizer.step(closure)
        else:
            closure()
            for optimizer in self.optimizers:
                optimizer.step()
        self.model.zero_grad()

    def steps(self, first: int, count: int, still: Mapping[str, Tensor] | None = None) -> None:
        for n in range(first, first + count):
            self.step(n, still)

    def weights(self) -> dict[str, Tensor]:
        """A copy of all parameters."""
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])

    def live_state(self) -> State:
        """All that the optimizers keep, of parameters and in groups; the tensors themselves."""
        named = {id(parameter): name for name, parameter in self.parameters.items()}
        found: State = {}
        for number, level in enumerate(self.levels):
            for parameter, entry in level.state.items():
                owner = named.get(id(parameter), f"optimizer {number}")
                found |= {(owner, key): value for key, value in _flat("", entry)}
            for index, group in enumerate(level.param_groups):
                own = {key: value for key, value in group.items() if key != "params"}
                found |= {(f"group {number}.{index}", key): value for key, value in _flat("", own)}
        return found

    def state(self) -> State:
        """A copy of it."""
        return {key: _copy(value) for key, value in self.live_state().items()}

    def _seed(self, n: int) -> None:
        """The generators that a step may draw from: torch's own, and those that an optimizer has."""
        torch.default_generator.manual_seed(n)
        if self._setup.device != "cpu":
            torch.cuda.manual_seed(n)
        for level in self.levels:
            for name, value in vars(level).items():
                if isinstance(value, random.Random):
                    value.seed(n)
                elif isinstance(value, Generator):
                    setattr(level, name, Generator(self._setup.device).manual_seed(n))


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, tensors bit for bit (and NaN is NaN)."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and bool(_equal(one, other).all())
    return type(one) is type(other) and bool(one == other)


def first_difference(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> Any:
    """The first key under which two mappings differ, or None."""
    return next((key for key in {**one, **other} if not same(one.get(key), other.get(key))), None)


def _equal(one: Tensor, other: Tensor) -> Tensor:
    return (one == other) | ((one != one) & (other != other))


def _levels(optimizer: Optimizer) -> Iterator[Optimizer]:
    yield optimizer
    for value in vars(optimizer).values():
        if isinstance(value, Optimizer):
            yield from _levels(value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every entry of nested dicts, lists and tuples with its path."""
    if isinstance(value, (dict, list, tuple)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    else:
        yield name, value


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
