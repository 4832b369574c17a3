"""One method of a composition: when its object is made; which go together, and in which order they are at work."""

from __future__ import annotations

from itertools import permutations
from typing import Any, ClassVar

import pytest
from torch import nn

import filtersmith as fs
from filtersmith import METHODS
from filtersmith.common.options import number
from filtersmith.methods.parts import Part, arranged, attach_order
from filtersmith.methods.spelling import of_object, read


def parts_of(text: str) -> tuple[Part, ...]:
    return arranged([Part.of_text(spelled, None) for spelled in read(text)])


def names(parts: Any) -> list[str]:
    return [part.spelled.name for part in parts]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Registers somebody's class or function by a name."""

    def add(name: str, cls: Any, **more: Any) -> None:
        monkeypatch.setitem(METHODS._read(), name, fs.Method(name, "s", "p", cls, **more))

    return add


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))


# --- which go together ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "baseline",
        "kflo",
        "dacnn+regulators+acnet+wau+ema",
        "ema+wau+conv-lr+ortho-loss",
        "dacnn+do-conv+asa",
        "repr+wau",
        "kflo+dsd",
    ],
)
def test_what_goes_together(text: str) -> None:
    parts = parts_of(text)
    assert names(parts) == [name for name in text.split("+") if name != "baseline"], "in the order of the text"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wau+kflo", "in the order"),
        ("kflo+acnet", "^kflo and acnet do not go together: both re-parametrize the kernels; take one of them$"),
        ("kflo+dacnn", "in the order"),
        ("regulators+dacnn", "in the order"),
        ("wau+dacnn", "in the order"),
        ("wau+ema+wau", "without wau twice"),
        ("wau(0.5)+wau(0.25)", "without wau twice"),
        ("repr+dsd", "repr and dsd do not go together: both divide the training into phases of their own"),
        ("asa+wau+sas", "asa and sas do not go together: both divide"),
        ("ema+prune", "ema and prune do not go together: the average would not have the zeros"),
        ("prune+ema", "ema and prune do not go together: the average"),
    ],
)
def test_what_does_not(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parts_of(text)
    assert "\n" not in str(caught.value)


def test_the_order_is_told_in_the_words_of_a_text() -> None:
    with pytest.raises(
        ValueError,
        match=r"^method must be in the order \[dacnn \+\] \[regulators \+\] \[a re-parametrization \+\] others, "
        r"got 'wau\+kflo\(width=4\)'$",
    ):
        parts_of("wau+kflo(width=4)")


def test_two_averages_do_not_go_together(register: Any) -> None:
    class Average:
        network = None

    register("mean", Average)
    assert names(parts_of("wau+mean")) == ["wau", "mean"]
    with pytest.raises(ValueError, match=r"^ema and mean do not go together: both deploy a network of their own"):
        parts_of("ema+mean")


# --- in which order they are at work --------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(["ema", "asa", "conv-lr"])))
def test_groups_are_changed_before_schedules_start_and_averages_see_all(order: tuple[str, ...]) -> None:
    assert names(attach_order(parts_of("+".join(order)))) == ["conv-lr", "asa", "ema"]


def test_others_keep_the_order_of_the_text() -> None:
    for text in ("wau+conv-lr+ortho-loss", "ortho-loss+conv-lr+wau"):
        assert names(attach_order(parts_of(text))) == text.split("+")


# --- when the object is made ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "at_once"), [("kflo", True), ("wau", False), ("repr", False), ("dacnn", False)])
def test_an_object_is_there_at_once_where_it_needs_no_network(text: str, at_once: bool) -> None:
    (part,) = parts_of(text)
    assert (part.made is not None) == at_once
    if at_once:
        assert isinstance(part.made, METHODS[text].cls)


def test_an_object_that_was_made_by_hand_is_the_one_at_work() -> None:
    made = fs.KFLO(width=3)
    part = Part(of_object(made), made)
    (other,) = parts_of("kflo(width=3)")
    assert part.made is made
    assert part.spelled == other.spelled
    model = network()
    assert part.prepare(model) is model
    assert model[0].parametrizations["weight"].original0.shape[0] == 12


def test_a_class_that_changes_a_network_it_was_made_for(register: Any) -> None:
    class Widened:
        def __init__(self, model: nn.Module, factor: int = 2) -> None:
            self.outputs = model[2].out_features * factor

        def prepare(self, model: nn.Module) -> nn.Module:
            return nn.Sequential(model, nn.Linear(2, self.outputs))

    register("widened", Widened)
    (part,) = parts_of("widened(3)")
    assert part.made is None
    assert part.prepares
    assert part.prepare(network())[1].out_features == 6
    assert isinstance(part.made, Widened)


def test_a_function_changes_the_network_with_its_options(register: Any) -> None:
    def grow(model: nn.Module, layers: int = 1) -> nn.Module | None:
        if layers == 1:
            model.append(nn.ReLU())
            return None
        return nn.Sequential(model, *[nn.ReLU()] * layers)

    register("grow", grow)
    model = network()
    assert parts_of("grow")[0].prepare(model) is model, "changed in place where nothing is returned"
    assert len(model) == 4
    assert len(parts_of("grow(2)")[0].prepare(model)) == 3


def test_what_a_part_trains_and_how_long_a_schedule_is(register: Any) -> None:
    class Trains:
        def __init__(self, model: nn.Module) -> None:
            self.own = nn.Parameter(model[0].bias.detach().clone())

        def prepare(self, model: nn.Module) -> None: ...

        def parameters(self) -> Any:
            yield self.own

    register("trains", Trains)
    (part,) = parts_of("trains")
    assert part.parameters() == [], "not there yet"
    part.prepare(network())
    assert part.parameters()[0] is part.made.own
    assert part.schedule_epochs(7) == 7
    assert parts_of("asa")[0].schedule_epochs(6) == 2


# --- options --------------------------------------------------------------------------------------------------


def share(option: str, value: Any) -> float:
    return number(option, value, lambda x: 0 < x < 1, "a number in (0, 1)")


def test_options_are_checked_before_there_is_a_network(register: Any) -> None:
    class Checked:
        checks: ClassVar[dict[str, Any]] = {"share": share}

        def __init__(self, model: nn.Module, share: float, free: Any = None) -> None: ...

    register("checked", Checked)
    assert parts_of("checked(0.5)")[0].options == {"share": 0.5}
    for text, shown in (
        ("checked(1.5)", "1.5"),
        ("checked", "None"),
        ("checked(free=3)", "None"),
        ("checked(x)", "'x'"),
    ):
        with pytest.raises(ValueError, match=rf"^share must be a number in \(0, 1\), got {shown}$"):
            parts_of(text)


def test_names_are_resolved_and_kept_as_they_were_spelled(register: Any) -> None:
    class Taught:
        resolved = ("teacher",)

        def __init__(self, teacher: Any, weight: float = 1.0) -> None:
            self.teacher = teacher

    register("taught", Taught)
    (spelled,) = read("taught(big)")
    part = Part.of_text(spelled, {"big": (found := object())}.__getitem__)
    assert part.made.teacher is found
    assert part.spelled.options == {"teacher": "big"}
    with pytest.raises(ValueError, match=r"^teacher must be an object: nobody here resolves names, got 'big'$"):
        Part.of_text(spelled, None)
