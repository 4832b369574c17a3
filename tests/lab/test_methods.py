"""Methods by name, and how each kind meets a training loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from filtersmith import zoo
from filtersmith.lab.methods import (
    AppliedMethod,
    MethodSpec,
    change_architecture,
    expand_network,
    option_names,
    parse,
    same,
)
from filtersmith.lab.recipe.config import TrainOptions
from filtersmith.lab.training.schedules import make_scheduler
from filtersmith.methods import METHODS
from filtersmith.reparam import collapse, param_groups

STEPS = 4


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("baseline", "baseline", {}),
        ("baseline()", "baseline", {}),
        (" wau ", "wau", {}),
        ("wau(0.3)", "wau", {"rate": 0.3}),
        ("wau(rate=0.3)", "wau", {"rate": 0.3}),
        ("wau( rate = 3e-1 , unit = filter )", "wau", {"rate": 0.3, "unit": "filter"}),
        (
            "wau(unit=input-channel,draw=with-replacement)",
            "wau",
            {"unit": "input-channel", "draw": "with-replacement"},
        ),
        ("wau(draw='with-replacement')", "wau", {"draw": "with-replacement"}),
        ("wau(layers=['features.0', fc])", "wau", {"layers": ["features.0", "fc"]}),
        ("wau(layers=['None'],seed=-1)", "wau", {"seed": -1, "layers": ["None"]}),
        ("conv-lr(0.5)", "conv-lr", {"rate": 0.5}),
        ("flow(rates=[0.5, 1, 0.5])", "flow", {"rates": [0.5, 1, 0.5]}),
        ("flow([1,1,1],seed=7)", "flow", {"rates": [1, 1, 1], "seed": 7}),
        ("asa(rate=0.25,draw=bernoulli)", "asa", {"rate": 0.25, "draw": "bernoulli"}),
        ("kflo(depth=3,width=1.5)", "kflo", {"depth": 3, "width": 1.5}),
        ("kflo(3,2)", "kflo", {"depth": 3, "width": 2}),
        ("kflo(3, init=default)", "kflo", {"depth": 3, "init": "default"}),
        ("do-conv", "do-conv", {}),
        ("do-conv(12)", "do-conv", {"d_mul": 12}),
        ("do-conv(d_mul=None)", "do-conv", {"d_mul": None}),
        ("acnet", "acnet", {}),
        ("dbb()", "dbb", {}),
        ("ema(0.99)", "ema", {"decay": 0.99}),
    ],
)
def test_parse_and_back(text: str, name: str, options: dict[str, Any]) -> None:
    spec = parse(text)
    assert spec == MethodSpec(name, options)
    assert parse(str(spec)) == spec
    assert str(parse(str(spec))) == str(spec)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kflo+wau", "kflo+wau"),
        (" kflo(width=1e+1) + wau(0.3) ", "kflo(width=10.0)+wau(rate=0.3)"),
        ("kflo(3,2)+asa(0.25)", "kflo(depth=3,width=2)+asa(rate=0.25)"),
        ("dbb+ema(0.9)", "dbb+ema(decay=0.9)"),
    ],
)
def test_an_expansion_and_another_method(text: str, expected: str) -> None:
    spec = parse(text)
    assert str(spec) == expected
    assert parse(expected) == spec
    assert spec.expansion is not None
    assert spec.expansion.expands
    assert not spec.expands
    alone = expected.split("+")[-1]
    assert not same(spec, parse(alone))
    assert not same(parse(alone), spec)
    assert same(spec, parse(text))


@pytest.mark.parametrize(
    ("text", "expected", "changes", "name"),
    [
        ("dacnn", "dacnn", 1, "baseline"),
        (" dacnn(stage)+ regulators", "dacnn(scope=stage)+regulators", 2, "baseline"),
        ("regulators([1,3])", "regulators(sections=[1,3])", 1, "baseline"),
        (
            "dacnn([['layer1.0.conv1','layer1.0.conv2'],[a,b]])",
            "dacnn(scope=[['layer1.0.conv1','layer1.0.conv2'],[a,b]])",
            1,
            "baseline",
        ),
        ("dacnn+wau(0.3)", "dacnn+wau(rate=0.3)", 1, "wau"),
        ("dacnn+regulators+asa", "dacnn+regulators+asa", 2, "asa"),
        ("dacnn+ortho-loss", "dacnn+ortho-loss", 1, "ortho-loss"),
        ("regulators+kflo", "regulators+kflo", 1, "kflo"),
        ("regulators+kflo+repr+ortho-loss", "regulators+kflo+repr+ortho-loss", 1, "repr"),
    ],
)
def test_changes_of_the_architecture_stand_in_front(text: str, expected: str, changes: int, name: str) -> None:
    spec = parse(text)
    assert str(spec) == expected
    assert parse(expected) == spec
    assert (len(spec.architecture), spec.name) == (changes, name)
    assert same(spec, parse(text))
    for other in ("baseline", "dacnn+kflo", "dacnn+regulators", expected.partition("+")[2] or "wau"):
        assert not same(spec, parse(other))
        assert not same(parse(other), spec)
    assert same(parse("dacnn+wau"), parse("dacnn(scope=network)+wau(rate=0.5)"))
    assert same(parse("regulators"), parse("regulators(all)"))


def test_the_architecture_changes_in_their_order() -> None:
    model = zoo.build("resnet20", 10, 3, image_size=8)
    change_architecture(parse("dacnn(scope=stage)+regulators(sections=[2])+wau"), model)
    named = dict(model.named_modules())
    assert named["layer1.0.conv1"].weight is named["layer1.2.conv2"].weight
    regulators = [name for name in named if name.endswith(".regulator")]
    assert len(regulators) == 3
    assert all(name.startswith("layer2.") for name in regulators)
    assert len({id(named[name].conv.weight) for name in regulators}) == 3, "free"


def test_with_defaults_or_without_them() -> None:
    assert same(parse("kflo"), parse("kflo(2,4)"))
    assert same(parse("kflo+wau(0.5)"), parse("kflo(depth=2)+wau"))
    assert same(parse("ema"), parse("ema(0.999)"))
    for other in ("kflo(3)+wau", "kflo+wau(0.4)", "kflo+asa", "dbb+wau", "kflo", "wau"):
        assert not same(parse("kflo+wau"), parse(other)), other


def test_one_spelling_whatever_the_order() -> None:
    assert str(parse("wau(draw=bernoulli, rate=0.3)")) == str(parse("wau(0.3,draw='bernoulli')"))
    assert str(parse("wau(0.3)")) == "wau(rate=0.3)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wauu", "unknown method 'wauu' .did you mean 'wau'.*baseline, wau, asa"),
        ("", "method must be a name or name.option=value, .*, got ''"),
        ("wau(", "method must be"),
        ("wau(rate=)", "method must be"),
        ("wau)(", "method must be"),
        ("wau(0.5) x", "method must be"),
        ("wau(0.5)(0.5)", "method must be"),
        ("wau(ratio=0.5)", "unknown option of wau 'ratio' .did you mean 'rate'"),
        ("wau(model=1)", "unknown option of wau 'model'"),
        ("flow(rate=0.5)", "unknown option of flow 'rate'"),
        ("wau(0.5,rate=0.3)", "rate is given twice"),
        ("wau(rate=0.5,rate=0.3)", "method must be|given twice"),
        ("wau(**{'rate': 1})", "unknown option of wau"),
        ("baseline(0.5)", "baseline with options among none"),
        ("wau(1,2,3,4,5,6,7,8)", "wau with options among rate, seed, unit, draw, layers"),
        ("wau(rate=__import__('os'))", "numbers, words and lists"),
        ("wau(rate=1+x)", "numbers, words and lists"),
        ("wau(rate=\0)", "method must be"),
        ("kflow", "unknown method 'kflow' .did you mean 'kflo'"),
        ("doconv", "unknown method 'doconv' .did you mean 'do-conv'"),
        ("kflo(deep=3)", "unknown option of kflo 'deep' .did you mean 'depth'.*depth, width, init"),
        ("kflo(layers=[fc])", "unknown option of kflo 'layers'"),
        ("kflo(2,4,identity,1)", "kflo with options among depth, width, init"),
        ("kflo(3,depth=2)", "depth is given twice"),
        ("do-conv(rate=2)", "unknown option of do-conv 'rate'; known: d_mul"),
        ("acnet(1)", "acnet with options among none"),
        ("dbb(width=2)", "unknown option of dbb 'width'"),
        ("ema(model=1)", "unknown option of ema 'model'; known: decay"),
        *(
            (text, r"method must be one method, or \[dacnn .\] \[regulators .\] .* one of another kind .*, got '")
            for text in (
                *("wau+kflo", "kflo+dbb", "kflo+baseline", "baseline+wau", "wau+ema", "kflo+wau+ema"),
                *("dacnn+dacnn", "regulators+dacnn", "wau+dacnn", "kflo+dacnn", "dacnn+baseline", "dacnn+wau+ema"),
                *("dacnn+regulators+dacnn", "dacnn+ortho-loss+ortho-loss", "dacnn+kflo+dbb", "repr+regulators"),
            )
        ),
        ("wau@resnet20", r"method must be a method alone .'wau'; --model names its network., got 'wau@resnet20'"),
        ("dacnn(scope=[a])+wau@vanilla", "--model names its network"),
        ("@vanilla", "--model names its network"),
        ("dacnn(layers=[a])", "unknown option of dacnn 'layers'; known: scope"),
        ("dacnn(stage,2)", "dacnn with options among scope"),
        ("kflo+", "method must be a name"),
        ("+wau", "method must be a name"),
        ("kflo++wau", "method must be a name"),
        ("kflo(2+wau(0.3)", "method must be a name"),
        ("kflo+wauu", "unknown method 'wauu'"),
    ],
)
def test_bad_methods(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_every_method_of_the_registry_has_its_options() -> None:
    for name in METHODS:
        assert {"model", "optimizer", "wau", "epochs", "phases"}.isdisjoint(option_names(name))
        assert bool(option_names(name)) == (name not in ("acnet", "dbb")), name


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 10))


def applied(
    text: str, epochs: int, seed: int = 0, lr: float = 1.0, **options: Any
) -> tuple[nn.Module, Optimizer, AppliedMethod]:
    model = network()
    expand_network(parse(text), model)
    optimizer = SGD(param_groups(model, 0.0), lr=lr, momentum=0.9)
    train = TrainOptions(**{"lr": lr, "epochs": epochs, "schedule": "multistep", **options})

    def schedule(inner: Optimizer, phase: int) -> LambdaLR:
        return make_scheduler(inner, train, phase, STEPS)

    return model, optimizer, AppliedMethod(parse(text), model, optimizer, schedule, epochs, seed)


def trained(model: nn.Module, optimizer: Optimizer, method: AppliedMethod, epochs: int) -> list[list[Any]]:
    """Trains; what was seen before every step: learning rates, number of momentum buffers, filters moved."""
    seen = []
    for epoch in range(epochs):
        for step in range(STEPS):
            images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(epoch * STEPS + step))
            before = model[0].weight.detach().clone()
            seen.append([[g["lr"] for g in optimizer.param_groups], len(optimizer.state)])
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), torch.arange(4)).backward()
            optimizer.step()
            method.end_batch()
            seen[-1].append(int((model[0].weight != before).flatten(1).any(1).sum()))
        method.end_epoch()
    return seen


@pytest.mark.parametrize(
    ("text", "epochs", "moved"),
    [
        ("asa", 3, [4, 8, 4]),
        ("asa", 2, [8, 4]),
        ("asa", 1, [4]),
        ("asa(rate=0.25)", 3, [2, 8, 2]),
        ("sas", 3, [8, 4, 8]),
        ("sas", 20, [8] * 6 + [4] * 7 + [8] * 7),
        ("asa", 20, [4] * 6 + [8] * 7 + [4] * 7),
        ("flow(rates=[0.5,0.25])", 5, [4, 4, 2, 2, 2]),
        ("wau(0.25)", 2, [2, 2]),
        ("conv-lr", 2, [8, 8]),
        ("kflo(3,2)", 2, [8, 8]),
        ("do-conv", 2, [8, 8]),
        ("ema", 2, [8, 8]),
        ("baseline", 2, [8, 8]),
    ],
)
def test_phases_fill_the_budget(text: str, epochs: int, moved: list[int]) -> None:
    model, optimizer, method = applied(text, epochs, lr=0.05)
    seen = trained(model, optimizer, method, epochs)
    assert [found for *_, found in seen] == [count for count in moved for _ in range(STEPS)]
    changes = tuple(e for e in range(1, epochs) if moved[e] != moved[e - 1])
    assert method.phase_starts == changes
    # A phase begins with an optimizer that remembers nothing, and with the full learning rate.
    for start in (0, *method.phase_starts):
        rate, remembered, _ = seen[start * STEPS]
        assert rate[0] == 0.05
        assert remembered == 0
    assert [entry[1] for entry in seen].count(0) == 1 + len(method.phase_starts)


def test_phases_of_one_rate_restart_too() -> None:
    model, optimizer, method = applied("flow(rates=[1,1,1])", 6, lr=0.05)
    seen = trained(model, optimizer, method, 6)
    assert method.phase_starts == (2, 4)
    assert [rates[0] for rates, *_ in seen[::STEPS]] == pytest.approx([0.05, 0.005] * 3)


def test_phases_of_underlying_filters() -> None:
    model, optimizer, method = applied("kflo+asa", 3, lr=0.05)
    assert method.phase_starts == (1, 2)
    underlying = model[0].parametrizations["weight"].original0
    for epoch, moving in enumerate((16, 32, 16)):
        before = underlying.detach().clone()
        optimizer.zero_grad()
        model(torch.rand(4, 1, 8, 8)).square().sum().backward()
        optimizer.step()
        moved = int((underlying != before).flatten(1).any(1).sum())
        # At the start the random rows are not yet mixed into any kernel, and have no gradient.
        assert moved == moving if epoch else 0 < moved <= moving
        method.end_epoch()


def test_control_follows_the_schedule() -> None:
    model, optimizer, method = applied("conv-lr(0.5)", 4, lr=0.08)
    seen = trained(model, optimizer, method, 4)
    by_epoch = [rates for rates, *_ in seen[::STEPS]]
    assert [rate for rates in by_epoch for rate in rates] == pytest.approx(
        [0.08, 0.04] * 2 + [0.008, 0.004] + [0.0008, 0.0004]
    )
    slow = optimizer.param_groups[1]["params"]
    assert [p is model[0].weight for p in slow] == [True]


def test_seed_of_the_run_unless_the_options_name_one() -> None:
    def masks(text: str, seed: int) -> dict[str, Any]:
        model, optimizer, method = applied(text, 1, seed=seed, lr=0.05)
        trained(model, optimizer, method, 1)
        return {name: value.clone() for name, value in model.state_dict().items()}

    def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
        return all(torch.equal(left[name], right[name]) for name in left)

    assert not same(masks("wau", 1), masks("wau", 2))
    assert same(masks("wau", 1), masks("wau(seed=1)", 2))
    assert same(masks("flow(rates=[0.5])", 1), masks("asa", 1))


@pytest.mark.parametrize(
    "text", ["baseline", "wau", "conv-lr", "asa", "flow(rates=[0.5,1])", "kflo(3,2)", "kflo+wau", "ema(0.8)"]
)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_state_goes_on(text: str, at: int) -> None:
    whole = applied(text, 5, lr=0.05)
    expected = trained(*whole, 5)
    first = applied(text, 5, lr=0.05)
    seen = trained(*first, at)
    second = applied(text, 5, lr=0.05)
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(first[1].state_dict())
    second[2].load_state_dict(first[2].state_dict())
    for epoch in range(at, 5):  # by hand: the images depend on the epoch
        for step in range(STEPS):
            images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(epoch * STEPS + step))
            seen.append([[g["lr"] for g in second[1].param_groups], len(second[1].state)])
            second[1].zero_grad()
            nn.functional.cross_entropy(second[0](images), torch.arange(4)).backward()
            second[1].step()
            second[2].end_batch()
        second[2].end_epoch()
    assert [entry[:2] for entry in seen] == [entry[:2] for entry in expected]
    for name, value in whole[0].state_dict().items():
        assert torch.equal(value, second[0].state_dict()[name]), name
    averages = [method.average for *_, method in (whole, second)]
    if text.startswith("ema"):
        for ours, theirs in zip(*(average.parameters() for average in averages), strict=True):
            assert torch.equal(ours, theirs)
    else:
        assert averages == [None, None]


def test_networks_are_expanded_before_their_optimizer_is_made() -> None:
    images = torch.rand(4, 1, 8, 8)
    for name, record in METHODS.items():
        if record.kind == "architecture":
            continue
        model = network()
        plain = sum(p.numel() for p in model.parameters())
        expand_network(parse(name), model)
        trained = sum(p.numel() for p in model.parameters())
        assert (trained > plain) == (record.kind == "re-parametrization"), name
        torch.testing.assert_close(collapse(model).eval()(images), model.eval()(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wau(rate=1.5)", "rate must be a number in .0, 1., got 1.5"),
        ("asa(rate=0)", "rate must be a number in .0, 1., got 0"),
        ("conv-lr(rate=2)", "rate must be"),
        ("wau(unit=row)", "unit must be one of filter"),
        ("wau(layers=[nowhere])", "nowhere"),
        ("flow", "rates must be a list with the rate of each phase, for example .*, got None"),
        ("flow(rates=[])", "rates must be a list"),
        ("flow(rates=0.5)", "rates must be a list"),
        ("flow(rates=[0.5,3])", "rate must be a number in .0, 1., got 3"),
        ("flow(rates=[0.5,[1]])", "rate must be a number in .0, 1."),
        ("kflo(depth=1)", "depth must be a whole number of at least 2, got 1"),
        ("kflo(3,0)", "width must be a number above 0, got 0"),
        ("kflo(width=wide)", "width must be a number above 0, got 'wide'"),
        ("kflo(init=zeros)", "init must be one of identity, default, got 'zeros'"),
        ("do-conv(d_mul=4)", "d_mul must be at least its window of 9 positions, got 4"),
        ("do-conv(d_mul=1.5)", "d_mul must be a whole number of at least 1, got 1.5"),
        ("ema(1)", "decay must be a number in .0, 1., got 1"),
        ("ema(decay=slow)", "decay must be a number in .0, 1., got 'slow'"),
    ],
)
def test_options_out_of_range(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        applied(text, 5)
    assert "\n" not in str(caught.value)
