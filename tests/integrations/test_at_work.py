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
from filtersmith.integrations.at_work import Seen, add_to, composed, labels_of, network_in, scale_decay
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
    with pytest.raises(ValueError, match=r"or be '' for all of it: it has several with convolutions: one, two$"):
        network_in(owner(one=small_network(), two=small_network()), None)
    with pytest.raises(ValueError, match=r"it has none with convolutions that are trained$"):
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
    outputs = model(images)
    assert torch.equal(seen.penalty(), training.penalty(images, outputs, labels))  # type: ignore[arg-type]
    assert seen.penalty() is None
    for calls in (2, 0):
        seen.begin((images, labels))
        for _ in range(calls):
            model(images)
        with torch.no_grad():
            model(images)
        with pytest.raises(ValueError, match=f"^the network was called {calls} times for one loss, to which kd"):
            seen.penalty()
    model(images)
    seen.begin((images, labels))
    outputs = model.eval()(images)  # as where batch norm is frozen
    assert torch.equal(seen.penalty(), training.penalty(images, outputs, labels))  # type: ignore[arg-type]
    seen.begin((images, labels))
    model(images)
    seen.forget()
    assert seen.penalty() is None
    seen.end()
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_by_hand_no_step_is_made_without_a_term() -> None:
    (training, model), (images, labels) = attached("ortho-loss(0.1)"), batch_number(0)
    ours, others = torch.optim.SGD(model.parameters(), 0.1), torch.optim.SGD([nn.Parameter(images)], 0.1)
    seen = Seen(training, model, [ours])
    seen.begin((images, labels))
    others.step()
    with pytest.raises(ValueError, match=r"^ortho-loss.* this step was made without it: add penalty\("):
        ours.step()
    model(images)
    assert isinstance(seen.penalty(), torch.Tensor)
    ours.step()
    seen.end()
    seen = Seen(training, model, [others, ours])
    seen.begin((images, labels))
    model(images)
    assert seen.penalty() is None  # of which of the losses?
    with pytest.raises(ValueError, match="this step was made without it"):
        ours.step()
    seen.forget()
    others.step(), ours.step()
    seen.end()


def test_a_step_of_training_through_the_networks_forward_is_no_call_of_its_own() -> None:
    class Redirected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.within = small_network(), False

        def forward(self, x: Any, *_: Any) -> Any:
            if not self.within:
                return self.net(x)
            self.within = False
            return self(x[0]).sum()

    training, model = fs.compose([fs.KD(small_network(9))]), Redirected()
    training.attach(model, torch.optim.SGD(model.parameters(), 0.1), epochs=1)
    seen, batch = Seen(training, model), batch_number(0)
    for _ in range(2):
        seen.begin(batch)
        model.within = True
        model(batch, 0)
        expected = training.penalty(batch[0], model(batch[0]), batch[1])
        seen._calls.pop()
        torch.testing.assert_close(seen.penalty(), expected)


def test_a_term_is_in_the_gradient_alone() -> None:
    """Also of a loss whose own backward pass needs its value."""
    x = torch.tensor(4.0, requires_grad=True)
    loss = x.sqrt()
    add_to(loss, 3 * x)
    assert loss.item() == 2
    loss.backward()
    assert x.grad is not None
    assert x.grad.item() == 3.25


def test_the_decay_of_computed_kernels_is_scaled_as_the_loss() -> None:
    images, labels = batch_number(0)
    found = []
    for scale in (1.0, 1024.0):
        training, model = fs.compose("kflo(width=2)"), small_network()
        torch.manual_seed(0)
        training.param_groups(training.prepare(model), weight_decay=0.5)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scale_decay(model, scaler)
        scaler.scale(nn.functional.cross_entropy(model(images), labels)).backward()
        found.append([p.grad / scale for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(found[0], found[1])


def test_where_nothing_is_added_nothing_is_looked_at() -> None:
    training, model = attached("wau+ema")
    seen = Seen(training, model)
    assert not model._forward_hooks
    model(batch_number(0)[0])
    assert seen.penalty() is None


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_term_of_weights_alone_does_not_mind_how_often_it_is_called(calls: int) -> None:
    training, model = attached("ortho-loss(0.1)")
    seen = Seen(training, model)
    seen.begin(None)
    for _ in range(calls):
        model(batch_number(0)[0])
    assert torch.equal(seen.penalty(), training.penalty(None, None, None))  # type: ignore[arg-type]
    assert seen.penalty() is None


def test_copies_see_nothing_and_keep_nothing() -> None:
    training, model = attached("ortho-loss(0.1)")
    seen = Seen(training, model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), training.deployed):
        other.train()(batch_number(0)[0])
        assert not seen._calls
        assert not seen._within
