"""What a network is without some filters, against what was written down by hand in reference/subnet.py."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from reference.nets import assert_same
from reference.sliced import every_other
from reference.subnet import NETS, build, entries
from torch import nn

from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.plan import ModulePlan, plan


def add_own(one: ModulePlan, found: dict[str, torch.Tensor]) -> None:
    """Mark what a module has for the filters left out."""
    for name, tensor in (*one.module.named_parameters(), *one.module.named_buffers()):
        if name == "num_batches_tracked":
            continue
        place = found[f"{one.name}.{name}"]
        assert place.shape == tensor.shape
        if isinstance(one.module, nn.ConvTranspose2d) and name == "weight":
            groups, per_group = one.module.groups, tensor.shape[1]
            for f in one.rows.tolist():
                place.unflatten(0, (groups, -1))[f // per_group, :, f % per_group] = True
        else:
            place[one.rows] = True


def add_inputs(one: ModulePlan, found: dict[str, torch.Tensor]) -> None:
    """Mark the weights with which a module reads what is left out."""
    place = found[f"{one.name}.weight"]
    if isinstance(one.module, nn.Linear):
        place.unflatten(1, (one.width, -1))[:, one.inputs] = True
    elif isinstance(one.module, nn.ConvTranspose2d):
        place[one.inputs] = True
    else:
        groups: Any = one.module.groups
        for c in one.inputs.tolist():
            place.unflatten(0, (groups, -1))[c // place.shape[1], :, c % place.shape[1]] = True


@pytest.mark.parametrize("name", NETS)
def test_it_is_what_was_written_by_hand(name: str) -> None:
    net = build(name)
    dropped = every_other(net)
    gone, found = entries(net, dropped), {key: torch.zeros_like(mask) for key, mask in entries(net, {}).items()}
    made = plan(channel_graph(net), dropped)
    assert [one.name for one in made.own][: len(dropped)] == list(dropped), "the filters come first"
    for one in made.own:
        add_own(one, found)
    for one in made.consumers:
        assert one.role == "consumer"
        add_inputs(one, found)
    assert_same(found, gone)


@pytest.mark.parametrize("name", NETS)
def test_its_tensors_mark_the_same(name: str) -> None:
    """`own_part` and `reading_weights`, which all others use, against the same by hand."""
    net = build(name)
    gone = {key: mask for key, mask in entries(net, every_other(net)).items() if key in dict(net.named_parameters())}
    found = {key: torch.zeros_like(mask) for key, mask in gone.items()}
    made = plan(channel_graph(net), every_other(net))
    for one in made.own:
        for key, _ in one.parameters():
            view, index = one.own_part(key, found[f"{one.name}.{key}"])
            view[index] = True
    for one in made.consumers:
        found[f"{one.name}.weight"] |= one.reading_weights()
    assert_same(found, gone)


@pytest.mark.parametrize("name", ["plain", "kinds", "residual", "dense", "rows", "needs all", "3d"])
def test_the_weights_that_read_a_channel_are_those_that_it_moves(name: str) -> None:
    """By brute force: in the module alone, the weights whose gradient is not 0 where only these channels are not."""
    net = build(name)
    made = plan(channel_graph(net), every_other(net)).consumers
    assert made
    for one in made:
        module: Any = copy.deepcopy(one.module)
        if isinstance(module, nn.Linear):
            x = torch.zeros(1, one.width, module.in_features // one.width, dtype=torch.float64)
            x[:, one.inputs] = 1
            x = x.flatten(1)
        else:
            x = torch.zeros(1, module.in_channels, *[6] * len(module.kernel_size), dtype=torch.float64)
            x[:, one.inputs] = 1
        module(x).sum().backward()
        assert torch.equal(one.reading_weights(), module.weight.grad != 0), one.name


def test_zeros_stand_behind_the_end_of_what_has_to_be_complete() -> None:
    made = plan(channel_graph(build("residual")), {"stem": torch.tensor([True, False, False, True])})
    assert {name for name, one in made.modules.items() if one.refilled} == {"bn"}
    assert made.modules["bn"].arriving.tolist() == [1, 2], "before them, the channels are not there"
    assert made.modules["conv1"].arriving.tolist() == [0, 1, 2, 3], "behind them, they are"
    assert made.modules["conv1"].inputs.tolist() == [0, 3]


def test_it_shows_itself() -> None:
    net = build("residual")
    graph = channel_graph(net)
    shown = str(plan(graph, {"stem": torch.tensor([True, False, False, True]), "conv1": torch.ones(5) == 0}))
    assert shown == (
        "stem: keeps 2 of 4 filters\n"
        "bn: reads 2 of 4 channels, keeps 2 of 4 of its own, zeros behind it\n"
        "conv1: reads 2 of 4 channels"
    )
    assert str(plan(graph, {})) == "nothing is left out"
    assert plan(graph, {"conv1": torch.zeros(5, dtype=torch.bool)}).modules == {}
