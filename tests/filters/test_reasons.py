"""Which layers take part, and the one sentence that says why one cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from reference.nets import CONVOLUTIONS, net
from torch import nn
from torch.nn.utils import prune

import filtersmith as fs
from filtersmith.common.modules import unwrap
from filtersmith.filters import Need, Surroundings, cannot, filter_layers, layers_left_out, reason_against


def test_all_convolutions_by_default_and_any_layer_by_name() -> None:
    model = net()
    assert {layer.name: layer.filters for layer in filter_layers(model)} == CONVOLUTIONS
    named = filter_layers(model, (name for name in ("fc", "up", "fc")))
    assert [(layer.name, layer.filters) for layer in named] == [("fc", 4), ("up", 5)]


def test_tied_weights_count_once() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    model[2].weight = model[0].weight
    assert [layer.name for layer in filter_layers(model)] == ["0", "1"]
    shared = nn.Conv2d(2, 2, 3)
    assert [layer.name for layer in filter_layers(nn.Sequential(shared, shared))] == ["0"]


def test_wrappers_do_not_show_in_names() -> None:
    model = net()
    wrappers = (
        torch.compile(model, backend="eager"),
        nn.DataParallel(model),
        torch.compile(nn.DataParallel(torch.compile(model, backend="eager")), backend="eager"),
    )
    for wrapped in wrappers:
        assert unwrap(wrapped) is model
        assert [layer.name for layer in filter_layers(wrapped)] == list(CONVOLUTIONS)
    model.up = torch.compile(model.up, backend="eager")  # a part alone
    assert [layer.name for layer in filter_layers(model)] == list(CONVOLUTIONS)


def _lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3))


def _parametrized() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Conv2d(4, 4, 1)))


def _weight_norm() -> nn.Module:
    normed = [nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)) for _ in range(2)]
    return nn.Sequential(*normed, nn.Linear(4, 4))


def _old_spectral_norm() -> nn.Module:
    return nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)))


class FullyShardedDataParallel(nn.Module):
    """Goes by the name of torch's, which needs a process group; tests/methods/test_wau.py tries the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Conv2d(3, 3, 3)


@pytest.mark.parametrize(
    ("make", "layers", "words"),
    [
        (_lazy, None, ("layer '0' cannot take part", "lazy", "forward")),
        (_parametrized, None, ("'0'", "parametrization")),
        (_weight_norm, None, ("'0'", "weight", "nor can any other layer")),
        (_weight_norm, ["0", "2"], ("'0'", "weight", "leave it out with layers=")),
        (_old_spectral_norm, None, ("'0'", "spectral norm")),
        (lambda: nn.Sequential(nn.Linear(3, 3)), None, ("Sequential", "no convolution", "layers=")),
        (net, ["dens"], ("unknown layer 'dens'", "'dense'")),
        (net, ["bn"], ("unknown layer 'bn'",)),
        (net, "dense", ("layers", "sequence", "'dense'")),
        (net, 5, ("layers", "sequence", "5")),
        (net, [], ("layers", "at least one", "[]")),
        (FullyShardedDataParallel, None, ("FullyShardedDataParallel", "fully_shard")),
        (lambda: "resnet", None, ("model", "torch.nn.Module", "'str'")),
    ],
)
def test_what_has_no_filters_is_refused_in_one_line(make: Any, layers: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        filter_layers(make(), layers)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_layer_that_nobody_named_is_left_out_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)))
    assert [layer.name for layer in filter_layers(model, ["0"])] == ["0"]
    with caplog.at_level("INFO", "filtersmith"):
        assert [layer.name for layer in filter_layers(model, doing="be ranked")] == ["0"]
    assert caplog.messages == [f"layer '1' cannot be ranked: {COMPUTED.format('weight')}"]
    lazy = nn.Sequential(nn.Conv2d(4, 4, 1), nn.LazyConv2d(4, 1))
    with pytest.raises(ValueError, match=r"^layer '1' cannot take part: it is lazy .*; leave it out with layers=$"):
        filter_layers(lazy)


# --- one reason -------------------------------------------------------------------------------------------------


def pair(change: Callable[[Any], Any] = lambda model: None) -> nn.Module:
    """Two convolutions with batch norms and a linear layer, and what ``change`` does to them."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(4, 4),
    )
    changed = change(model)
    return changed if isinstance(changed, nn.Module) else model


def void(result: Any) -> None:
    """What was done to a layer in place; the network is the one that it was."""


def tied(model: Any, tensor: str) -> None:
    setattr(model[2], tensor, getattr(model[0], tensor))


NOTHING = Need(linear="always", rows=False)
EVERYTHING = Need(linear="never", deployed=True, plain=True, whole=True, own=True, own_bias=True, trained=True)
COMPUTED = "its {} is not a parameter but computed from others (a parametrization, weight or spectral norm)"


def expanded(method: Any) -> Callable[[Any], Any]:
    return lambda model: fs.expand(model, method, layers=["2"])


def of_type(model: Any, dtype: torch.dtype) -> None:
    model[2].weight = nn.Parameter(model[2].weight.detach().to(dtype), requires_grad=False)


def emptied(model: Any) -> None:
    model[2].weight = nn.Parameter(torch.zeros(0, 4, 3, 3))


@pytest.mark.parametrize(
    ("change", "need", "reason"),
    [
        (expanded(fs.KFLO()), "deployed", "it is expanded already, and its parameters are"),
        (expanded(fs.DOConv()), "deployed", "it is expanded already, and its parameters"),
        (expanded(fs.DOConv()), "rows", "it is expanded already, and its parameters are"),
        (expanded(fs.DBB()), "deployed", "it is expanded already, and its parameters are"),
        (expanded(fs.DBB()), "rows", "it is expanded already, and its parameters are"),
        (lambda m: void(nn.utils.parametrizations.weight_norm(m[2])), "rows", COMPUTED.format("weight")),
        (lambda m: void(nn.utils.spectral_norm(m[2])), "plain", COMPUTED.format("weight")),
        (lambda m: void(prune.l1_unstructured(m[2], "bias", amount=1)), "plain", COMPUTED.format("bias")),
        (lambda m: tied(m, "weight"), "own", "it shares its kernel with another layer, '0' (use a network in which"),
        (lambda m: tied(m, "bias"), "own_bias", "it shares its bias with another layer, '0' (use a network in which"),
        (lambda m: void(m[2].weight.requires_grad_(False)), "trained", "its weight is frozen"),
        (lambda m: of_type(m, torch.int8), "plain", "its weight has the type torch.int8"),
        (emptied, "plain", "its weight is empty"),
    ],
)  # fmt: skip
def test_one_need_one_reason(change: Any, need: str, reason: str) -> None:
    model = pair(change)
    around = Surroundings.of(model)
    asked = replace(NOTHING, **{need: True})
    assert str(reason_against("2", around.layers["2"], asked, around)).startswith(reason)
    assert str(reason_against("2", around.layers["2"], EVERYTHING, around)).startswith(reason)
    assert reason_against("2", around.layers["2"], NOTHING, around) is None, "who needs nothing refuses nothing"
    assert reason_against("0", around.layers["0"], replace(EVERYTHING, own=False, own_bias=False), around) is None


def test_a_plain_layer_meets_every_need_and_kflo_the_need_of_rows() -> None:
    model = pair()
    around = Surroundings.of(model)
    assert list(around.layers) == ["0", "2", "5"]
    assert reason_against("2", model[2], EVERYTHING, around) is None
    assert reason_against("5", model[5], replace(EVERYTHING, linear="always"), around) is None
    assert reason_against("5", model[5], EVERYTHING, around) == "it is a linear layer"
    assert reason_against("1", model[1], NOTHING, around) == "it is a BatchNorm2d, which has no filters"
    assert reason_against("2", model[2], NOTHING, around, {"2": "it makes a gate"}) == "it makes a gate"
    fs.expand(model, fs.KFLO())
    assert reason_against("2", model[2], Need()) is None
    assert {field.name for field in fields(Need)} == {
        "linear", "rows", "deployed", "plain", "whole", "own", "own_bias", "trained"
    }, "a new need wants a test"  # fmt: skip


def test_a_block_of_branches_counts_as_the_layer_that_it_stands_for() -> None:
    model = fs.expand(pair(), fs.ACNet(), layers=["2"])
    around = Surroundings.of(model)
    assert list(around.layers) == ["0", "2", "5"]
    for name in ("2", "2.conv"):
        with pytest.raises(ValueError, match=rf"^layer '{name}' cannot take part: it is expanded already.*collapse"):
            filter_layers(model, [name])
    assert list(layers_left_out(model)) == ["2", "5"]
    assert [layer.name for layer in filter_layers(model, ["0"])] == ["0"]
    assert reason_against("2.bn", model[2].bn, Need(), around) == reason_against("2", model[2], Need(), around)


def test_who_is_left_out_is_told_once_for_all_layers() -> None:
    def change(model: Any) -> None:
        nn.utils.parametrizations.weight_norm(model[2])

    model = pair(change)
    by_name = "it is a linear layer, which takes part where layers= names it"
    assert layers_left_out(model) == {"2": COMPUTED.format("weight"), "5": by_name}
    assert layers_left_out(model, ["0", "5"]) == {"2": "layers= does not name it"}
    assert layers_left_out(model, need=Need(linear="always")) == {"2": COMPUTED.format("weight")}
    assert layers_left_out(model, need=Need(linear="never"))["5"] == "it is a linear layer"
    with pytest.raises(ValueError, match=r"^unknown layer 'x'"):
        layers_left_out(model, ["x"])
    assert layers_left_out(FullyShardedDataParallel(), need=NOTHING) == {}
    assert set(layers_left_out(FullyShardedDataParallel(), ["a"]).values()) == {
        "FullyShardedDataParallel flattens the weights, so that filters cannot be told apart "
        "(use torch.distributed.fsdp.fully_shard or DistributedDataParallel)"
    }


def test_the_error_names_the_layer_the_reason_and_the_way_out() -> None:
    error = cannot("a.b", "be ranked", "it is a linear layer")
    assert str(error) == "layer 'a.b' cannot be ranked: it is a linear layer; leave it out with layers="
    assert str(cannot("a", "lose filters", "why", way_out="")) == "layer 'a' cannot lose filters: why"
    with pytest.raises(ValueError, match=r"^Sequential has no convolution and no linear layer$"):
        filter_layers(nn.Sequential(nn.ReLU()), need=Need(linear="always"))
