"""What is compiled once serves the other seeds of a method, and more methods than torch keeps by itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import filtersmith as fs
from filtersmith.lab.training import compiled as module
from filtersmith.lab.training.compiled import compiled, share_classes


class Net(nn.Sequential):
    """A class of its own: nothing that another test compiled serves it."""


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Net(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """How many were compiled, by a compiler that takes no time."""
    from torch._dynamo import config
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    monkeypatch.setattr(module.torch, "compile", partial(torch.compile, backend=counter))
    torch._dynamo.reset()
    with config.patch(recompile_limit=8, accumulated_recompile_limit=256):
        yield lambda: counter.frame_count


def step(model: nn.Module) -> None:
    compiled(model)(torch.ones(2, 3, 8, 8)).sum().backward()


METHODS: dict[str, Callable[[nn.Module], Any]] = {
    "plain": lambda model: model,
    "kflo": lambda model: fs.expand(model, fs.KFLO(depth=2, width=2)),
    "do-conv": lambda model: fs.expand(model, fs.DOConv()),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_second_seed_is_not_compiled(method: str, graphs: Callable[[], int]) -> None:
    first, second = (METHODS[method](network(seed)) for seed in (0, 1))
    step(first)
    assert graphs() == 1
    step(second)
    assert graphs() == 1
    plain = METHODS[method](network(1))
    plain(torch.ones(2, 3, 8, 8)).sum().backward()
    for parameter, other in zip(second.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(parameter.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_more_versions_than_torch_keeps_are_compiled(graphs: Callable[[], int]) -> None:
    for width in range(1, 13):
        step(fs.expand(network(0), fs.KFLO(depth=2, width=width)))
    assert graphs() == 12
    step(fs.expand(network(1), fs.KFLO(depth=2, width=1)))
    assert graphs() == 12


def test_networks_with_shared_classes_collapse() -> None:
    images = torch.randn(2, 3, 8, 8)
    one, other = (fs.expand(network(seed), fs.KFLO(depth=2, width=2)) for seed in (0, 1))
    for model in (one, other):
        share_classes(model)
    assert type(one[0]) is type(one[2]) is type(other[0])
    assert type(one[4]) is type(other[4]) is not type(one[0])
    expected = other(images)
    for model in (one, copy.deepcopy(other)):
        assert torch.allclose(fs.collapse(model)(images), model(images), atol=1e-5)
        assert type(fs.collapse(model)[0]) is nn.Conv2d
    assert torch.equal(other(images), expected)
