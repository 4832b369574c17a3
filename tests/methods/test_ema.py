"""The moving average against one that is computed slowly, in float64, from the weights after every step."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.nets import Decaying, Net, assert_same, batch_number, hooks_of, loss_of, net, train, train_step
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import SGD, Adam, Optimizer

import filtersmith as fs


def sgd(model: nn.Module, lr: float = 0.1) -> Optimizer:
    return SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-2)


class Slow:
    """``average <- d * average + (1 - d) * parameter`` from the first step's weights on; buffers copied.

    With t steps in the average, d is ``decay`` or, while it is smaller, ``(1 + t) / (10 + t)``.
    """

    def __init__(self, decay: float, warmup: bool = True) -> None:
        self.decay, self.warmup, self.steps = decay, warmup, 0
        self.average: dict[str, Tensor] = {}

    def after_step(self, model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        decay = self.decay
        if self.warmup and (1 + self.steps) / (10 + self.steps) < decay:
            decay = (1 + self.steps) / (10 + self.steps)
        self.steps += 1
        for name, value in model.state_dict().items():
            now = value.detach().clone()
            if name in parameters:
                now = now.double()
                if name in self.average:
                    now = decay * self.average[name] + (1 - decay) * now
            self.average[name] = now

    def compare(self, network: nn.Module) -> None:
        parameters = dict(network.named_parameters())
        assert list(network.state_dict()) == list(self.average)
        for name, value in network.state_dict().items():
            if name in parameters:
                torch.testing.assert_close(value.double(), self.average[name], rtol=1e-5, atol=1e-6, msg=name)
            else:
                assert_same(value, self.average[name], name)


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_it_is_the_average_of_the_weights_after_every_step(decay: float, warmup: bool) -> None:
    model = net()
    optimizer = sgd(model)
    ema, slow = fs.EMA(model, decay, warmup).attach(optimizer), Slow(decay, warmup)
    assert_same(ema.network.state_dict(), model.state_dict())
    for n in range(12):  # from the 9th step on, half of the average stays in the warm-up
        train(model, optimizer, 1, start=n)
        slow.after_step(model)
        slow.compare(ema.network)
    assert type(ema.network) is Net
    assert ema.network is not model
    same = torch.equal(ema.network.dense.weight, model.dense.weight)
    assert same == (decay == 0.0)
    assert not torch.equal(model.bn.running_mean, net().bn.running_mean), "the copied buffers have moved"


def test_without_decay_it_is_the_trained_network_bit_for_bit() -> None:
    model = net()
    optimizer = Adam(model.parameters(), lr=0.05)
    ema = fs.EMA(model, decay=0).attach(optimizer)
    for n in range(4):
        train(model, optimizer, 1, start=n)
        assert_same(ema.network.state_dict(), model.state_dict())


def test_the_default_follows_a_short_training_where_a_fixed_decay_stays_behind() -> None:
    """80 steps in which the only weight goes from 0 to 80."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = SGD(model.parameters(), lr=1.0)
    behind = {warmup: fs.EMA(model, warmup=warmup).attach(optimizer) for warmup in (True, False)}
    for _ in range(80):
        model.weight.grad = -torch.ones(1, 1)
        optimizer.step()
    assert 70 < behind[True].network.weight.item() < 75, "about a tenth of the way back"
    assert behind[False].network.weight.item() < 5


def test_a_step_reads_no_number_from_the_device() -> None:
    """On a GPU that would wait for all that was queued. A tensor of the meta device has no number to read."""
    model = net().to("meta")
    ema = fs.EMA(model)
    ema._averaged.update_parameters(model)
    ema._averaged.update_parameters(model)
    assert ema.state_dict()["averaged"]["n_averaged"] == 2


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.7, 0.999])
def test_constant_weights_are_a_fixed_point(decay: float) -> None:
    model = net()
    optimizer = SGD(model.parameters(), lr=0.0)
    ema = fs.EMA(model, decay).attach(optimizer)
    train(model, optimizer, 5)
    for ours, start in zip(ema.network.parameters(), net().parameters(), strict=True):
        assert torch.equal(ours, start)


def test_training_does_not_change() -> None:
    runs = []
    for averaged in (True, False):
        model = net()
        optimizer = sgd(model)
        torch.manual_seed(5)
        ema = fs.EMA(model, 0.9).attach(optimizer) if averaged else None
        train(model, optimizer, 5)
        runs.append([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()])
        if ema is not None:
            assert all(p.grad is None for p in ema.network.parameters()), "nothing else is trained"
            with torch.no_grad():
                for parameter in ema.network.parameters():
                    parameter.zero_()
            assert model.dense.weight.any(), "nothing is shared"
    assert_same(*runs)


def test_attaching_twice_is_refused_and_detaching_leaves_the_average() -> None:
    model = net()
    optimizer, other = sgd(model), Adam(model.parameters())
    ema = fs.EMA(model, 0.5)
    ema.detach()
    assert ema.attach(optimizer) is ema
    for again in (optimizer, other):
        with pytest.raises(ValueError, match=r"^already attached to an optimizer: call detach\(\) first$"):
            ema.attach(again)
    assert hooks_of(model, other) == 0
    train(model, optimizer, 2)
    ema.detach()
    ema.detach()
    assert hooks_of(model, optimizer) == 0
    before = copy.deepcopy(ema.network.state_dict())
    train(model, optimizer, 2)
    assert_same(ema.network.state_dict(), before)
    ema.attach(other)
    train(model, other, 1)
    for name, parameter in ema.network.named_parameters():
        expected = 0.25 * before[name] + 0.75 * model.get_parameter(name)  # two steps are in it: 3 / 12
        torch.testing.assert_close(parameter, expected, msg=name)


def test_only_optimizers_are_attached_to() -> None:
    ema = fs.EMA(net())
    for wrong in (None, "sgd", net()):
        with pytest.raises(
            ValueError, match=f"^optimizer must be a torch.optim.Optimizer, got {type(wrong).__name__}$"
        ):
            ema.attach(wrong)
    model = net()
    ema.attach(sgd(model))  # a refusal does not count


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_saved_average_goes_on(steps: int) -> None:
    model = net()
    optimizer = sgd(model)
    ema = fs.EMA(model, 0.8).attach(optimizer)
    train(model, optimizer, steps)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (model, optimizer, ema)], file)
    train(model, optimizer, 3, start=steps)

    resumed = net(7)
    theirs = sgd(resumed)
    average = fs.EMA(resumed, 0.8).attach(theirs)
    file.seek(0)
    for part, state in zip((resumed, theirs, average), torch.load(file), strict=True):
        part.load_state_dict(state)
    train(resumed, theirs, 3, start=steps)
    assert_same(average.network.state_dict(), ema.network.state_dict())
    assert_same(average.state_dict(), ema.state_dict())


def test_the_state_of_another_decay_is_refused() -> None:
    model = net()
    ema = fs.EMA(model, 0.8)
    before = copy.deepcopy(ema.state_dict())
    with pytest.raises(ValueError, match=r"^the state of EMA was saved with decay=0.9, this one has 0.8$"):
        ema.load_state_dict(fs.EMA(net(3), 0.9).state_dict())
    with pytest.raises(ValueError, match=r"^state must be a state_dict of EMA, got NoneType$"):
        ema.load_state_dict(None)  # type: ignore[arg-type]
    assert_same(ema.state_dict(), before)


def test_a_state_from_before_the_warm_up_is_one_of_the_plain_rule() -> None:
    old = {key: value for key, value in fs.EMA(net(3), 0.8).state_dict().items() if key != "warmup"}
    plain, warm = fs.EMA(net(), 0.8, warmup=False), fs.EMA(net(), 0.8)
    plain.load_state_dict(old)
    assert_same(plain.state_dict()["averaged"], old["averaged"])
    with pytest.raises(ValueError, match=r"^the state of EMA was saved with warmup=False, this one has True$"):
        warm.load_state_dict(old)


def test_after_wau_it_averages_what_wau_put_back() -> None:
    model = net()
    optimizer = sgd(model)
    wau = fs.WAU(model, rate=0.25, seed=2).attach(optimizer)
    ema, current = fs.EMA(model, 0.7).attach(optimizer), fs.EMA(model, 0.0).attach(optimizer)
    slow = Slow(0.7)
    for n in range(4):
        before = model.dense.weight.detach().clone()
        train(model, optimizer, 1, start=n)
        held = ~wau.active["dense"]
        assert held.any()
        assert torch.equal(current.network.dense.weight[held], before[held])
        assert_same(current.network.state_dict(), model.state_dict())
        slow.after_step(model)
    slow.compare(ema.network)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_gradient_scaler_skips_is_not_averaged(fused: bool) -> None:
    model = net()
    optimizer = Adam(model.parameters(), lr=0.05, fused=fused)
    ema, slow = fs.EMA(model, 0.6).attach(optimizer), Slow(0.6)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for n in range(5):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch_number(n))).backward()
        skipped = n in (0, 3)
        if skipped:
            model.fc.bias.grad[0] = float("inf")
        before = copy.deepcopy([model.fc.weight, ema.state_dict()])
        scaler.step(optimizer)
        scaler.update()
        if skipped:
            assert_same([model.fc.weight, ema.state_dict()], before)
        else:
            slow.after_step(model)
            slow.compare(ema.network)


def test_an_optimizer_whose_step_calls_that_of_its_parent_averages_once() -> None:
    model = net()
    SGD(model.parameters())  # from the first instance on, torch runs hooks for the parent class, too
    optimizer = Decaying(model.parameters(), lr=0.1)
    ema, slow = fs.EMA(model, 0.5).attach(optimizer), Slow(0.5)
    for n in range(4):
        train(model, optimizer, 1, start=n)
        slow.after_step(model)
    slow.compare(ema.network)


def test_wrapped_networks_are_averaged_bare(tmp_path: Path) -> None:
    plain = net()
    optimizer = sgd(plain)
    expected = fs.EMA(plain, 0.8).attach(optimizer)
    train(plain, optimizer, 3)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrappers = (
            DistributedDataParallel,
            lambda m: torch.compile(m, backend="eager"),
            lambda m: torch.compile(DistributedDataParallel(m), backend="eager"),
            DataParallel,
        )
        for wrap in wrappers:
            model = wrap(net())
            optimizer = sgd(model)
            ema = fs.EMA(model, 0.8).attach(optimizer)
            train(model, optimizer, 3)
            assert type(ema.network) is Net
            for name, value in ema.network.state_dict().items():
                torch.testing.assert_close(value, expected.network.state_dict()[name], msg=name)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("method", [fs.KFLO(2, 2), fs.DOConv(), fs.ACNet()], ids=repr)
def test_of_an_expanded_network_the_factors_are_averaged(method: Any) -> None:
    model = net()
    fs.expand(model, method)
    optimizer = SGD(fs.param_groups(model, 1e-3), lr=0.1, momentum=0.9)
    ema, slow = fs.EMA(model, 0.6).attach(optimizer), Slow(0.6)
    for n in range(3):
        train_step(model, optimizer, batch_number(n))
        slow.after_step(model)
    slow.compare(ema.network)
    images = batch_number(9)[0]
    averaged = ema.network.eval()
    deployed = fs.collapse(averaged)
    assert type(deployed) is Net
    fresh = net(4)
    fresh.load_state_dict(deployed.state_dict(), strict=True)
    torch.testing.assert_close(fresh.eval()(images), averaged(images), rtol=0, atol=1e-5)
    assert not torch.allclose(deployed(images), fs.collapse(model).eval()(images), atol=1e-5)
    train_step(model, optimizer, batch_number(5))
    slow.after_step(model)
    slow.compare(ema.network)


def test_a_network_that_is_expanded_afterwards_is_refused() -> None:
    model = net()
    ema = fs.EMA(model, 0.5)
    fs.expand(model, fs.KFLO())
    optimizer = SGD(fs.param_groups(model, 0.0), lr=0.1)
    ema.attach(optimizer)
    before = copy.deepcopy(ema.state_dict())
    with pytest.raises(
        ValueError, match=r"^the network has other parameters than when EMA was made: expand it before$"
    ):
        train(model, optimizer, 1)
    assert_same(ema.state_dict(), before)


@pytest.mark.parametrize("value", [1.0, 1.5, -0.1, float("nan"), True, "0.9", None])
def test_a_decay_out_of_range(value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^decay must be a number in \[0, 1\), got {value!r}$"):
        fs.EMA(net(), value)
