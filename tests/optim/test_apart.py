"""What is tried apart from the rest of the process."""

from __future__ import annotations

import random
import sys
import warnings
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.optimizer import register_optimizer_step_pre_hook

from filtersmith.optim.apart import apart


class Noisy(SGD):
    """Counts its objects, and prints."""

    count = 0
    names: ClassVar[list[str]] = []

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        Noisy.count += 1
        Noisy.names.append("an optimizer")
        print("made")

    def step(self, closure: Any = None) -> None:
        super().step()
        setattr(Noisy, "last", self.param_groups)  # noqa: B010
        print("stepped", file=sys.stderr)


def test_nothing_is_seen_outside(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[Any] = []
    handle = register_optimizer_step_pre_hook(lambda *_: calls.append(1))
    numpy = pytest.importorskip("numpy")
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    optimizer = Noisy([weight], lr=0.1)
    with warnings.catch_warnings(record=True) as said, torch.no_grad():
        warnings.simplefilter("always")
        with apart((optimizer,)):
            assert torch.is_grad_enabled()
            warnings.warn("inside", stacklevel=1)
            torch.rand(1), random.random(), numpy.random.rand()
            Noisy([weight], lr=0.1).step()
        assert not torch.is_grad_enabled()
    assert not said
    assert not calls
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), numpy.random.get_state()[1].tolist()) == before[1:]
    SGD([weight], lr=0.1).step()
    handle.remove()
    assert calls == [1]
    assert capsys.readouterr() == ("made\n", "")
    assert (Noisy.count, Noisy.names, hasattr(Noisy, "last")) == (1, ["an optimizer"], False)
