"""What a function does to channels, found out on noise: right, and without a trace."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from filtersmith.graph.flow import Flow, Run
from filtersmith.graph.probe import Probed, keeps_each_zero, probe

A, B = (Run("a", 6),), (Run("b", 6),)
IMAGES, FLAT = Flow(A, 2), Flow(A, 0)
MEANS = Flow(A, 2, pooled=True)
SIGNS = Flow(A, 2, dtype=torch.bool)


def in_groups(y: Tensor) -> Tensor:
    groups = y.unflatten(1, (2, 3))
    return groups / groups.norm(dim=2, keepdim=True)


def apart(spatial: int, zeros: Any = "kept", **more: Any) -> Probed:
    return Probed("apart", zeros, Flow(A, spatial, **more))


FUNCTIONS: dict[str, tuple[list[Flow], Callable[..., Any], Probed | None]] = {
    "elementwise": ([IMAGES], torch.sin, apart(2)),
    "moves zero": ([IMAGES], torch.cos, apart(2, "moved")),
    "no number": ([IMAGES], torch.log, apart(2, "lost")),
    "noise": ([IMAGES], torch.rand_like, Probed("all", "moved")),
    "pooled": ([IMAGES], lambda y: y.std((2, 3), keepdim=True), apart(2, pooled=True)),
    "features": ([IMAGES], lambda y: y.std((2, 3)), apart(0, pooled=True)),
    "one dimension less": ([IMAGES], lambda y: y.amax(3), apart(1)),
    "flattened": ([IMAGES], lambda y: y.flatten(1, 3), apart(0)),
    "squeezed": ([IMAGES], torch.squeeze, Probed("all")),
    "one position squeezed": ([MEANS], lambda y: y.squeeze(3), apart(1, pooled=True)),
    "signs": ([IMAGES], lambda y: y > 0, apart(2, dtype=torch.bool)),
    "signs and zero": ([IMAGES], lambda y: y >= 0, apart(2, "moved", dtype=torch.bool)),
    "chosen": ([SIGNS, IMAGES], lambda s, y: torch.where(s, y, 0.1 * y), apart(2)),
    "quotient": ([IMAGES, MEANS], torch.div, apart(2, "lost")),
    "of two": ([IMAGES, Flow(B, 2)], torch.maximum, Probed("all", "kept")),
    "quotient of two": ([IMAGES, Flow(B, 2)], torch.div, None),
    "of each row": ([FLAT], lambda y: y - y.mean(1, keepdim=True), Probed("all", "moved")),
    "its own numbers": ([IMAGES], lambda y: y.view(2, 6, 8, 12), None),
    "dimensions swapped": ([IMAGES], lambda y: y.transpose(1, 2), Probed("all")),
    "in groups, 0/0": ([IMAGES], in_groups, None),
    "whole width": ([IMAGES], lambda y: y * torch.ones(6, 1, 1), Probed("all")),
    "size": ([IMAGES], lambda y: y.shape[2:], Probed("size")),
    "width": ([IMAGES], lambda y: y.numel(), Probed("width")),
    "a number of it": ([IMAGES], lambda y: y.sum().item(), None),
    "written into": ([IMAGES], lambda y: y.mul_(2) * 2, None),
    "in place": ([IMAGES], lambda y: y.mul_(2), apart(2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    flows, function, expected = FUNCTIONS[name]
    assert probe(lambda tensors: function(*tensors), flows) == expected


def test_no_trace_is_left() -> None:
    numpy = pytest.importorskip("numpy")

    def noisy(tensors: Any) -> Tensor:
        random.random(), numpy.random.rand()
        return tensors[0] + torch.randn(1) * 0

    before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
    assert probe(noisy, [IMAGES]) == apart(2)
    assert random.getstate() == before[0]
    assert numpy.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_numbers_by_themselves() -> None:
    kept = (torch.sin, lambda x: x.clamp(-1, 2), torch.sqrt)
    other = (torch.cos, lambda x: x / x.std(), lambda x: x.cumsum(0), lambda x: x.flatten(), lambda x: 1 / x)
    assert all(keeps_each_zero(lambda tensors, f=f: f(tensors[0])) for f in kept)  # type: ignore[misc]
    assert not any(keeps_each_zero(lambda tensors, f=f: f(tensors[0])) for f in other)  # type: ignore[misc]
