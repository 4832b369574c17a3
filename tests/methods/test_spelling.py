"""Methods as text, read and written."""

from __future__ import annotations

from typing import Any

import pytest

import filtersmith as fs
from filtersmith import METHODS
from filtersmith.methods.composition import compose
from filtersmith.methods.spelling import Spelled, of_object, option_names, read, same, write


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
    spelled = read(text)
    assert spelled == (() if name == "baseline" else (Spelled(name, options),))
    assert read(write(spelled)) == spelled
    assert write(read(write(spelled))) == write(spelled)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kflo+wau", "kflo+wau"),
        (" kflo(width=1e+1) + wau(0.3) ", "kflo(width=10.0)+wau(rate=0.3)"),
        ("kflo(3,2)+asa(0.25)", "kflo(depth=3,width=2)+asa(rate=0.25)"),
        ("dbb+ema(0.9)", "dbb+ema(decay=0.9)"),
        ("dacnn", "dacnn"),
        (" dacnn(stage)+ regulators", "dacnn(scope=stage)+regulators"),
        ("regulators([1,3])", "regulators(sections=[1,3])"),
        (
            "dacnn([['layer1.0.conv1','layer1.0.conv2'],[a,b]])",
            "dacnn(scope=[['layer1.0.conv1','layer1.0.conv2'],[a,b]])",
        ),
        ("dacnn+regulators+asa", "dacnn+regulators+asa"),
        ("regulators+kflo+repr+ortho-loss+ema", "regulators+kflo+repr+ortho-loss+ema"),
        ("wau+ema", "wau+ema"),
        ("repr(rank=l2) + ortho-loss(0.1)", "repr(rank=l2)+ortho-loss(weight=0.1)"),
    ],
)
def test_several_methods(text: str, expected: str) -> None:
    training = compose(text)
    assert str(training) == expected
    assert compose(expected).spelled == training.spelled
    assert same(read(text), read(expected))
    for other in ("baseline", "wau", "kflo+dsd", "dacnn+regulators+wau"):
        assert not same(read(text), read(other))
        assert not same(read(other), read(text))


def parse(text: str) -> Any:
    return compose(text).spelled


def test_with_defaults_or_without_them() -> None:
    assert same(parse("kflo"), parse("kflo(2,4)"))
    assert same(parse("kflo+wau(0.5)"), parse("kflo(depth=2)+wau"))
    assert same(parse("ema"), parse("ema(0.999,warmup=True)"))
    assert same(parse("wau+ema"), parse("ema+wau")), "the rest in any order"
    assert not same(parse("repr"), parse("repr(s1=20)")), "phases that are left open follow from the budget"
    for other in ("kflo(3)+wau", "kflo+wau(0.4)", "kflo+asa", "dbb+wau", "kflo", "wau"):
        assert not same(parse("kflo+wau"), parse(other)), other


def test_one_spelling_whatever_the_order() -> None:
    assert str(compose("wau(draw=bernoulli, rate=0.3)")) == str(compose("wau(0.3,draw='bernoulli')"))
    assert str(compose("wau(0.3)")) == "wau(rate=0.3)"


def test_objects_have_the_spelling_of_their_text() -> None:
    assert str(compose([fs.KFLO(width=3), "wau(0.3)"])) == "kflo(width=3)+wau(rate=0.3)"
    assert str(compose([fs.KFLO()])) == "kflo"
    assert of_object(fs.DOConv(12)) == Spelled("do-conv", {"d_mul": 12})
    for wrong, shown in ((fs.KFLO, "the class KFLO"), (3, "int"), (object(), "object")):
        with pytest.raises(ValueError, match=f"^a method must be a text, or an object .*, got {shown}$"):
            compose([wrong])


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
        ("kflo(2,4,identity,1,2,3)", "kflo with options among depth, width, init, decay_factor, networks"),
        ("kflo(3,depth=2)", "depth is given twice"),
        ("kflo+dbb", "kflo and dbb do not go together: both re-parametrize the kernels"),
        ("dacnn+kflo+dbb", "kflo and dbb do not go together"),
        ("dacnn+regulators+dacnn", "without dacnn twice, got"),
        ("do-conv(rate=2)", "unknown option of do-conv 'rate'; known: d_mul"),
        ("acnet(1)", "acnet with options among none"),
        ("dbb(width=2)", "unknown option of dbb 'width'"),
        ("ema(model=1)", "unknown option of ema 'model'; known: decay, warmup"),
        *(
            (
                text,
                r"method must be in the order \[dacnn .\] \[regulators .\] \[a re-parametrization .\] others, got '",
            )
            for text in (
                *("wau+kflo", "regulators+dacnn", "wau+dacnn", "kflo+dacnn"),
                "repr+regulators",
            )
        ),
        *((text, "method must be 'baseline' alone") for text in ("kflo+baseline", "baseline+wau", "dacnn+baseline")),
        *((text, "method must be without .* twice") for text in ("wau+wau", "dacnn+dacnn", "ortho-loss+ortho-loss")),
        *(
            (text, "do not go together: both divide the training into phases of their own")
            for text in ("repr+dsd", "asa+sas", "repr+asa", "prune+repr")
        ),
        ("ema+prune", "do not go together: the average would not have the zeros"),
        ("wau@resnet20", "method must be a name"),
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
        compose(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wau(rate=1.5)", "rate must be a number in .0, 1., got 1.5"),
        ("asa(rate=0)", "rate must be a number in .0, 1., got 0"),
        ("conv-lr(rate=2)", "rate must be"),
        ("wau(unit=row)", "unit must be one of filter"),
        ("flow", "rates must be a list with the rate of each phase, for example .*, got None"),
        ("flow(rates=[])", "rates must be a list"),
        ("flow(rates=0.5)", "rates must be a list"),
        ("flow(rates=[0.5,3])", "rate must be a number in .0, 1., got 3"),
        ("flow(rates=[0.5,[1]])", "rate must be a number in .0, 1."),
        ("kflo(depth=1)", "depth must be a whole number of at least 2, got 1"),
        ("kflo(3,0)", "width must be a number above 0, got 0"),
        ("kflo(width=wide)", "width must be a number above 0, got 'wide'"),
        ("kflo(init=zeros)", "init must be one of identity, default, got 'zeros'"),
        ("do-conv(d_mul=1.5)", "d_mul must be a whole number of at least 1, got 1.5"),
        ("ema(1)", "decay must be a number in .0, 1., got 1"),
        ("ema(decay=slow)", "decay must be a number in .0, 1., got 'slow'"),
        ("repr(prune=1)", "prune must be a number in .0, 1., got 1"),
        ("repr(rank=size)", "unknown criterion 'size'"),
        ("dsd(s1=0)", "s1 must be a whole number of at least 1, got 0"),
        ("prune(after=0)", "after must be a whole number of at least 1, got 0"),
        ("ortho-loss(weight=-1)", "weight must be a finite number of at least 0, got -1"),
    ],
)
def test_options_out_of_range_show_in_the_text(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        compose(text)
    assert "\n" not in str(caught.value)


def test_every_method_of_the_registry_has_its_options() -> None:
    for name in METHODS:
        assert {"model", "optimizer", "wau", "epochs", "phases", "scheduler"}.isdisjoint(option_names(name))
        assert bool(option_names(name)) == (name not in ("acnet", "dbb")), name
