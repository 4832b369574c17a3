"""A small residual network that every method takes, and its training to the deployed network in a second."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from filtersmith.methods.composition import Composition, compose

EPOCHS, STEPS = 4, 1
OPTIONS = {"flow": "(rates=[0.5,1,0.25])", "kd": "(teacher=a)"}
"""Of methods that need some."""
IMAGES = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    """Two residual branches of four channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.branches = nn.ModuleList(branch() for _ in range(2))
        self.fc = nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out = self.stem(images)
        for part in self.branches:
            out = torch.relu(out + part(out))
        return self.fc(out.mean((2, 3)))


def branch() -> nn.Sequential:
    convolutions = (nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2))
    first, second = ((conv, nn.BatchNorm2d(4)) for conv in convolutions)
    return nn.Sequential(*first, nn.ReLU(), *second)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Residual()


def composed(text: str) -> Composition:
    return compose(text, resolve=lambda name: network(7))


def trained(text: str, *, stopped: bool = False) -> nn.Module:
    """The deployed network; ``stopped``: of a training that was saved in the middle and gone on with."""
    model, optimizer, training = begun(text)
    for epoch in range(EPOCHS):
        if stopped and epoch == EPOCHS // 2:
            states = copy.deepcopy([part.state_dict() for part in (model, optimizer, training)])
            model, optimizer, training = begun(text)
            for part, state in zip((model, optimizer, training), states, strict=True):
                part.load_state_dict(state)
        for _ in range(STEPS):
            outputs = model(IMAGES)
            loss = cross_entropy(outputs, torch.arange(8)) + training.penalty(IMAGES, outputs, torch.arange(8))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            training.end_batch()
        training.end_epoch()
    return training.finish()


def begun(text: str) -> tuple[nn.Module, Any, Composition]:
    training = composed(text)
    model = training.prepare(network())
    optimizer = SGD(training.param_groups(model, 1e-3), lr=0.05, momentum=0.9)
    training.attach(
        model,
        optimizer,
        epochs=EPOCHS,
        seed=0,
        scheduler=lambda made: LambdaLR(made, lambda step: 0.9**step),
        schedule_by="batch",
    )
    return model, optimizer, training
