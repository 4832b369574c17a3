"""A message begins with the option as it was given, wherever that was."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from filtersmith.lab.recipe import origin
from filtersmith.lab.recipe.config import RunConfig, merge
from filtersmith.lab.recipe.origin import OptionError, Origins, about


def told(origins: Origins, **given: object) -> str:
    with pytest.raises(OptionError) as caught:
        merge(RunConfig, origins=origins, **given)  # type: ignore[arg-type]
    return origins.tell(caught.value)


def test_the_last_origin_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("train: {epochs: 0, milestones: [0.5, -1]}")
    typed = {"train.epochs": "--epochs", "recipe": "--recipe"}
    start = f"recipe {recipe}: train.epochs must be"
    assert told(Origins(typed), recipe=str(recipe)).startswith(start)
    options = {"train.epochs": "x"}
    assert told(Origins(typed), recipe=str(recipe), options=options).startswith("--epochs: train.epochs must be")
    assert told(Origins(typed), options=options, assignments=["train.epochs=-3"]).startswith(
        "--set train.epochs=-3: "
    )
    assert told(Origins(typed), assignments=["train={epochs: 0}"]).startswith(
        "--set train={epochs: 0}: train.epochs "
    )
    of_a_list = told(Origins(typed), recipe=str(recipe), options={"train.epochs": 3})
    assert of_a_list.startswith(f"recipe {recipe}: train.milestones.1 must be a number above 0")
    assert told(Origins(typed), recipe="nowhere").startswith("--recipe: unknown recipe")


def test_an_error_elsewhere_is_about_an_option() -> None:
    origins = Origins()
    origins.record("model.name", "--model")
    origins.record("train.precision", "--precision")
    with pytest.raises(OptionError) as caught, about("model.name"):
        raise ValueError("unknown network 'x'")
    assert origins.tell(caught.value) == "--model: unknown network 'x'"
    with pytest.raises(OptionError) as caught, about("model.name"):
        raise ValueError("train.precision must be fp32 here")
    assert origins.tell(caught.value) == "--precision: train.precision must be fp32 here", "its own name counts"
    with pytest.raises(OptionError) as caught, about("model.name"), about("train.precision"):
        raise ValueError("no")
    assert caught.value.option == "train.precision", "the inner one"


def test_what_has_its_default_or_names_itself_stays() -> None:
    origins = Origins()
    assert origins.tell(OptionError("train.lr", "train.lr is odd")) == "train.lr is odd"
    origins.record("train.lr", "--set train.lr=1")
    assert origins.tell(ValueError("no option")) == "no option"
    assert origins.tell(ValueError("train.lr is odd")) == "--set train.lr=1: train.lr is odd"
    assert origins.tell(ValueError("--set train.lr=1: no")) == "--set train.lr=1: no"


def test_the_example_in_the_docstring() -> None:
    results = doctest.testmod(origin)
    assert (results.failed, results.attempted > 0) == (0, True)
