"""Shared kernels stay shared through everything that a network goes through, or what unties them is refused."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from reference import two_processes
from reference.nets import assert_same
from safetensors.torch import load_file, load_model, save_model
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

import filtersmith as fs
from filtersmith.sharing.ties import ties

TIED = [("first", "block.0", "block.2"), ("up", "again")]


class Small(nn.Module):
    """(batch, 4, 5, 5) -> (batch, 3); ``tied`` shares two kernels among five layers."""

    def __init__(self, seed: int = 0, *, tied: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Conv2d(4, 4, 3, padding=1)
            self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
            self.up = nn.ConvTranspose2d(4, 4, 1)
            self.again = nn.ConvTranspose2d(4, 4, 1)
            self.head = nn.Linear(4, 3)
        if tied:
            fs.share_kernels(self, TIED)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.up(self.block(self.first(x)).relu()).relu())
        return self.head(x.mean((2, 3)))


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(seed))


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = Small(1)
    other.load_state_dict(torch.load(file))
    return other


def pickled(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


def averaged(model: nn.Module) -> nn.Module:
    average = AveragedModel(model)
    average.update_parameters(model)
    return average


SURVIVED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "state_dict": saved,
    "pickle": pickled,
    "average": averaged,
    "double": lambda model: model.double().float(),
    "other storage": lambda model: model.share_memory(),
    "compile": lambda model: torch.compile(model, backend="eager"),
    "collapse": fs.collapse,
    "in a larger network": lambda model: nn.Sequential(model),
}


@pytest.mark.parametrize("through", SURVIVED)
def test_ties_survive(through: str) -> None:
    model = Small()
    expected = model(images())
    other = SURVIVED[through](model)
    assert fs.check_ties(other) == []
    torch.testing.assert_close(other(images()), expected)
    optimizer = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
    other(images()).square().sum().backward()
    optimizer.step()
    state = other.state_dict()
    for group in TIED:
        kernels = [value for name, value in state.items() if name.endswith(tuple(f"{n}.weight" for n in group))]
        assert len(kernels) == len(group)
        assert all(torch.equal(kernels[0], kernel) for kernel in kernels)
    assert fs.check_ties(other) == []


def test_safetensors_hold_a_shared_kernel_once(tmp_path: Path) -> None:
    model, other = Small(), Small(1)
    save_model(model, str(tmp_path / "tied"))
    stored = sum(tensor.numel() for tensor in load_file(tmp_path / "tied").values())
    assert stored == sum(parameter.numel() for parameter in model.parameters())
    assert load_model(other, tmp_path / "tied") == (set(), [])
    assert_same(dict(other.state_dict()), dict(model.state_dict()))
    assert fs.check_ties(other) == []


def test_layers_that_came_untied_are_named_and_refused() -> None:
    model = Small()
    model.block[2].weight = nn.Parameter(model.first.weight.detach().clone())
    assert fs.check_ties(model) == ["block.2"]
    assert fs.check_ties(nn.Sequential(nn.ReLU(), model)) == ["1.block.2"]
    with pytest.raises(ValueError, match=r"layer 'block\.2' no longer shares its kernel"):
        model(images())
    fs.share_kernels(model, TIED)
    assert fs.check_ties(model) == []
    everywhere = Small()
    for name in ("up", "again"):
        nn.utils.parametrizations.weight_norm(everywhere.get_submodule(name))
    assert fs.check_ties(everywhere) == ["up", "again"]

    nn.utils.parametrizations.weight_norm(model.first)
    assert fs.check_ties(model) == ["first"]
    model.up = nn.ConvTranspose2d(4, 4, 1)
    assert fs.check_ties(model) == ["first", "again"]
    del model.first  # gone, not untied
    assert fs.check_ties(model) == ["again"]
    assert fs.check_ties(torch.compile(model, backend="eager")) == ["_orig_mod.again"]
    assert fs.check_ties(Small(tied=False)) == []
    with pytest.raises(ValueError, match=r"^model must be a torch.nn.Module"):
        fs.check_ties({})  # type: ignore[arg-type]


def test_states_that_would_untie_are_refused_and_change_nothing() -> None:
    model = Small()
    before = copy.deepcopy(model.state_dict())
    for outer, prefix in ((model, ""), (nn.Sequential(model), "0.")):
        for state, assign, reason in (
            (Small(1, tied=False).state_dict(), False, "different kernels for 'first' and 'block.0'"),
            (Small(1).state_dict(), True, "assign=True"),
            # As safetensors name a kernel: once.
            ({"first.weight": nn.Parameter(torch.zeros(4, 4, 3, 3))}, True, "assign=True"),
        ):
            named = {f"{prefix}{name}": value for name, value in state.items()}
            with pytest.raises(ValueError, match=reason) as caught:
                outer.load_state_dict(named, strict=False, assign=assign)
            assert "\n" not in str(caught.value)
            assert_same(dict(model.state_dict()), dict(before))
    # What leaves the ties alone may be assigned, and a state may lack all but one name of a kernel.
    parameters = {name: dict(model.named_parameters(remove_duplicate=False))[name] for name in model.state_dict()}
    model.load_state_dict(parameters, assign=True)
    assert fs.check_ties(model) == []
    once = {
        name: value for name, value in Small(2).state_dict().items() if name not in ("again.weight", "first.weight")
    }
    model.load_state_dict(once, strict=False)
    assert_same(dict(model.state_dict()), dict(Small(2).state_dict()))
    diverged = {name: torch.full_like(value, torch.nan) for name, value in model.state_dict().items()}
    model.load_state_dict(diverged)
    assert all(parameter.isnan().all() for parameter in model.parameters())


def test_groups_with_a_common_layer_join() -> None:
    model = Small(tied=False)
    kernel = model.first.weight
    fs.share_kernels(model, [["block.2", "block.0"]])
    report = fs.share_kernels(model, [["block.2", "first"]])
    assert report.groups == (("first", "block.0", "block.2"),) == tuple(ties(model))
    assert model.block[0].weight is model.block[2].weight is kernel
    assert fs.share_kernels(model, [["block.2", "first"]]).groups == report.groups
    assert len(model._forward_pre_hooks) == len(model._load_state_dict_pre_hooks) == 1


def test_what_holds_a_kernel_that_goes_follows() -> None:
    """Ties of an inner network, ties by other hands, a second name."""
    outer = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), Small(tied=False))
    inner = outer[1]
    fs.share_kernels(inner, TIED)
    inner.alias = inner.first.weight
    assert fs.share_kernels(outer, [["1.block.0", "0"]]).groups == (("0", "1.first", "1.block.0", "1.block.2"),)
    assert inner.alias is outer[0].weight
    assert fs.check_ties(outer) == []
    outer(images()).sum().backward()

    model = Small(tied=False)
    model.block[2].weight = model.block[0].weight
    report = fs.share_kernels(model, [["first", "block.0"]])
    assert report.groups == (("first", "block.0", "block.2"),)
    assert report.parameters_after == report.parameters_before - 4 * 4 * 9


def test_layers_that_were_replaced_are_out_when_kernels_are_shared_again() -> None:
    for other in (nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Identity()):
        model = Small()
        model.block[2] = other
        before = copy.deepcopy(other.state_dict())
        if before:
            with pytest.raises(ValueError, match=r"'block\.2' no longer shares its kernel"):
                model(images())
        else:
            model(images())
            assert fs.check_ties(model) == [], "what has no parameters has no kernel of its own"
        assert fs.share_kernels(model, [["first", "block.0"]]).groups == (("first", "block.0"), ("up", "again"))
        assert_same(dict(other.state_dict()), dict(before))
        model(images())
    model = Small()
    nn.utils.parametrizations.weight_norm(model.block[0])
    fs.share_kernels(model, [["up", "again"]])
    assert ties(model) == [("first", "block.2"), ("up", "again")]
    model(images())


def test_copies_of_data_parallel_do_not_look() -> None:
    replica = Small()._replicate_for_data_parallel()
    replica.forward = lambda x: x
    assert replica(1) == 1


def test_sharding(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        whole, parted = Small(), Small()
        expected = whole(images())
        fully_shard(whole, mesh=mesh)
        torch.testing.assert_close(whole(images()), expected)
        whole(images()).sum().backward()
        assert fs.check_ties(whole) == []
        fully_shard(parted.block, mesh=mesh)
        fully_shard(parted, mesh=mesh)
        assert set(fs.check_ties(parted)) <= {"first", "block.0", "block.2"} != set()
        with pytest.raises(ValueError, match="share"):  # newer versions of torch say so themselves
            parted(images())
        with pytest.raises(ValueError, match=r"^cannot share kernels sharded weights"):
            fs.share_kernels(whole)
    finally:
        torch.distributed.destroy_process_group()


def work() -> dict[str, torch.Tensor]:
    """In each process: three steps with its half of a batch of 4."""
    model = Small()
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    half = slice(2 * torch.distributed.get_rank(), 2 * torch.distributed.get_rank() + 2)
    for step in range(3):
        optimizer.zero_grad()
        F.mse_loss(wrapped(torch.cat([images(step), images(step + 10)])[half]), torch.zeros(2, 3)).backward()
        optimizer.step()
    assert fs.check_ties(wrapped) == []
    return dict(model.state_dict())


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    one, other = two_processes.run(work, tmp_path)
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(3):
        optimizer.zero_grad()
        F.mse_loss(model(torch.cat([images(step), images(step + 10)])), torch.zeros(4, 3)).backward()
        optimizer.step()
    assert_same(one, other)
    torch.testing.assert_close(one, dict(model.state_dict()))
