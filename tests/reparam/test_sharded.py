"""Decay under fully_shard in two processes: in each gradient that the optimizer sees it is once, however it came."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from reference import two_processes
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

import filtersmith as fs
from filtersmith.reparam import sharded as sharded_module
from filtersmith.reparam.sharded import gathered

DECAY = 0.1


def expanded() -> nn.Module:
    """Of the last layer's factors the second rank has nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(36, 3, bias=False), nn.Linear(3, 1, bias=False)
    )
    fs.expand(model, fs.KFLO(2, 1), layers=["0", "2", "3"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def penalty() -> list[Tensor]:
    """The gradients of the penalty that the decay stands for."""
    model = expanded()
    sum(0.5 * DECAY * model[layer].weight.square().sum() for layer in (0, 2, 3)).backward()  # type: ignore[union-attr]
    return [p.grad for p in model.parameters() if p.grad is not None]


def backward(model: nn.Module, calls: int = 1) -> None:
    """Of a loss that is zero: gradients hold the decay alone."""
    x = torch.ones(2, 3, 5, 5)
    sum((model(x).sum() * 0.0 for _ in range(calls)), torch.zeros(())).backward()


def root(model: Any, **options: Any) -> None:
    fully_shard(model, **options)


def parts(model: Any, **options: Any) -> None:
    fully_shard(model[0], **options)
    fully_shard([model[2], model[3]], **options)
    fully_shard(model, **options)


def hybrid(model: Any) -> None:
    parts(model, mesh=init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard")))


SHARDED: dict[str, Callable[[Any], None]] = {
    "root": root,
    "parts": parts,
    "parts that stay whole": lambda model: parts(model, reshard_after_forward=False),
    "hybrid": hybrid,
    "another type": lambda model: parts(model, mp_policy=MixedPrecisionPolicy(torch.bfloat16, torch.float32)),
}


def accumulated(model: Any) -> None:
    for _ in range(3):
        backward(model)


def without_synchronisation(model: Any) -> None:
    """Gradients are in the gathered parameter, then in the sharded one as well."""
    for synchronised in (False, True, False, False, True):
        model.set_requires_gradient_sync(synchronised)
        backward(model)


def within_shards_first(model: Any) -> None:
    """Of a hybrid mesh: gradients are in a buffer that nobody has."""
    for synchronised in (False, False, True):
        model.set_requires_all_reduce(synchronised)
        backward(model)


def kept_whole(model: Any) -> None:
    """The sharded parameters are never to be seen in the modules."""
    model.set_reshard_after_backward(False)
    accumulated(model)
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def zeros_kept(model: Any) -> None:
    backward(model)
    model.zero_grad(set_to_none=False)
    accumulated(model)


def thrown_away(model: Any) -> None:
    backward(model)
    for parameter in model.parameters():
        parameter.grad = None
    accumulated(model)


def checkpointed(model: Any) -> None:
    """The backward pass computes the layers anew."""
    for _ in range(2):
        x = torch.ones(2, 3, 5, 5, requires_grad=True)
        (checkpoint(model, x, use_reentrant=False).sum() * 0.0).backward()


CASES = [
    *(("root", how) for how in (accumulated, kept_whole, zeros_kept)),
    *(
        ("parts", how)
        for how in (accumulated, without_synchronisation, kept_whole, zeros_kept, thrown_away, checkpointed)
    ),
    *(("parts that stay whole", how) for how in (accumulated, without_synchronisation, kept_whole)),
    *(("hybrid", how) for how in (accumulated, within_shards_first, zeros_kept)),
    *(("another type", how) for how in (accumulated, without_synchronisation)),
]


def gradients(shard: Callable[[Any], None], how: Callable[[Any], None], groups_first: bool) -> list[Tensor]:
    model: Any = expanded()
    if groups_first:  # as accelerate has it: prepare shards, and gives the optimizer the new parameters
        fs.param_groups(model, DECAY)
    shard(model)
    if not groups_first:
        fs.param_groups(model, DECAY)
    how(model)
    return [p.grad.full_tensor().clone() for p in model.parameters()]


def refused(model: nn.Module) -> str:
    try:
        backward(model)
    except ValueError as error:
        return str(error)
    return "not refused"


def flattened(use_orig_params: bool) -> str:
    model = expanded()
    fs.param_groups(model, DECAY)
    device = torch.device("cpu")
    return refused(FullyShardedDataParallel(model, use_orig_params=use_orig_params, device_id=device))


def records_elsewhere() -> str:
    """A torch that keeps other records."""
    model = expanded()
    root(model)
    fs.param_groups(model, DECAY)
    with mock.patch.object(sharded_module, "_groups", return_value=[]):
        return refused(model)


def everything() -> dict[str, Any]:
    cases = {
        f"{sharded}, {how.__name__}": gradients(SHARDED[sharded], how, groups_first=number % 2 == 0)
        for number, (sharded, how) in enumerate(CASES)
    }
    elsewhere = {"flattened": flattened(True), "flat": flattened(False), "records elsewhere": records_elsewhere()}
    return {**cases, **elsewhere}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return two_processes.run(everything, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(("sharded", "how"), [(sharded, how.__name__) for sharded, how in CASES])
def test_the_decay_is_in_a_sharded_gradient_once(ranks: list[dict[str, Any]], sharded: str, how: str) -> None:
    close = {"rtol": 2**-6, "atol": 1e-2} if sharded == "another type" else {"rtol": 1e-5, "atol": 1e-7}
    for rank in ranks:
        for ours, theirs in zip(rank[f"{sharded}, {how}"], penalty(), strict=True):
            torch.testing.assert_close(ours, theirs, **close)


def test_where_it_cannot_be_counted_it_is_refused(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        for flat in ("flattened", "flat"):
            assert "FullyShardedDataParallel, which flattens the weights: use" in rank[flat]
        assert "cannot be counted with fully_shard in torch" in rank["records elsewhere"]


def test_what_is_not_sharded_has_no_record() -> None:
    model = expanded()
    assert all(gathered(parameter) is None for parameter in copy.deepcopy(model).parameters())
