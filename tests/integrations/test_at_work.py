"""What callbacks have in common: the network is found, what went through it is seen, labels are known."""

from __future__ import annotations

import copy
import doctest
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import filtersmith as fs
from filtersmith.integrations import at_work
from filtersmith.integrations.at_work import Seen, composed, labels_of, network_in
from filtersmith.testing import batch_number, small_network


def test_the_examples() -> None:
    assert doctest.testmod(at_work).failed == 0


def test_what_was_composed_stays_what_it_is() -> None:
    training = fs.compose("wau")
    assert composed(training) is training
    assert str(composed("wau+ema")) == "wau+ema"


def owner(**children: nn.Module) -> nn.Module:
    made = nn.Module()
    for name, child in children.items():
        made.add_module(name, child)
    return made


def test_where_the_network_is() -> None:
    frozen = small_network().requires_grad_(False)
    assert network_in(owner(net=small_network(), head=nn.Linear(3, 3), teacher=frozen), None) == "net"
    assert network_in(owner(conv=nn.Conv2d(3, 3, 3), fc=nn.Linear(3, 3)), None) == ""
    inner = owner(body=owner(net=small_network()))
    assert network_in(inner, None) == "body"
    assert network_in(inner, "body.net") == "body.net"
    assert network_in(inner, "") == ""
    for path in ("net", 3):
        with pytest.raises(ValueError, match=r"^module must be the path of a module in Module, such as 'net', got "):
            network_in(inner, path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"which has several with convolutions: one, two$"):
        network_in(owner(one=small_network(), two=small_network()), None)
    with pytest.raises(ValueError, match=r"which has none with convolutions that are trained$"):
        network_in(owner(one=frozen), None)


@pytest.mark.parametrize(
    ("batch", "labels"), [((1, 2), 2), ([1, 2, 3], 2), ({"x": 1, "label": 2}, 2), ({"y": 3, "labels": 2}, 2)]
)
def test_labels(batch: Any, labels: int) -> None:
    assert labels_of(batch) == labels


@pytest.mark.parametrize("batch", [torch.ones(2), (1,), {"x": 1}, None])
def test_labels_that_nobody_knows(batch: Any) -> None:
    with pytest.raises(ValueError, match=r"^a batch must be a pair of images and labels, or have one of labels, "):
        labels_of(batch)


def attached(text: Any) -> tuple[fs.Composition, nn.Module]:
    training, model = fs.compose(text), small_network()
    optimizer = torch.optim.SGD(training.param_groups(training.prepare(model), weight_decay=0.0), lr=0.1)
    training.attach(model, optimizer, epochs=2)
    return training, model


def test_a_term_is_added_once_for_what_was_seen() -> None:
    training, model = attached([fs.KD(small_network(9))])
    seen, (images, labels) = Seen(training, model), batch_number(0)
    seen.begin((images, labels))
    assert seen.penalty() is None
    outputs = model(images)
    assert torch.equal(seen.penalty(), training.penalty(images, outputs, labels))  # type: ignore[arg-type]
    assert seen.penalty() is None
    model(images), model(images)
    with pytest.raises(ValueError, match=r"^the network was called 2 times for one loss, to which kd"):
        seen.penalty()
    with torch.no_grad():
        model(images)
    model.eval()(images)
    assert seen.penalty() is None
    model.train()(images)
    seen.forget()
    assert seen.penalty() is None
    model(images)
    seen.begin(None)
    assert seen.penalty() is None
    seen.end()
    model(images)
    assert seen.penalty() is None


def test_where_nothing_is_added_nothing_is_looked_at() -> None:
    training, model = attached("wau+ema")
    seen = Seen(training, model)
    assert not model._forward_hooks
    model(batch_number(0)[0])
    assert seen.penalty() is None


def test_a_term_of_weights_alone_does_not_mind_several_calls() -> None:
    training, model = attached("ortho-loss(0.1)")
    seen = Seen(training, model)
    model(batch_number(0)[0]), model(batch_number(1)[0])
    assert torch.equal(seen.penalty(), training.penalty(None, None, None))  # type: ignore[arg-type]


def test_copies_see_nothing_and_keep_nothing() -> None:
    training, model = attached("ortho-loss(0.1)")
    seen = Seen(training, model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), training.deployed):
        other.train()(batch_number(0)[0])
        assert seen.penalty() is None
