"""Networks expanded with every method that `fs.expand` takes, trained a little."""

from __future__ import annotations

import pytest
import torch
from reference.nets import Net, batch_number, net, train
from torch import nn
from torch.optim import SGD, Optimizer

import filtersmith as fs

METHODS = {"kflo": fs.KFLO(), "kflo-3": fs.KFLO(3, 1.5), "do-conv": fs.DOConv(), "acnet": fs.ACNet(), "dbb": fs.DBB()}

EXACT = ("kflo", "kflo-3", "do-conv")
"""Those that start as the plain network."""

every = pytest.mark.parametrize("method", METHODS)

images = batch_number(99)[0]


def sgd(model: nn.Module) -> Optimizer:
    return SGD(fs.param_groups(model, weight_decay=1e-3), lr=0.05, momentum=0.9)


def trained(method: str, steps: int = 3) -> tuple[Net, Optimizer]:
    model = net()
    assert fs.expand(model, METHODS[method]) is model
    optimizer = sgd(model)
    train(model, optimizer, steps)
    return model, optimizer


def randomise(model: nn.Module) -> None:
    """Other batch-norm statistics and values than a few steps give."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
