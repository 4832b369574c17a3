"""A network that the sweep looks at, how it is run, and what is compared of it."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from benchmarks.sweep.absent import Absent
from benchmarks.sweep.outcome import expect, one_line

CLOSE = 1e-6
"""Of float64, relative to the largest value: nothing beside a channel that is there or not."""
DRAWN = ("dropout", "rrelu")
"""Functions that draw a number for each channel: with fewer channels they draw other ones."""

Inputs = Callable[[bool], tuple[Any, ...]]
"""From whether it trains to what the network is called with."""


@dataclass(frozen=True)
class Subject:
    """A network by name.

    Attributes:
        build: makes it, the same one each time if torch's generator is seeded.
        inputs: of float64.
    """

    library: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs
    device: str = "cpu"

    def make(self) -> nn.Module:
        """A new one in float64, all of whose norms, biases and gains are something else than 0 or 1."""
        return self.copied(self._first)

    def copied(self, network: nn.Module) -> nn.Module:
        """A copy, also of what cannot be copied; copies of compiled parts get no gradients."""
        if not any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
            with suppress(Exception):
                return copy.deepcopy(network)
        twin = self._built()
        twin.load_state_dict(network.state_dict())
        return twin

    @functools.cached_property
    def _first(self) -> nn.Module:
        return self._built()

    def _built(self) -> nn.Module:
        with _seeded():
            network = self.build().double().to(self.device)
        uneven(network)
        return network.train()

    def images(self, training: bool) -> tuple[Any, ...]:
        """What it is called with, on its device."""
        return tuple(tree_map(lambda x: x.to(self.device) if isinstance(x, Tensor) else x, self.inputs(training)))


class Still(TorchFunctionMode):
    """No dropout."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(word in getattr(func, "__name__", "") for word in DRAWN):
            return args[0] if args else kwargs["input"]
        return func(*args, **(kwargs or {}))


class Found(NamedTuple):
    """What a run gives: outputs, gradients of all parameters, buffers afterwards."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def run(subject: Subject, network: nn.Module, *, training: bool, gone: Mapping[str, Tensor] | None = None) -> Found:
    """A forward pass, in training a backward pass, too; ``gone``: as the oracle has it without these filters."""
    network.train(training)
    images = subject.images(training)
    gradients = {}
    with ExitStack() as modes, torch.set_grad_enabled(training):
        modes.enter_context(_seeded())
        modes.enter_context(_undecided(network))
        modes.enter_context(mock.patch("torch.utils.checkpoint.checkpoint", _at_once))
        if gone is not None:
            modes.enter_context(Absent(network, gone))
        modes.enter_context(Still())
        outputs = {str(n): leaf for n, leaf in enumerate(tree_leaves(network(*images))) if isinstance(leaf, Tensor)}
        if training:
            network.zero_grad()
            _sum(outputs.values()).backward()
    if training:
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone()
            for name, p in network.named_parameters()
        }
        network.zero_grad()
    buffers = {name: buffer.detach().clone() for name, buffer in network.named_buffers()}
    return Found({key: value.detach() for key, value in outputs.items()}, gradients, buffers)


@contextmanager
def _undecided(network: Any) -> Iterator[None]:
    """A detector gives what it finds for every anchor: which of equal scores come first is decided by rounding."""
    if not hasattr(network, "postprocess_detections"):
        yield
        return
    with (
        mock.patch.object(network, "postprocess_detections", lambda found, *rest: [found]),
        mock.patch.object(network.transform, "postprocess", lambda found, *rest: found),
    ):
        yield


def equal(found: Found, right: Found, where: str) -> None:
    """``WrongError`` where two runs differ by more than rounding."""
    for what, one, other in zip(Found._fields, found, right, strict=True):
        expect(one.keys() >= other.keys(), f"{where}: {what} {sorted(other.keys() - one.keys())[:3]} are missing")
        largest = max((_largest(tensor) for tensor in other.values()), default=0.0)
        for name, tensor in other.items():
            scale = largest if what == "gradients" else max(_largest(tensor), 1e-3)
            apart = difference(one[name], tensor) / (scale or 1.0)
            name = "" if what == "outputs" else f" of {name}"
            expect(apart < CLOSE, f"{where}: {what}{name} differ by {apart:.0e} of the largest")


def difference(one: Tensor, other: Tensor) -> float:
    """The largest; infinite where shapes differ, or one of them is not finite."""
    if one.shape != other.shape:
        return float("inf")
    if not one.numel():
        return 0.0
    apart = float((one.detach().double() - other.detach().double()).abs().max())
    return apart if apart == apart else float("inf")


def control(subject: Subject) -> str:
    """Why a network cannot be tried here, if so: it does not run, or gives something else each time."""
    try:
        network = subject.make()
        convolutions = sum(isinstance(m, nn.modules.conv._ConvNd) for m in network.modules())
        first, again = (run(subject, subject.copied(network), training=True) for _ in range(2))
        equal(again, first, "the same again")
        for found in (first, run(subject, subject.copied(network), training=False)):
            if not found.outputs or not all(t.isfinite().all() for part in found for t in part.values()):
                return "what it gives is not finite" if found.outputs else "it gives no tensor"
    except Exception as error:
        return f"cannot be run: {one_line(error)}"
    return "" if convolutions else "it has no convolution"


@torch.no_grad()
def uneven(network: nn.Module) -> None:
    """Norms, biases and gains as after some training: what leaks through one that is 0 or 1 would not show."""
    generator = Generator().manual_seed(1)
    for tensor in _all_alike(network):
        noise = torch.rand(tensor.shape, generator=generator).to(tensor)
        first = float(tensor.flatten()[0])
        tensor.copy_(0.5 + noise if first > 0 else 0.6 * (noise - 0.5))


def _all_alike(network: nn.Module) -> Iterator[Tensor]:
    """Parameters and running statistics whose entries are all the same."""
    for tensor in dict.fromkeys((*network.parameters(), *network.buffers())):
        if tensor.is_floating_point() and tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
            yield tensor


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def _sum(outputs: Any) -> Tensor:
    """A loss in which each entry has a weight of its own."""
    total = torch.zeros((), dtype=torch.float64)
    for n, output in enumerate(output for output in outputs if output.requires_grad):
        weights = torch.randn(output.shape, generator=Generator().manual_seed(n), dtype=torch.float64)
        total = total.to(output.device) + (output * weights.to(output.device)).sum()
    return total


def _at_once(function: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """A checkpoint would run again in the backward pass, which no mode sees."""
    return function(*args)


@contextmanager
def _seeded() -> Iterator[None]:
    """The same random numbers each time, and afterwards those that would have come."""
    state = random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random.seed(0)
        yield
    random.setstate(state)
