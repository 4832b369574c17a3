"""Optimizers to step, and what is told of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from filtersmith.optim.steps import HELD, Steps


def weight() -> nn.Parameter:
    made = nn.Parameter(torch.ones(2))
    made.grad = torch.ones(2)
    return made


def told_of(optimizer: Any, order: int = HELD) -> tuple[list[tuple[str, Any]], Steps]:
    """What is told of an optimizer's steps, in a list that grows."""
    told: list[tuple[str, Any]] = []
    steps = Steps(
        "WAU",
        order,
        before=lambda level: told.append(("before", level)),
        after=lambda level: told.append(("after", level)),
        none=lambda level: told.append(("none", level)),
    )
    steps.attach(optimizer)
    return told, steps


class SAM(Optimizer):
    """Takes two steps in one: moves against itself, asks for gradients there, moves back and steps."""

    def __init__(self, parameters: Any, skip: bool = False) -> None:
        super().__init__(parameters, {"rho": 0.05})
        self.base_optimizer = SGD(self.param_groups, lr=0.1)
        self.skip = skip

    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        if not self.skip:
            self.second_step()
        return loss

    def second_step(self) -> None:
        self.base_optimizer.step()
