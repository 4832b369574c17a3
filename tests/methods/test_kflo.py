"""KFLO against the paper's own formulas (`reference.kflo`), on every kind of layer."""

from __future__ import annotations

import copy
import warnings
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.kflo import compose, naive, penalty
from reference.layers import layers
from reference.nets import assert_same, batch_number, loss_of, net, train
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.utils.checkpoint import checkpoint

import filtersmith as fs
from filtersmith.filters import filter_layers, filter_major, transposed_groups
from filtersmith.reparam.parametrization import originals


def matrices(layer: nn.Module, tensor: str = "weight") -> list[Tensor]:
    return originals(layer.parametrizations[tensor])  # type: ignore[index, arg-type]


def formats(tensor: Tensor) -> set[torch.memory_format]:
    """The memory formats that a tensor is contiguous in, more than one where its shape allows."""
    all_formats = {4: (torch.channels_last,), 5: (torch.channels_last_3d,)}.get(tensor.ndim, ())
    return {f for f in (torch.contiguous_format, *all_formats) if tensor.is_contiguous(memory_format=f)}


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest value: single ones may cancel."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.detach().abs().max())))


@settings(max_examples=60)
@given(layers(), st.integers(2, 4), st.sampled_from((1, 1.3, 2, 4)), st.sampled_from(("identity", "default")))
def test_the_kernel_is_the_papers_product(drawn: Any, depth: int, width: float, init: Any) -> None:
    plain, x = drawn
    network = nn.Sequential(copy.deepcopy(plain))
    before = network(x)
    fs.expand(network, fs.KFLO(depth, width, init))
    (layer,) = network
    assert isinstance(layer, type(plain))
    if init == "identity":
        assert torch.equal(network(x), before), "it starts as what it was"
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))

    first, *pointwise = matrices(layer)
    outputs = plain.out_features if isinstance(plain, nn.Linear) else plain.out_channels
    ch = round(width * outputs)
    rows = filter_major(plain.weight, transposed_groups(plain))
    assert first.shape == (ch, *rows.shape[1:])
    assert [tuple(w.shape) for w in pointwise] == [(ch, ch)] * (depth - 2) + [(outputs, ch)]
    expected = compose(first, pointwise)
    assert_close(filter_major(layer.weight, transposed_groups(plain)), expected)
    assert formats(layer.weight) >= formats(plain.weight), "the memory format survives"
    count = first.numel() + sum(w.numel() for w in pointwise)
    if plain.bias is not None:
        (b1,) = matrices(layer, "bias")
        assert b1.shape == (ch,)
        assert_close(layer.bias, compose(b1[:, None], pointwise).flatten())
        count += ch
    assert sum(p.numel() for p in network.parameters()) == count

    deployed = fs.collapse(network)
    torch.testing.assert_close(deployed(x), network(x), rtol=0, atol=0)
    fresh = nn.Sequential(copy.deepcopy(plain))
    fresh.load_state_dict(deployed.state_dict(), strict=True)
    assert_close(fresh(x), network(x))
    assert formats(deployed[0].weight) >= formats(plain.weight)


def test_cifar_quick_has_the_papers_parameters() -> None:
    from filtersmith import zoo

    model = zoo.build("cifar-quick")
    plain = sum(p.numel() for p in model.parameters())
    fs.expand(model, fs.KFLO(depth=2, width=4))
    assert sum(p.numel() for p in model.parameters()) == 508_728
    assert sum(p.numel() for p in fs.collapse(model).parameters()) == plain == 117_034


def small() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, 2),
        nn.Flatten(),
        nn.Linear(16, 4),
    ).double()


def batch(n: int) -> tuple[Tensor, Tensor]:
    images, labels = batch_number(n)
    return images.double(), labels


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_training_follows_a_penalty_in_the_loss(depth: int, factor: float) -> None:
    """The naive network composes by conv1d and adds the penalty to its loss; both train from the same start."""
    model = small()
    fs.expand(model, fs.KFLO(depth, 2))
    slow = naive(model, depth)
    groups = fs.param_groups(model, weight_decay=0.05, inner_weight_decay=0.01, decay_factor=factor)
    optimizer = SGD(groups, lr=0.1, momentum=0.9)
    inner = [p for name, p in slow.named_parameters() if "inner" in name]
    rest = [p for name, p in slow.named_parameters() if name.startswith("1.")]
    kernels = [p for name, p in slow.named_parameters() if name.endswith((".w1", ".b1"))]
    reference = SGD(
        [
            {"params": inner, "weight_decay": 0.01},
            {"params": rest, "weight_decay": 0.05},
            {"params": kernels, "weight_decay": 0.0},
        ],
        lr=0.1,
        momentum=0.9,
    )
    for n in range(5):
        for network, opt, extra in ((model, optimizer, 0.0), (slow, reference, penalty(slow, 0.05, factor))):
            opt.zero_grad()
            (loss_of(network, batch(n)) + extra).backward()
            opt.step()
    torch.testing.assert_close(model(batch(9)[0]), slow(batch(9)[0]))
    torch.testing.assert_close(model[0].weight, slow[0].kernel())


def plain_twin(width: float = 1) -> tuple[nn.Sequential, nn.Sequential]:
    model = small()
    plain = copy.deepcopy(model)
    fs.expand(model, fs.KFLO(2, width))
    return model, plain


def test_width_one_with_frozen_identities_is_plain_training() -> None:
    model, plain = plain_twin()
    for name, parameter in model.named_parameters():
        if name.endswith("original1"):
            parameter.requires_grad_(False)
    ours = SGD(fs.param_groups(model, 0.05), lr=0.1, momentum=0.9)
    biases = {id(layer.bias) for layer in plain if isinstance(layer, (nn.Conv2d, nn.Linear))}
    theirs = SGD(
        [
            {"params": [p for p in plain.parameters() if (id(p) in biases) == chosen], "weight_decay": decay}
            for chosen, decay in ((False, 0.05), (True, 0.0))
        ],
        lr=0.1,
        momentum=0.9,
    )
    for n in range(5):
        for network, optimizer in ((model, ours), (plain, theirs)):
            optimizer.zero_grad()
            loss_of(network, batch(n)).backward()
            optimizer.step()
    for ours_, theirs_ in zip(fs.collapse(model).parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-9, atol=1e-12)


def test_accumulated_backward_passes_count_the_decay_once() -> None:
    model, _ = plain_twin(2)
    whole = copy.deepcopy(model)
    model[1].eval(), whole[1].eval()  # batch norm would see other batches
    for network, parts in ((model, 2), (whole, 1)):
        optimizer = SGD(fs.param_groups(network, 0.1), lr=0.1)
        for n in range(2):
            optimizer.zero_grad()
            images, labels = batch(n)
            for x, y in zip(images.chunk(parts), labels.chunk(parts), strict=True):
                (loss_of(network, (x, y)) / parts).backward()
            optimizer.step()
    for one, two in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def gradients_of(model: nn.Module, decay: float, backward: Any) -> list[Tensor]:
    """Of every parameter, after whatever ``backward`` does with the network; the loss itself is zero."""
    fs.param_groups(model, decay)
    model.zero_grad()
    backward(model)
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def zero_loss(model: nn.Module, calls: int = 1) -> Tensor:
    x = torch.ones(1, 3)
    return sum(model(x).sum() for _ in range(calls)) * 0.0  # type: ignore[return-value]


def _thrown_away(model: nn.Module) -> None:
    zero_loss(model).backward()
    model.zero_grad()
    zero_loss(model).backward()


def _zeros_kept(model: nn.Module) -> None:
    zero_loss(model).backward()
    model.zero_grad(set_to_none=False)
    zero_loss(model).backward()


def _accumulated(model: nn.Module) -> None:
    for _ in range(3):
        zero_loss(model).backward()


def _probed(model: nn.Module) -> None:
    torch.autograd.grad(zero_loss(model), list(model.parameters()), allow_unused=True)
    zero_loss(model).backward()


def _written_in_between(model: nn.Module) -> None:
    zero_loss(model).backward()
    with torch.no_grad():
        next(model.parameters()).mul_(1.0)
    zero_loss(model).backward()


def _checkpointed(model: nn.Module) -> None:
    x = torch.ones(1, 3, requires_grad=True)
    (checkpoint(model, x, use_reentrant=False).sum() * 0.0).backward()


BACKWARD = {
    "once": lambda model: zero_loss(model).backward(),
    "called three times": lambda model: zero_loss(model, 3).backward(),
    "thrown away before": _thrown_away,
    "zeros kept": _zeros_kept,
    "accumulated": _accumulated,
    "probed before": _probed,
    "written in between": _written_in_between,
    "checkpointed": _checkpointed,
    "on a copy": lambda model: zero_loss(model).backward(),
}


@pytest.mark.parametrize("how", BACKWARD)
def test_the_decay_is_in_a_gradient_once_whatever_happened_before(how: str) -> None:
    model = fs.expand(nn.Sequential(nn.Linear(3, 2, bias=False)), fs.KFLO(2, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    penalty_of = copy.deepcopy(model)
    (0.05 * penalty_of[0].weight.square().sum()).backward()
    if how == "on a copy":
        zero_loss(model).backward()
        model = copy.deepcopy(model)
    for ours, theirs in zip(gradients_of(model, 0.1, BACKWARD[how]), penalty_of.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("make", [SGD, Adam, AdamW], ids=lambda make: make.__name__)
def test_fused_optimizers_decay_at_every_step(make: Any, set_to_none: bool) -> None:
    """Their kernels do not raise a tensor's version counter."""
    models = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = fs.expand(small(), fs.KFLO(2, 2))
        optimizer = make(fs.param_groups(model, 0.1), lr=0.01, fused=fused)
        for n in range(4):
            optimizer.zero_grad(set_to_none=set_to_none)
            loss_of(model, batch(n)).backward()
            optimizer.step()
        models.append(model)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_functional_transforms_see_the_decay() -> None:
    model = fs.expand(nn.Sequential(nn.Linear(3, 2, bias=False)), fs.KFLO(2, 2))
    expected = torch.autograd.grad(0.05 * model[0].weight.square().sum(), list(model.parameters()))
    fs.param_groups(model, 0.1)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, values, (torch.ones(1, 3),)).sum() * 0.0

    for _ in range(2):
        for ours, theirs in zip(torch.func.grad(loss)(parameters).values(), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_a_gradient_scaler_scales_the_decay_too() -> None:
    model, _ = plain_twin(2)
    scaled = copy.deepcopy(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plain_step = SGD(fs.param_groups(model, 0.1), lr=0.1)
    scaled_step = SGD(fs.param_groups(scaled, 0.1, scaler=scaler), lr=0.1)
    for n in range(3):
        plain_step.zero_grad(), scaled_step.zero_grad()
        loss_of(model, batch(n)).backward()
        plain_step.step()
        scaler.scale(loss_of(scaled, batch(n))).backward()
        scaler.step(scaled_step)
        scaler.update()
    for one, two in zip(model.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_float16_autocast_without_the_scaler_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    fs.expand(model, fs.KFLO())
    fs.param_groups(model, 0.1)
    with torch.autocast("cpu", torch.float16), pytest.raises(ValueError, match=r"^scaler must be given"):
        model(torch.randn(2, 4))


def test_autocast_trains_and_nothing_computed_goes_stale() -> None:
    model = small().float()
    fs.expand(model, fs.KFLO())
    optimizer = SGD(fs.param_groups(model, 1e-4), lr=0.1)
    x = batch(0)[0].float()
    model.eval()
    outputs = []
    for n in range(3):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            outputs.append(model(x))
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, (batch(n)[0].float(), batch(n)[1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch.testing.assert_close(model(x), fs.collapse(model)(x), rtol=0, atol=1e-5)
    assert all(not torch.equal(one, two) for one, two in pairwise(outputs))


def test_stacked_networks_start_as_the_first() -> None:
    states = []
    for seed in range(3):
        trained = net(seed)
        train(trained, SGD(trained.parameters(), lr=0.1), 2)
        states.append(trained.state_dict())
    first = net()
    first.load_state_dict(states[0])
    images = batch_number(5)[0]
    for given_states in (states, states[:1]):
        model = net(9)
        assert fs.KFLO.from_pretrained(model, given_states) is model
        assert_same(model.eval()(images), first.eval()(images))
    model = fs.KFLO.from_pretrained(net(9), states)
    for name in ("dense", "grouped_up", "fc"):
        layer = model.get_submodule(name)
        groups = transposed_groups(layer)
        w1 = matrices(layer)[0]
        kernels = [filter_major(state[f"{name}.weight"], groups) for state in states]
        assert torch.equal(w1, torch.cat(kernels))
        assert torch.equal(matrices(layer, "bias")[0], torch.cat([state[f"{name}.bias"] for state in states]))


def test_a_classifier_left_out_starts_afresh() -> None:
    states = [{k: v for k, v in net(seed).state_dict().items() if not k.startswith("fc.")} for seed in (1, 2)]
    model = net(7)
    weight, bias = model.fc.weight.detach().clone(), model.fc.bias.detach().clone()
    fs.KFLO.from_pretrained(model, states, depth=3)
    assert torch.equal(model.fc.weight, weight)
    assert torch.equal(model.fc.bias, bias)
    assert torch.equal(model.dense.weight, states[0]["dense.weight"])
    assert torch.equal(model.bn.running_var, states[0]["bn.running_var"])


def _with(state: dict[str, Tensor], **changes: Any) -> dict[str, Any]:
    return {**state, **{key.replace("__", "."): value for key, value in changes.items()}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: [], r"^state_dicts must be a list of one or more state dicts, got \[\]$"),
        (lambda s: s, "^state_dicts must be a list of one or more state dicts, got 'OrderedDict'$"),
        (lambda s: [s, "x"], "^state_dicts must be a list of one or more state dicts, got 'a list with a str'$"),
        (lambda s: [s, {}], r"^state_dicts\[1\] must hold"),
        (lambda s: [_with(s, head__weight=s["fc.weight"])], r"^unknown key of state_dicts\[0\] 'head.weight'"),
        (
            lambda s: [s, _with(s, fc__weight=torch.zeros(100, 196))],
            r"^state_dicts\[1\] must have 'fc.weight' of the shape \(4, 196\), got \(100, 196\): leave",
        ),
        (
            lambda s: [s, {k: v for k, v in s.items() if k != "fc.bias"}],
            "^state_dicts must have the same keys, got 'fc",
        ),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(make: Any, message: str) -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message) as caught:
        fs.KFLO.from_pretrained(model, make(net(1).state_dict()))
    assert "\n" not in str(caught.value)
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("rate", [0.5, 0.25])
def test_with_wau_the_unit_is_a_row_of_the_first_factor(rate: float) -> None:
    model = net()
    fs.expand(model, fs.KFLO(2, 2))
    optimizer = SGD(fs.param_groups(model, 1e-2), lr=0.1, momentum=0.9)
    wau = fs.WAU(model, rate=rate, seed=1).attach(optimizer)
    convolutions = {layer.name: layer for layer in filter_layers(model)}
    assert set(convolutions) == {"dense", "grouped", "depthwise", "up", "one", "grouped_up"}
    for n in range(3):
        before = {name: layer.weight.detach().clone() for name, layer in convolutions.items()}
        inner = {name: matrices(layer.module)[1].detach().clone() for name, layer in convolutions.items()}
        train(model, optimizer, 1, start=n)
        for name, layer in convolutions.items():
            active = wau.active[name]
            assert len(active) == len(layer.weight) == layer.filters
            assert int(active.sum()) == max(1, int(rate * layer.filters))
            moved = (layer.weight != before[name]).flatten(1).any(1)
            assert not (moved & ~active).any(), "held rows keep their values"
            assert moved[active].any() or n == 0
            assert not torch.equal(matrices(layer.module)[1], inner[name]), "mixing matrices are never held"


def test_with_asa_it_trains_and_collapses() -> None:
    model = net()
    fs.expand(model, fs.KFLO())
    optimizer = SGD(fs.param_groups(model, 1e-4), lr=0.05, momentum=0.9)
    flow = fs.ASA(fs.WAU(model), optimizer, epochs=1)
    for epoch in range(3):
        train(model, optimizer, 2, start=2 * epoch)
        flow.step()
    images = batch_number(0)[0]
    torch.testing.assert_close(fs.collapse(model).eval()(images), model.eval()(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 1}, "depth must be a whole number of at least 2, got 1"),
        ({"depth": 2.5}, "depth must be a whole number of at least 2, got 2.5"),
        ({"depth": True}, "depth must be a whole number of at least 2, got True"),
        ({"width": 0}, "width must be a number above 0, got 0"),
        ({"width": -1.0}, "width must be a number above 0, got -1.0"),
        ({"width": float("nan")}, "width must be a number above 0, got nan"),
        ({"width": float("inf")}, "width must be a number above 0, got inf"),
        ({"width": "4"}, "width must be a number above 0, got '4'"),
        ({"init": "dirac"}, "init must be one of identity, default, got 'dirac'"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        fs.KFLO(**options)


def test_a_width_below_one_warns_and_one_that_leaves_nothing_is_refused() -> None:
    model = net()
    with pytest.warns(UserWarning, match="starts 4 of 8 filters"):
        fs.expand(model, fs.KFLO(width=0.5), layers=["dense"])
    kernel = matrices(model.dense)
    assert kernel[0].shape[0] == 4
    model = net()
    before = copy.deepcopy(model.state_dict())
    message = "^layer 'one' cannot be expanded with KFLO.*width 0.4 leaves it no underlying filter; leave it out"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing may be expanded before the refusal
        with pytest.raises(ValueError, match=message):
            fs.expand(model, fs.KFLO(width=0.4), layers=["dense", "one"])
    assert_same(model.state_dict(), before)
