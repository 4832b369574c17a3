"""Classes of one's own, tried on noise: nothing of the process or of the module changes."""

from __future__ import annotations

import copy
import random

import torch
from reference.nets import assert_same
from torch import Tensor, nn
from torch.nn import functional as F

import filtersmith as fs
from filtersmith.reparam.tried import alike, is_batch_norm_and_children, trains_computed


class Behind(nn.BatchNorm2d):
    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Dropout(0.5), act

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


class OtherOrder(Behind):
    def forward(self, input: Tensor) -> Tensor:
        return self.drop(self.act(nn.BatchNorm2d.forward(self, input)))


class Frozen(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0, self.eps)


class Steps(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.9)
        return super().forward(input)


def test_batch_norms() -> None:
    assert is_batch_norm_and_children(Behind(4, nn.ReLU(inplace=True)))
    with torch.device("meta"):
        assert is_batch_norm_and_children(Behind(4, nn.GELU()))
    assert not is_batch_norm_and_children(OtherOrder(4, nn.Sigmoid()))
    assert not is_batch_norm_and_children(Frozen(4))


def test_nothing_changes() -> None:
    layer, norm = Steps(4, 4, 3), Behind(4, nn.PReLU())
    before = copy.deepcopy([layer.state_dict(), norm.state_dict()])
    states = torch.get_rng_state(), random.getstate()
    assert not trains_computed(layer, fs.KFLO())
    assert is_batch_norm_and_children(norm)
    assert_same([layer.state_dict(), norm.state_dict()], before)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_alike() -> None:
    assert alike(Behind(4, nn.ReLU())) == alike(Behind(4, nn.ReLU()))
    assert alike(Behind(4, nn.ReLU())) != alike(Behind(4, nn.ELU()))
