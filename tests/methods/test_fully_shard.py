"""Every method on a network under fully_shard: it trains, or it is refused in one line before the first step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.optim import SGD, Adam, RMSprop
from torch.optim.lr_scheduler import StepLR

import filtersmith as fs
from filtersmith.methods import METHODS
from filtersmith.methods.spelling import Spelled

TRAINS = {"wau", "asa", "sas", "flow", "conv-lr", "kd"}
TRAINS_PREPARED = {"kflo", "do-conv", "acnet", "dbb", "dacnn"}
"""Methods that change the network before it is sharded."""


@pytest.fixture(autouse=True)
def _process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def network() -> nn.Sequential:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    return nn.Sequential(*block(3, 8), *block(8, 8), *block(8, 8), *head)


def shard(model: Any, parts: bool = True) -> None:
    if parts:
        fully_shard(model[3])
    fully_shard(model)


def text_of(name: str) -> str:
    return str(Spelled(name, {"cycles": 1, "s1": 1, "s2": 1} if name in ("repr", "dsd") else METHODS[name].tried))


def train(training: fs.Composition, model: nn.Module) -> None:
    optimizer = SGD(training.param_groups(model, 1e-3), lr=0.1, momentum=0.9)
    training.attach(model, optimizer, epochs=8, seed=0, scheduler=lambda o: StepLR(o, 4))
    for _ in range(8):
        images, labels = torch.randn(4, 3, 8, 8), torch.randint(4, (4,))
        outputs = model(images)
        (F.cross_entropy(outputs, labels) + training.penalty(images, outputs, labels)).backward()
        optimizer.step()
        optimizer.zero_grad()
        training.end_batch()
        training.end_epoch()


@pytest.mark.parametrize("name", [name for name in METHODS if name != "regulators"])  # those need residual blocks
def test_it_trains_or_is_refused_before_the_first_step(name: str) -> None:
    model = network()
    training = fs.compose(text_of(name), resolve=lambda name: network())
    if name in TRAINS_PREPARED:
        shard(sharded := network())
        with pytest.raises(ValueError, match=r"^cannot .* sharded weights \(DTensor\): .* before fully_shard$"):
            fs.compose(text_of(name)).prepare(sharded)
        model = training.prepare(model)
    shard(model, parts=name != "dacnn")  # layers that share a kernel are in one group
    if name in TRAINS | TRAINS_PREPARED:
        before = [p.full_tensor().clone() for p in model.parameters() if isinstance(p, DTensor)]
        train(training, model)
        after = [p.full_tensor() for p in model.parameters() if isinstance(p, DTensor)]
        assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
        return
    with pytest.raises(ValueError, match=r"its weight is sharded.*\(use DistributedDataParallel\)"):
        training.attach(model, SGD(model.parameters(), lr=0.1), epochs=8)
    assert set(fs.why_not(model, name)) >= {"3", "6"}, "the layers are named"


@pytest.mark.parametrize("expansion", [fs.KFLO, fs.DOConv, fs.ACNet, fs.DBB])
def test_no_average_of_factors_either(expansion: Any) -> None:
    model = fs.expand(network(), expansion(), layers=["3"])
    shard(model)
    with pytest.raises(ValueError, match=r"cannot be averaged: its weight is sharded"):
        fs.EMA(model)
    assert "3" in fs.why_not(model, "ema")


def test_no_average_where_only_something_else_is_sharded() -> None:
    model = network()
    fully_shard(model[1])
    with pytest.raises(ValueError, match=r"^cannot average sharded weights.*DistributedDataParallel\)$"):
        fs.EMA(model)


def step(model: nn.Module, optimizer: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.randn(4, 3, 8, 8, generator=generator), torch.randint(4, (4,), generator=generator)
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()


def start(sharded: bool, make: Any) -> tuple[nn.Module, Any, fs.WAU]:
    torch.manual_seed(0)
    model = network()
    if sharded:
        shard(model)
    optimizer = make(model.parameters(), lr=0.01)
    return model, optimizer, fs.WAU(model, rate=0.5, seed=1).attach(optimizer)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("make", [partial(SGD, momentum=0.9), Adam, RMSprop])
def test_distributed_checkpoints_save_and_resume(sharded: bool, make: Any) -> None:
    """To save and to load, torch steps an optimizer that has no state, so that it makes one."""
    model, optimizer, wau = start(sharded, make)
    weights, state = copy.deepcopy(get_model_state_dict(model)), wau.state_dict()
    get_optimizer_state_dict(model, optimizer)
    assert_same(get_model_state_dict(model), weights)
    assert torch.equal(wau.state_dict()["generator"], state["generator"]), "no mask is drawn"
    for n in range(2):
        step(model, optimizer, n)
    saved = copy.deepcopy([get_model_state_dict(model), get_optimizer_state_dict(model, optimizer), wau.state_dict()])
    resumed = start(sharded, make)
    set_model_state_dict(resumed[0], saved[0])
    set_optimizer_state_dict(*resumed[:2], saved[1])
    resumed[2].load_state_dict(saved[2])
    assert_same(get_optimizer_state_dict(*resumed[:2])["state"], saved[1]["state"])
    for n in range(2, 4):
        step(model, optimizer, n)
        step(*resumed[:2], n)
    assert_same(get_model_state_dict(resumed[0]), get_model_state_dict(model))


def test_an_average_of_what_was_sharded_since_is_refused_when_it_is_attached() -> None:
    ema = fs.EMA(model := network())
    shard(model)
    with pytest.raises(ValueError, match=r"cannot be averaged: its weight is sharded"):
        ema.attach(SGD(model.parameters(), lr=0.1))


def assert_same(ours: Any, theirs: Any) -> None:
    """Bit for bit."""
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        if isinstance(value, dict):
            assert_same(value, theirs[key])
        elif isinstance(value, torch.Tensor):
            one, other = (t.full_tensor() if isinstance(t, DTensor) else t for t in (value, theirs[key]))
            assert torch.equal(one, other), key
        else:
            assert value == theirs[key], key
