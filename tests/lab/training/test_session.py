"""An epoch of a session against a loop written by hand, also stopped in the middle; what it refuses and notices."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from reference.running import StopAfter, assert_same, config, differ, digits
from torch import Tensor, nn

from filtersmith import zoo
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.results.document import Epoch
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.training.progress import Silent
from filtersmith.lab.training.session import Position, Session
from filtersmith.lab.training.stopping import StopRequest

BATCH = 300  # five of the 1,437 images, the last one smaller


def session(method: str = "baseline", **options: Any) -> Session:
    return Session(config(method, seed=3, **{"batch_size": BATCH} | options), digits())


def pixels(images: Tensor) -> Tensor:
    """Normalised as the facts say, written out."""
    values = digits().train.images.double() / 255  # type: ignore[union-attr]
    return ((images.double() / 255 - values.mean()) / values.std(correction=0)).float()


def loss_and_hits(model: nn.Module, images: Tensor, labels: Tensor, smoothing: float = 0.0) -> tuple[Tensor, int]:
    """The summed cross entropy, of the logarithms themselves, and the right answers."""
    logits = model(images)
    logs = logits - logits.exp().sum(1, keepdim=True).log()
    targets = torch.full_like(logs, smoothing / 10)
    targets[torch.arange(len(labels)), labels] += 1 - smoothing
    return -(targets * logs).sum(), int((logits.argmax(1) == labels).sum())


def by_hand(what: RunConfig) -> tuple[list[dict[str, float]], nn.Module]:
    """SGD with momentum and decay, step by step; what each epoch measures."""
    options, data, found = what.train, digits(), []
    torch.manual_seed(what.seed)
    model = zoo.build(what.model.name, 10, 1, image_size=8)
    buffers = [torch.zeros_like(p) for p in model.parameters()]
    order_of = Session(what, data).batches.train
    total, step = options.epochs * math.ceil(len(data.train) / options.batch_size), 0
    for epoch in range(options.epochs):
        sums = {"loss": 0.0, "correct": 0.0}
        first = options.lr * 0.5 * (1 + math.cos(math.pi * step / total))
        for images, labels in order_of.epoch(epoch):
            rate = options.lr * 0.5 * (1 + math.cos(math.pi * step / total))
            loss, hits = loss_and_hits(model.train(), images, labels, options.label_smoothing)
            gradients = torch.autograd.grad(loss / len(labels), list(model.parameters()))
            with torch.no_grad():
                for p, momentum, gradient in zip(model.parameters(), buffers, gradients, strict=True):
                    momentum.mul_(options.momentum).add_(gradient + options.weight_decay * p)
                    p -= rate * momentum
            sums["loss"] += loss.item()
            sums["correct"] += hits
            step += 1
        with torch.no_grad():
            test_loss, hits = loss_and_hits(model.eval(), pixels(data.test.images), data.test.labels)  # type: ignore[union-attr]
        found.append(
            {
                "lr": first,
                "train_loss": sums["loss"] / 1437,
                "train_accuracy": sums["correct"] / 1437,
                "test_loss": test_loss.item() / 360,
                "test_accuracy": hits / 360,
            }
        )
    return found, model


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2, "weight_decay": 0.01, "momentum": 0.5}])
def test_epochs_are_those_of_a_loop_by_hand(options: dict[str, float]) -> None:
    ours = session(**options)
    expected, model = by_hand(ours.config)
    for number, values in enumerate(expected, 1):
        ours.model.eval()  # whatever was done with it between epochs
        assert ours.train_epoch(StopRequest(), Silent())
        epoch = ours.finish_epoch()
        assert epoch.epoch == number
        assert epoch.train_seconds > 0
        for name, value in values.items():
            assert getattr(epoch, name) == pytest.approx(value, rel=1e-4, abs=1e-5), name
    for name, value in model.state_dict().items():
        torch.testing.assert_close(ours.composition.deployed.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert ours.composition.parameters_kept == sum(p.numel() for p in model.parameters())
    assert ours.position.history[-1].train_loss < ours.position.history[0].train_loss


def test_stopped_in_the_middle_the_epoch_goes_on_with_its_sums() -> None:
    whole, parted = session("wau"), session("wau")
    assert whole.train_epoch(StopRequest(), Silent())
    stop = StopRequest()
    progress = StopAfter(stop, 2)
    assert not parted.train_epoch(stop, progress)  # type: ignore[arg-type]
    position = parted.position
    assert (position.epoch, position.batch, position.step, position.sums["count"]) == (0, 2, 2, 2 * BATCH)
    assert differ(parted.model.state_dict(), whole.model.state_dict())

    position.load_state_dict(json.loads(json.dumps(position.state_dict())))
    assert parted.train_epoch(StopRequest(), Silent())
    assert_same(parted.model.state_dict(), whole.model.state_dict())
    assert (position.batch, position.step, position.lr) == (5, 5, whole.position.lr)
    for name in ("loss", "correct", "count"):
        assert position.sums[name] == pytest.approx(whole.position.sums[name])
    assert position.sums["count"] == 1437
    assert measured(parted.finish_epoch()) == measured(whole.finish_epoch())


def measured(epoch: Epoch) -> dict[str, Any]:
    return {name: pytest.approx(x) for name, x in epoch.model_dump(exclude={"train_seconds"}).items()}


def test_a_signal_at_the_last_batch_lets_the_epoch_end() -> None:
    ours, stop = session(), StopRequest()
    assert ours.train_epoch(stop, StopAfter(stop, 5))  # type: ignore[arg-type]
    assert ours.asked_to_stop(stop)
    assert not ours.asked_to_stop(StopRequest())


def test_the_position_is_plain_data_that_comes_back() -> None:
    epoch = Epoch(
        epoch=1, lr=0.1, train_loss=1.0, train_accuracy=0.5, test_loss=2.0, test_accuracy=0.25, train_seconds=3.0
    )
    position = Position()
    position.step, position.lr = 7, 0.1
    position.next_epoch(epoch)
    position.batch, position.sums["loss"] = 3, 4.0
    taken = position.state_dict()
    state = json.loads(json.dumps(taken))
    position.sums["loss"] += 1
    assert taken == state, "nothing is shared"
    position.sums["loss"] -= 1
    other = Position()
    other.load_state_dict(state)
    assert other.state_dict() == position.state_dict() == state
    assert (other.epoch, other.batch, other.history) == (1, 3, [epoch])
    other.next_epoch(epoch)
    assert (other.epoch, other.batch, set(other.sums.values())) == (2, 0, {0.0})
    assert len(position.history) == 1
    assert position.sums["loss"] == 4.0


@pytest.mark.parametrize("step", [1, 4])
def test_a_loss_that_is_not_finite_is_seen_at_its_step(step: int) -> None:
    ours = session(lr=0.25)
    calls: list[int] = []

    def spoil(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        calls.append(1)
        return output * math.inf if len(calls) == step else output

    ours.model.fc.register_forward_hook(spoil)  # type: ignore[union-attr]
    with pytest.raises(RunFailed, match=rf"^loss is (nan|inf) in epoch 1, step {step} \(train.lr=0.25\): a smaller"):
        ours.train_epoch(StopRequest(), Silent())
    assert len(calls) == step
