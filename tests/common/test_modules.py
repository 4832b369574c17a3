"""What is inside wrappers, plain names, and memory formats against the strides that torch gives."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DataParallel, DistributedDataParallel

from filtersmith.common.modules import is_sharded, memory_format, plain_name, unwrap

LAST = {4: (torch.channels_last,), 5: (torch.channels_last_3d,)}


class Named(nn.Module):
    """A user's network with an attribute of the name that wrappers use."""

    def __init__(self, **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def test_any_order_of_wrappers_comes_off(tmp_path: Path) -> None:
    inner = nn.Linear(2, 2)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        for wrappers in itertools.permutations((torch.compile, DistributedDataParallel, DataParallel), 2):
            model: Any = inner
            for wrap in wrappers:
                model = wrap(model)
            assert model is not inner
            assert unwrap(model) is inner
    finally:
        torch.distributed.destroy_process_group()
    assert unwrap(inner) is inner


def test_a_network_of_ones_own_is_no_wrapper() -> None:
    for model in (Named(module=nn.ReLU()), Named(_orig_mod="a name"), Named(_orig_mod=None)):
        assert unwrap(model) is model


def test_names_are_those_of_the_network_that_is_not_compiled() -> None:
    def build() -> nn.Sequential:
        return nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2))

    compiled = build()
    compiled[0] = torch.compile(compiled[0])
    names = [name for name, _ in torch.compile(compiled).named_parameters()]
    assert any("_orig_mod" in name for name in names)
    assert [plain_name(name) for name in names] == [name for name, _ in build().named_parameters()]
    assert plain_name("not_orig_mod.own_orig_mod") == "not_orig_mod.own_orig_mod"


@pytest.mark.parametrize("dims", [1, 2, 3, 4, 5])
def test_a_memory_format_is_the_one_that_the_strides_have(dims: int) -> None:
    for shape in itertools.product((1, 2, 3), repeat=dims):
        usual = torch.empty(shape).stride()
        for wanted in (torch.contiguous_format, *LAST.get(dims, ())):
            tensor = torch.empty(shape, memory_format=wanted)
            found = memory_format(tensor)
            assert torch.empty(shape, memory_format=found).stride() == tensor.stride(), "it names how the tensor lies"
            assert found == torch.contiguous_format or tensor.stride() != usual, (
                "the usual one where both are the same"
            )


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 5, 6)])
def test_what_lies_in_neither_way_counts_as_contiguous(shape: tuple[int, ...]) -> None:
    (last,) = LAST[len(shape)]
    for tensor in (torch.empty(shape), torch.empty(shape, memory_format=last)):
        for part in (tensor.transpose(0, 1), tensor[..., ::2], tensor[:, :, ::2], tensor[:, ::2], tensor[:, :2]):
            assert memory_format(part) == torch.contiguous_format
    assert memory_format(torch.empty(shape, memory_format=last)[:1]) == last


def test_what_is_spread_over_ranks_is_sharded(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        flat = FullyShardedDataParallel(nn.Linear(2, 2), device_id=torch.device("cpu"))
        parts, whole = (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2))
        fully_shard(parts[1])
        assert [is_sharded(model) for model in (nn.Sequential(flat), parts, torch.compile(parts), whole)] == [
            True,
            True,
            True,
            False,
        ]
        assert not is_sharded(DistributedDataParallel(whole))
    finally:
        torch.distributed.destroy_process_group()


def test_a_module_of_lightnings_fabric_is_unwrapped() -> None:
    fabric = pytest.importorskip("lightning.fabric")
    network = nn.Linear(2, 2)
    assert unwrap(fabric.Fabric(accelerator="cpu", devices=1).setup_module(network)) is network
