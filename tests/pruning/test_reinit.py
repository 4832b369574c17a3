"""Filters that start anew: what is written, what is forgotten, and that nothing else is. Which may at all."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.nets import assert_same
from reference.subnet import Kinds, Net, Plain, Residual, build, entries, loss_of
from torch import Generator, Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from filtersmith.filters import FilterLayer, filter_major
from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.plan import ModulePlan, Plan, plan
from filtersmith.pruning.reinit import (
    SIZES,
    clear_states,
    held,
    new_filters,
    restart_filters,
    restart_inputs,
    shrink,
    without_state,
)
from filtersmith.pruning.subnetwork import leave_out, restore

OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], int]] = {
    "momentum": (lambda p: SGD(p, lr=0.01, momentum=0.9), 1),
    "adam": (lambda p: Adam(p, lr=0.01, amsgrad=True), 3),
}
NAMES = ["plain", "1d", "kinds", "residual", "dense", "rows", "norm not affine"]


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def some(net: Net) -> dict[str, Tensor]:
    return {name: torch.arange(filters) % 2 == 1 for name, filters in net.layers.items()}


def smaller(net: nn.Module, dropped: dict[str, Tensor]) -> Plan:
    return plan(channel_graph(net), dropped)


def trained(name: str, optimizer: str = "momentum") -> tuple[Net, Optimizer]:
    """After two steps: the optimizer has a memory of every parameter."""
    net = build(name)
    made = OPTIMIZERS[optimizer][0](net.parameters())
    for n in range(2):
        made.zero_grad()
        loss_of(net(net.images(3, n))).backward()
        made.step()
    return net, made


def memory(net: nn.Module, optimizer: Optimizer) -> dict[str, dict[str, Tensor]]:
    """Of each parameter, what the optimizer keeps that has its shape."""
    return {
        name: {key: v for key, v in optimizer.state[p].items() if isinstance(v, Tensor) and v.shape == p.shape}
        for name, p in net.named_parameters()
    }


def own_entries(net: Net, dropped: dict[str, Tensor], *, consumers_too: bool = False) -> dict[str, Tensor]:
    """Of what belongs to the filters, what is theirs alone: without the kernels that read them, or only those."""
    own = {}
    for name, mask in entries(net, dropped).items():
        module = net.get_submodule(name.rpartition(".")[0])
        mine = mask.clone()
        if name.endswith(".weight") and mask.ndim > 1:
            filters, layer = torch.zeros_like(mask), name.removesuffix(".weight")
            gone = dropped.get(layer, torch.zeros(0))
            if layer in ("dw", "dt"):  # depthwise, of kernel that nobody reads apart
                filters = mask
            elif isinstance(module, nn.ConvTranspose2d):
                per_group = mask.shape[1]
                for f in gone.nonzero().flatten().tolist():
                    filters.unflatten(0, (module.groups, -1))[f // per_group, :, f % per_group] = True
            else:
                filters[gone.nonzero().flatten()] = True
            mine = filters
        own[name] = mask & ~mine if consumers_too else mine
    return own


# --- new filters ---------------------------------------------------------------------------------------------


@given(st.integers(1, 3), st.integers(2, 5), st.integers(0, 10**6), st.floats(0.05, 3), st.booleans())
def test_new_filters(groups: int, per_group: int, seed: int, scale: float, orthogonal: bool) -> None:
    rows = torch.randn(groups * per_group, 12, generator=generator(seed), dtype=torch.float64)
    dropped = torch.rand(len(rows), generator=generator(seed + 1)) < 0.4
    dropped[seed % len(rows)] = True
    dropped[(seed + 1) % len(rows)] = False
    how: Any = "orthogonal" if orthogonal else "random"
    new, counts = new_filters(rows, dropped, groups, how, scale, generator(seed))
    assert (new.shape, new.dtype) == ((int(dropped.sum()), 12), rows.dtype)
    expected = scale * rows[~dropped].norm(dim=1).mean()
    torch.testing.assert_close(new.norm(dim=1), expected.expand(len(new)), rtol=1e-5, atol=0)
    kind = "orthogonal" if orthogonal else "random"
    assert counts == dict.fromkeys(counts, 0) | {kind: len(new)}
    assert set(counts) == {"orthogonal", "kept only", "least overlap", "random"}
    if orthogonal:  # to every filter of their own group, old and new
        of = dropped.nonzero().flatten() // per_group
        for group in range(groups):
            mine = nn.functional.normalize(new[of == group])
            old = nn.functional.normalize(rows[group * per_group : (group + 1) * per_group])
            assert (mine @ old.T).abs().sum() < 1e-6
            torch.testing.assert_close(mine @ mine.T, torch.eye(len(mine), dtype=mine.dtype), atol=1e-6, rtol=0)
    again, _ = new_filters(rows, dropped, groups, how, scale, generator(seed))
    assert torch.equal(new, again)
    assert not torch.equal(new, new_filters(rows, dropped, groups, how, scale, generator(seed + 1))[0])


def test_new_filters_where_there_is_no_room() -> None:
    rows = torch.randn(6, 4, generator=generator())
    dropped = torch.tensor([True, True, True, False, False, False])
    new, counts = new_filters(rows, dropped, 1, "orthogonal", 1.0, generator())
    assert new.dtype == torch.float32
    assert new.isfinite().all()
    assert counts["orthogonal"] == 0
    assert counts["kept only"] == 1
    assert sum(counts.values()) == 3
    # All of a depthwise layer: the length is that of the layer itself.
    new, _ = new_filters(rows, torch.ones(6, dtype=torch.bool), 6, "orthogonal", 0.5, generator())
    torch.testing.assert_close(new.norm(dim=1), 0.5 * rows.norm(dim=1).mean().expand(6))
    assert (new * rows).sum(1).abs().max() < 1e-5


# --- written and forgotten ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize("name", NAMES)
def test_these_filters_start_anew_and_nothing_else_changes(name: str, optimizer_name: str) -> None:
    net, optimizer = trained(name, optimizer_name)
    dropped = some(net)
    own, before = own_entries(net, dropped), copy.deepcopy(net.state_dict())
    remembered, whole = copy.deepcopy(memory(net, optimizer)), copy.deepcopy(optimizer.state_dict())
    parameters, random_state = [*net.parameters()], torch.get_rng_state()
    assert all(len(each) == OPTIMIZERS[optimizer_name][1] for each in remembered.values())
    draws = generator(5)
    for one in smaller(net, dropped).own:
        counts = restart_filters(one, "orthogonal", 1.0, draws)
        if isinstance(one.module, nn.modules.conv._ConvNd):
            assert sum(counts.values()) == len(one.rows)
        else:
            assert counts == {}
        clear_states(optimizer, one)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    for key, tensor in net.state_dict().items():
        mask = own[key]
        assert torch.equal(tensor[~mask], before[key][~mask]), f"{key}: more than that was written"
        kind, module = key.rpartition(".")[2], net.get_submodule(key.rpartition(".")[0])
        if kind == "weight" and tensor.ndim > 1:
            assert not mask.any() or not (tensor[mask] == before[key][mask]).any()
        else:
            fresh = {"weight": 0.25 if isinstance(module, nn.PReLU) else 1, "running_var": 1}.get(kind, 0)
            assert (tensor[mask] == fresh).all(), key
    for key, states in memory(net, optimizer).items():
        for slot, value in states.items():
            old = remembered[key][slot]
            assert torch.equal(value, old.masked_fill(own[key], 0)), f"{key}: {slot}"
    after = optimizer.state_dict()
    assert_same(after["param_groups"], whole["param_groups"])
    for n, state in whole["state"].items():
        assert_same(
            {k: v for k, v in after["state"][n].items() if k == "step"}, {k: state[k] for k in state if k == "step"}
        )


def test_new_kernels_are_orthogonal_in_every_kind_of_layer() -> None:
    """Within a group, in the layout of the layer."""
    for net, names in ((Kinds(), ("a", "dw", "g", "t", "dt", "d")), (Plain(1), ("a", "b")), (Plain(3), ("a",))):
        before = {name: net.get_submodule(name).weight.detach().clone() for name in names}
        dropped = {name: torch.arange(n) == 1 for name, n in net.layers.items()}
        for one in smaller(net, dropped).own:
            restart_filters(one, "orthogonal", 2.0, generator())
        for name, old in before.items():
            module: Any = net.get_submodule(name)
            transposed = module.groups if isinstance(module, nn.ConvTranspose2d) else None
            was, now = (filter_major(w, transposed).flatten(1) for w in (old, module.weight.detach()))
            new = (was != now).any(1)
            rows = {"dw": [2, 3]}.get(name, [1])
            assert new.nonzero().flatten().tolist() == rows
            length = 2 * (was[~new] if not new.all() else was).norm(dim=1).mean()
            torch.testing.assert_close(now[new].norm(dim=1), length.expand(len(rows)))
            group = rows[0] // (len(was) // module.groups)
            per_group = len(was) // module.groups
            others = was[group * per_group : (group + 1) * per_group]
            if len(others) < was.shape[1]:
                assert (nn.functional.normalize(now[new]) @ nn.functional.normalize(others).T).abs().max() < 1e-5


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_layout_in_memory_stays(memory_format: torch.memory_format) -> None:
    net = Kinds().to(memory_format=memory_format)  # type: ignore[call-overload]
    strides = [p.stride() for p in net.parameters()]
    left = smaller(net, some(net))
    optimizer = SGD(net.parameters(), lr=0.1)
    for one in left.own:
        restart_filters(one, "random", 1.0, generator())
    for one in left.consumers:
        restart_inputs(optimizer, one, "small", generator())
    assert [p.stride() for p in net.parameters()] == strides


# --- the kernels that read them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["zero", "small", "random"])
@pytest.mark.parametrize("name", NAMES)
def test_consumers_start_anew(name: str, how: Any) -> None:
    net, optimizer = trained(name, "adam")
    dropped = some(net)
    before, remembered = copy.deepcopy(net.state_dict()), copy.deepcopy(memory(net, optimizer))
    masks = {key: torch.zeros_like(tensor, dtype=torch.bool) for key, tensor in before.items()}
    for one in smaller(net, dropped).consumers:
        restart_inputs(optimizer, one, how, generator(len(masks)))
        masks[f"{one.name}.weight"] = one.reading_weights()
    for key, mask in own_entries(net, dropped, consumers_too=True).items():  # written by hand; a filter's own aside
        assert not (mask & ~masks[key]).any(), key
    for key, tensor in net.state_dict().items():
        mask = masks[key]
        assert torch.equal(tensor[~mask], before[key][~mask])
        if mask.any() and how == "zero":
            assert not tensor[mask].any()
        elif mask.sum() > 30:
            size = tensor[mask].square().mean().sqrt() / before[key][~mask].square().mean().sqrt()
            assert 0.5 * SIZES[how] < size < 1.6 * SIZES[how]
    for key, states in memory(net, optimizer).items():
        for slot, value in states.items():
            assert torch.equal(value, remembered[key][slot].masked_fill(masks[key], 0))


def test_with_consumers_at_zero_the_restored_network_computes_what_the_smaller_one_did() -> None:
    for name in ("plain", "kinds", "dense", "needs all"):
        net, optimizer = trained(name)
        left = smaller(net.eval(), some(net))
        leave_out(left)
        expected = net(net.images(3, 1))
        restore(left.graph)
        for one in left.own:
            restart_filters(one, "orthogonal", 1.0, generator())
        for one in left.consumers:
            restart_inputs(optimizer, one, "zero", generator())
        torch.testing.assert_close(net(net.images(3, 1)), expected, rtol=1e-9, atol=1e-9)


def test_small_kernels_where_all_are_small() -> None:
    """A layer of which every input starts anew: relative to what it was."""
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 50, 3))
    before = net[1].weight.detach().square().mean().sqrt()
    one = ModulePlan("1", net[1], "consumer", inputs=torch.tensor([0, 1]), width=2)
    restart_inputs(SGD(net.parameters(), lr=0.1), one, "small", generator())
    assert 0.08 < net[1].weight.square().mean().sqrt() / before < 0.12


# --- holding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize("name", NAMES)
def test_held_is_all_that_an_optimizer_could_move_of_them(name: str, optimizer_name: str) -> None:
    net, optimizer = trained(name, optimizer_name)
    dropped = some(net)
    own = own_entries(net, dropped)
    with torch.no_grad():
        for tensor in (t for key, p in net.named_parameters() for t in (p, *memory(net, optimizer)[key].values())):
            tensor.fill_(7)
        for one in smaller(net, dropped).own:
            for spot in held(optimizer, one, {id(p) for p in net.parameters()}):
                view, index = spot.find()
                assert (view[index] == 7).all()
                view[index] = 1
    for key, parameter in net.named_parameters():
        for tensor in (parameter, *memory(net, optimizer)[key].values()):
            assert torch.equal(tensor == 1, own[key]), key


def test_what_the_optimizer_does_not_know_yet() -> None:
    net = Residual()
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
    one = ModulePlan("", net.conv1, rows=torch.tensor([1]), filters=5)
    net.conv1.register_parameter("gain", nn.Parameter(torch.ones(1)))  # of all filters, and of none alone
    owned = {id(p) for p in net.parameters()}
    assert without_state(optimizer, one, owned)
    assert len(list(held(optimizer, one, owned))) == 2
    assert list(held(optimizer, one, owned - {id(net.conv1.weight), id(net.conv1.bias)})) == [], "another one's"
    clear_states(optimizer, one)
    assert not optimizer.state
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    net.conv1.bias.grad = None
    optimizer.step()
    assert without_state(optimizer, one, owned), "of its bias"
    assert not without_state(optimizer, ModulePlan("", net.conv2, rows=torch.tensor([1]), filters=4), owned)
    bare = ModulePlan("", nn.BatchNorm2d(4, affine=False), rows=torch.tensor([1]), filters=4)
    assert not without_state(optimizer, bare, owned)


def test_shrink() -> None:
    for module, filters in ((nn.Conv2d(2, 4, 3), 4), (nn.ConvTranspose2d(4, 6, 2, groups=2), 6)):
        before = module.weight.detach().clone()
        shrink(FilterLayer("", module), torch.tensor([1, 3]), 0.5)
        groups = module.groups if isinstance(module, nn.ConvTranspose2d) else None
        factors = torch.ones(filters).index_fill(0, torch.tensor([1, 3]), 0.5)
        was, now = filter_major(before, groups), filter_major(module.weight, groups)
        assert torch.equal(now, was * factors.view(-1, 1, 1, 1))
