"""What a class asks for is what it is given, and what its signature shows is what a text may say."""

from __future__ import annotations

import functools
import inspect
from typing import Any, ClassVar

import pytest

from filtersmith.methods import lifecycle
from filtersmith.methods.lifecycle import (
    GIVEN,
    asks_for,
    call,
    maker,
    needs_network,
    of_class,
    option_defaults,
    owns_schedule,
)

REQUIRED = inspect.Parameter.empty


class Plain:
    """Options alone: made at once."""

    checks: ClassVar[dict[str, Any]] = {"strength": float}

    def __init__(self, strength: float = 0.5, *, every: int = 2) -> None:
        self.strength, self.every = strength, every


class AtWork:
    """Made of a network; for a training with other things than by hand."""

    def __init__(self, model: Any, optimizer: Any, s1: int = 20, prune: float = 0.3, *, seed: int = 0) -> None:
        self.made_with = model, optimizer, s1, prune, seed

    @classmethod
    def for_training(
        cls, model: Any, optimizer: Any, epochs: int, *, s1: int | None = None, **options: Any
    ) -> AtWork:
        return cls(model, optimizer, epochs // 2 if s1 is None else s1, **options)


class Restarting:
    def __init__(self, teacher: Any, rates: Any = (1.0,)) -> None: ...

    @classmethod
    def for_training(cls, optimizer: Any, scheduler: Any, teacher: Any, seed: int = 1) -> Restarting:
        return cls(teacher)


def function(model: Any, scope: str = "stage") -> None: ...


checks_function = {"scope": str}


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (Plain, {"strength": 0.5, "every": 2}),
        # What the class method hands on is the constructor's, in its order; its own defaults come first.
        (AtWork, {"s1": None, "prune": 0.3, "seed": 0}),
        # It hands nothing on: the constructor's rates cannot be given in a text.
        (Restarting, {"teacher": REQUIRED, "seed": 1}),
        (function, {"scope": "stage"}),
        (object, {}),
    ],
)
def test_options_are_what_the_signature_shows(cls: Any, options: dict[str, Any]) -> None:
    found = option_defaults(cls)
    assert found == options
    assert list(found) == list(options)
    assert not set(found) & set(GIVEN)


@pytest.mark.parametrize(
    ("cls", "network", "schedule"),
    [(Plain, False, False), (AtWork, True, False), (Restarting, True, True), (function, True, False)],
)
def test_what_has_to_wait_and_who_starts_schedules(cls: Any, network: bool, schedule: bool) -> None:
    assert needs_network(cls) == network
    assert owns_schedule(cls) == schedule


def test_called_by_name_with_what_is_asked_for() -> None:
    given = {"model": 1, "epochs": 9, "seed": 3}
    assert call(lambda: "nothing", given) == "nothing"
    assert call(lambda epochs, model: (epochs, model), given) == (9, 1), "in any order"
    assert call(lambda seed=0, other=5: (seed, other), given) == (3, 5)
    assert call(lambda *epochs, **model: (epochs, model), given) == ((), {}), "by name alone"
    assert call(functools.partial(lambda epochs, seed: (epochs, seed), seed=8), {"epochs": 9}) == (9, 8)
    assert call(maker(AtWork), given | {"optimizer": 2}).made_with == (1, 2, 4, 0.3, 0)
    assert call(AtWork(1, 2).__init__, given | {"optimizer": 4}) is None, "bound methods without self"
    with pytest.raises(TypeError, match="teacher"):
        call(lambda teacher: teacher, given)


def test_positional_only_parameters_are_never_asked_for() -> None:
    def measured(value: Any = 0, /, seed: int = 0, *rest: Any, epochs: int, **more: Any) -> Any:
        return value, seed, epochs

    assert list(asks_for(measured)) == ["seed", "epochs"]
    assert call(measured, {"value": 1, "seed": 2, "epochs": 3, "more": 4}) == (0, 2, 3)


def test_what_is_known_of_a_class_stands_in_it_and_of_a_function_beside_it() -> None:
    assert of_class(Plain, "checks") == {"strength": float}
    assert of_class(function, "checks", {}) == {"scope": str}
    assert of_class(AtWork, "checks", {}) == {}
    assert of_class(function, "resolved") is None


def test_its_docstring_names_all_that_is_given() -> None:
    for name in (*GIVEN, "seed", "images", "outputs", "labels"):
        assert f"``{name}``" in (lifecycle.__doc__ or ""), name
