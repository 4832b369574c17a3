"""Which weights of a file a network gets, and what is said of the others."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from filtersmith import zoo
from filtersmith.zoo.fitting import load


class Net(nn.Module):
    def __init__(self, classes: int = 3, channels: int = 1) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, classes)


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Net()


THERE = Net().state_dict()
State = dict[str, Tensor]


def same(network: nn.Module, names: object = None) -> bool:
    return all(torch.equal(network.state_dict()[name], THERE[name]) for name in names or THERE)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: f"model.{name}",
        lambda name: f"module.model._orig_mod.{name}",
        lambda name: f"some.wrapper.{name}",
        lambda name: name.replace("norm.", "norm.module."),
    ],
)
def test_names_with_what_wrappers_put_in_front(rename: Callable[[str], str]) -> None:
    network = Net()
    fit = load(network, {rename(name): value for name, value in THERE.items()}, 3)
    assert same(network)
    assert fit.whole
    assert (len(fit.fitted), fit.missing, fit.other_shape, fit.unexpected) == (8, (), {}, ())


def test_a_network_that_is_wrapped_itself() -> None:
    network = Around()
    fit = load(network, THERE, 3)
    assert same(network.backbone)
    assert str(fit) == "8 of 8 tensors fit behind 'backbone.'"
    compiled = nn.ModuleDict({"_orig_mod": Net()})  # as torch.compile wraps it
    load(compiled, {f"module.{name}": value for name, value in THERE.items()}, 3)
    assert same(compiled["_orig_mod"])


def test_the_classifier_is_drawn_fresh_for_other_classes() -> None:
    network = Net(classes=5)
    drawn = copy.deepcopy(network.fc.state_dict())
    fit = load(network, THERE, 5)
    assert all(torch.equal(value, drawn[name]) for name, value in network.fc.state_dict().items())
    assert same(network, [name for name in THERE if not name.startswith("fc")])
    assert (fit.whole, fit.classes) == (True, ("fc.weight", "fc.bias"))
    assert "6 of 8 tensors fit; drawn fresh for the classes: fc.weight (3x4 in the file, 5x4 here)" in str(fit)


def test_what_does_not_fit_is_said_and_left_with_all_of_its_layer() -> None:
    network = Net(channels=2)
    drawn = copy.deepcopy(network.state_dict())
    found = {name: value for name, value in THERE.items() if name != "norm.bias"}
    fit = load(network, {**found, "more": torch.ones(1)}, 3)
    assert not fit.whole
    assert fit.record() == {
        "fitted": 5,
        "missing": ["norm.bias"],
        "other_shape": ["conv.weight", "conv.bias"],
        "unexpected": ["more"],
    }
    for name in ("conv.weight", "conv.bias", "norm.bias"):
        assert torch.equal(network.state_dict()[name], drawn[name])


def test_another_precision_is_converted_and_another_kind_is_not() -> None:
    network = Net()
    load(network, {name: value.half() if value.is_floating_point() else value for name, value in THERE.items()}, 3)
    assert network.conv.weight.dtype == torch.float32
    assert torch.equal(network.conv.weight, THERE["conv.weight"].half().float())
    fit = load(network, {**THERE, "conv.weight": torch.ones(4, 1, 3, 3, dtype=torch.int8)}, 3)
    assert fit.other_shape["conv.weight"] == "int8 in the file, float32 here"


def test_tied_weights_stand_in_a_file_once() -> None:
    torch.manual_seed(0)
    whole, network = zoo.build("dacnn3"), zoo.build("dacnn3")
    pointers, once = set(), {}
    for name, value in whole.state_dict().items():
        if value.data_ptr() not in pointers or not value.numel():
            once[name] = value
        pointers.add(value.data_ptr())
    assert len(once) < len(whole.state_dict())
    assert load(network, once, 10).missing == ()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())


def test_refused_where_nothing_fits_or_a_weight_is_not_finite() -> None:
    before = copy.deepcopy((network := Net()).state_dict())
    for found, said in [
        (
            {"x": torch.ones(1), "norm.num_batches_tracked": torch.tensor(3)},
            r"nothing fits: the file has x, norm.*conv",
        ),
        ({**THERE, "conv.bias": torch.full((4,), torch.nan)}, r"conv.bias has values that are not finite"),
    ]:
        with pytest.raises(ValueError, match=said):
            load(network, found, 3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
