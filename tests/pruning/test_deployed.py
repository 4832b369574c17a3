"""What a sub-network is as a plain network: its state, loaded into one that was never touched, computes the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.calls import Calls
from reference.nets import assert_same
from reference.sliced import TIGHT, assert_restored, every_other, sliced
from reference.subnet import NETS, build, loss_of
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.deployed import leave_out_of, plain_state_dict, refuse_what_stays_sliced
from filtersmith.pruning.masks import not_by_zeros
from filtersmith.pruning.plan import plan
from filtersmith.pruning.subnetwork import leave_out, restore

REFUSED = (
    "layer 'a' cannot be deployed without some filters: gate makes something else of zeros, where they are added to "
    "others; deploy in a full phase"
)


@settings(max_examples=20)
@given(st.sampled_from(sorted(NETS)), st.integers(0, 1000), st.data())
def test_a_plain_network_with_its_state_computes_what_the_sub_network_does(
    name: str, seed: int, data: st.DataObject
) -> None:
    net, plain = build(name, seed), build(name, seed + 1)
    dropped = {}
    for layer, filters in net.layers.items():
        dropped[layer] = torch.tensor(data.draw(st.lists(st.booleans(), min_size=filters, max_size=filters)))
        dropped[layer][data.draw(st.integers(0, filters - 1))] = False
    before = copy.deepcopy(net.state_dict())
    graph = sliced(net, dropped)
    state = plain_state_dict(net)
    assert list(state) == list(before)
    assert_same(net.state_dict(), before, "what is resumed from")
    assert_same(copy.deepcopy(net).state_dict(), state, "a copy")
    plain.load_state_dict(state, strict=True)
    images = net.images(3, seed)
    for mode in (False, True):
        ours, theirs = plain.train(mode)(images), net.train(mode)(images)
        torch.testing.assert_close(ours, theirs, **TIGHT)
        torch.testing.assert_close(loss_of(ours), loss_of(theirs), **TIGHT)
    restore(graph)
    net.load_state_dict(before)
    whole = plain_state_dict(net)
    assert_same(whole, before, "where nothing is left out")
    for ours, theirs in zip(whole.values(), net.state_dict().values(), strict=True):
        assert ours.data_ptr() != theirs.data_ptr()
        assert not ours.requires_grad


def test_an_average_loses_what_its_network_leaves_out() -> None:
    """By name: neither its weights nor its channels are the network's."""
    net, average = build("kinds", 0).eval(), build("kinds", 1).eval()
    like, averaged = copy.deepcopy(average), copy.deepcopy(average)
    sliced(averaged)  # what it would be if it were the one that lost filters
    sliced(net)
    leave_out_of(average, net)
    assert_restored(average, like)
    torch.testing.assert_close(average(net.images(3, 0)), averaged(net.images(3, 0)), **TIGHT)
    assert_same(average.state_dict(), plain_state_dict(averaged))


def gated() -> Calls:
    """Whose gate makes something of zeros, where all channels are needed."""
    net = Calls(lambda s, x: s.gate(s.a(x)) + s.b(x), a=nn.Conv2d(2, 4, 1), b=nn.Conv2d(2, 4, 1), gate=nn.Sigmoid())
    return net.double().eval()


def test_where_zeros_do_not_make_it_a_copy_computes_with_fewer_and_has_no_state() -> None:
    net, average = gated(), gated()
    graph = channel_graph(net)
    leave_out(plan(graph, {"a": torch.tensor([True, False, False, True])}), not_by_zeros(net, graph))
    images, before = torch.randn(2, 2, 3, 3, dtype=torch.float64), copy.deepcopy(net.state_dict())
    expected = average.b(images)
    expected[:, 1:3] += average.gate(average.a(images))[:, 1:3]
    leave_out_of(average, net)
    torch.testing.assert_close(average(images), expected)
    for one in (net, average):
        with pytest.raises(ValueError, match=f"^{REFUSED}$"):
            plain_state_dict(one)
        with pytest.raises(ValueError, match=f"^{REFUSED}$"):
            refuse_what_stays_sliced(one)
    assert_same(net.state_dict(), before)
    restore(graph)
    leave_out_of(average, net)  # in a full phase it is whole again
    refuse_what_stays_sliced(average)
    torch.testing.assert_close(average(images), average.gate(average.a(images)) + average.b(images))


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda net: net, "'the trained network itself'"),
        (lambda net: AveragedModel(net), "'AveragedModel'"),
        (lambda net: build("rows"), "'Rows'"),
        (lambda net: build("3d"), "'Plain'"),
    ],
    ids=["itself", "in a wrapper", "another class", "other shapes"],
)
def test_what_is_no_copy_is_refused_and_as_it_was(make: Any, got: str) -> None:
    net = build("plain")
    sliced(net)
    other = make(net)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=rf"^network must be a copy of .*, got {got}$"):
        leave_out_of(other, net)
    assert_same(other.state_dict(), before)


def test_tied_tensors_stay_tied_and_hooks_of_the_state_run() -> None:
    net = build("plain")
    net.twin = net.fc2
    net.register_state_dict_post_hook(
        lambda module, state, prefix, meta: state.update({"b.weight": state["b.weight"].clone(), "note": "mine"})
    )
    sliced(net)
    state = plain_state_dict(net)
    assert state["twin.weight"] is state["fc2.weight"]
    assert state.pop("note") == "mine"
    gone = every_other(net)
    assert not state["b.weight"][gone["b"]].any()
    assert not state["b.weight"][:, gone["a"]].any()
    assert state._metadata.keys() == net.state_dict()._metadata.keys()  # type: ignore[attr-defined]


def test_a_copy_elsewhere() -> None:
    """The positions stay where the network was."""
    net = build("residual")
    sliced(net)
    twin = copy.deepcopy(net).to("meta")
    assert isinstance(twin.conv1.weight, Tensor)
    assert {tensor.device.type for tensor in plain_state_dict(twin).values()} == {"meta"}
    net.to("meta")
    assert {tensor.device.type for tensor in plain_state_dict(net).values()} == {"meta"}


@pytest.mark.parametrize(
    "between",
    [lambda x: x.sigmoid(), lambda x: x + 1.0, torch.exp, nn.Softplus()],
    ids=["method", "sum", "exp", "module"],
)
def test_what_is_made_of_zeros_is_not_read(between: Any) -> None:
    """Where the channels themselves do not become 0, the weights that read them are."""
    made = {"a": nn.Conv2d(2, 4, 3), "b": nn.Conv2d(4, 3, 1), "fc": nn.Linear(48, 2)}
    if isinstance(between, nn.Module):
        made["between"] = between
    net = Calls(lambda s, x: s.fc(between(s.b(between(s.a(x)))).flatten(1)), **made).double().eval()
    graph, images = channel_graph(net), torch.randn(3, 2, 6, 6, dtype=torch.float64)
    whole = net(images)
    dropped = {"a": torch.tensor([True, False, True, False]), "b": torch.tensor([False, True, False])}
    leave_out(plan(graph, dropped), not_by_zeros(net, graph))
    torch.testing.assert_close(copy.deepcopy(net)(images), net(images), **TIGHT)
    assert not torch.allclose(net(images), whole)
    refuse_what_stays_sliced(net)
