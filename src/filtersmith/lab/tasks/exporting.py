"""How the network of a task is called in a file for elsewhere, and when what was read back is the same network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from filtersmith.lab.training.errors import RunFailed

EXAMPLE, CHECKED = 2, (5, 1)
"""Batch size of the example that a program is traced with, and other ones that it must take."""
BATCH = "batch"
"""Name of the dimension of samples."""


class Check(NamedTuple):
    """A call whose outputs must be the network's.

    Attributes:
        inputs: of the program.
        added: to parameters of the program, by name, in memory and for this call alone: to those of the file, too.
    """

    inputs: tuple[Tensor, ...]
    added: Mapping[str, Tensor] = {}


class Exporting(Protocol):
    """What a format has to know of a task's network. Its *program* takes tensors and gives tensors."""

    @property
    def inputs(self) -> Sequence[str]:
        """Names of the program's inputs."""
        ...

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the program's outputs."""
        ...

    @property
    def exportable(self) -> bool:
        """Whether ``torch.export`` makes an ONNX file of it; else TorchScript's tracer does."""
        ...

    def described(self, format: str) -> dict[str, Any]:
        """What a file says of its program beside the facts: plain values."""
        ...

    def program(self, network: nn.Module) -> nn.Module:
        """The network as a program, which shares its parameters."""
        ...

    def example(self, format: str) -> tuple[Tensor, ...]:
        """Inputs that a program is traced with."""
        ...

    def dynamic(self, format: str) -> tuple[dict[int, str], ...]:
        """Of each input the dimensions that may have any size, by name."""
        ...

    def checks(self, format: str) -> list[Check]:
        """Calls by which a file is compared with its network."""
        ...

    def tracing(self, format: str) -> AbstractContextManager[None]:
        """What has to hold while a program is traced."""
        ...

    def compare(self, expected: Sequence[Tensor], found: Sequence[Tensor], tolerance: float) -> float:
        """The largest difference of two calls' outputs, as a fraction; ``RunFailed`` above ``tolerance``."""
        ...


@dataclass(frozen=True)
class Logits:
    """Logits (batch, classes) of a batch of any size: the network itself is the program.

    Attributes:
        inputs: names of the inputs.
        made: random inputs of a batch of so many samples.
        more: see `Exporting.described`.
    """

    inputs: tuple[str, ...]
    made: Callable[[int], tuple[Tensor, ...]]
    more: Mapping[str, Any] | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("logits",)

    @property
    def exportable(self) -> bool:
        return True

    def described(self, format: str) -> dict[str, Any]:
        return dict(self.more or {})

    def program(self, network: nn.Module) -> nn.Module:
        return network

    def example(self, format: str) -> tuple[Tensor, ...]:
        return self.made(EXAMPLE)

    def dynamic(self, format: str) -> tuple[dict[int, str], ...]:
        return tuple({0: BATCH} for _ in self.inputs)

    def checks(self, format: str) -> list[Check]:
        return [Check(self.made(size)) for size in CHECKED]

    def tracing(self, format: str) -> AbstractContextManager[None]:
        return nullcontext()

    def compare(self, expected: Sequence[Tensor], found: Sequence[Tensor], tolerance: float) -> float:
        return compare(expected[0], found[0], tolerance)


def random_images(facts: Mapping[str, Any], batch: int) -> Tensor:
    """Random images as the network gets them after normalisation, (batch, channels, size, size)."""
    shape = batch, facts["in_channels"], facts["image_size"], facts["image_size"]
    return torch.randn(shape, generator=torch.Generator().manual_seed(batch))


def compare(expected: Tensor, found: Tensor, tolerance: float) -> float:
    """The largest difference as a fraction of the largest expected output; ``RunFailed`` above ``tolerance``."""
    if expected.shape != found.shape:
        raise RunFailed(f"outputs read back are {tuple(found.shape)}, not {tuple(expected.shape)}")
    difference, largest = float((expected - found).abs().max()), float(expected.abs().max())
    if not difference <= tolerance * largest < float("inf"):  # written so that NaN fails
        raise RunFailed(f"outputs read back differ by {difference:.2g} where the largest is {largest:.2g}")
    return difference / largest if difference else 0.0


def called(program: nn.Module, check: Check) -> tuple[Tensor, ...]:
    """The outputs of a program for a check, without gradients."""
    with torch.no_grad(), _added(program, check.added):
        outputs: Tensor | tuple[Tensor, ...] = program(*check.inputs)
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


@contextmanager
def _added(program: nn.Module, added: Mapping[str, Tensor]) -> Iterator[None]:
    """With numbers added to some parameters; ``RunFailed`` where there is none of that name."""
    parameters = dict(program.named_parameters())
    if missing := sorted(set(added) - set(parameters)):
        raise RunFailed(f"what was read back has no {missing[0]}")
    before = {name: parameters[name].detach().clone() for name in added}
    try:
        for name, values in added.items():
            parameters[name].add_(values)
        yield
    finally:
        for name, values in before.items():
            parameters[name].copy_(values)
