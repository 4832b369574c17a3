"""Recipes: which source wins, and one line for everything that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from filtersmith.lab.compare import normalised
from filtersmith.lab.recipe.config import (
    CompareConfig,
    RunConfig,
    check,
    first_difference,
    merge,
    option_names,
    read_recipe,
    to_yaml,
)
from filtersmith.lab.recipe.packaged import recipe_names


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_later_sources_win(recipe: Any) -> None:
    file = recipe("train: {epochs: 5, lr: 0.5, momentum: 0.5}\nmethods: [baseline]\nseeds: 2")
    config = merge(
        CompareConfig,
        recipe=file,
        options={"train.epochs": 6, "train.lr": 0.6, "data.name": None},
        assignments=["train.lr=0.7", "train.milestones=[0.2,9]"],
    )
    assert config.train.batch_size == CompareConfig().train.batch_size  # from the defaults
    assert config.data.name == "digits"  # an option that was not given
    assert config.train.momentum == 0.5  # from the recipe
    assert config.train.epochs == 6  # from the options
    assert config.train.lr == 0.7  # from --set
    assert config.train.milestones == (0.2, 9)
    assert config.methods == ("baseline",)
    assert config.seeds == (0, 1)


def test_one_recipe_serves_both_commands(recipe: Any) -> None:
    file = recipe("method: wau\nseed: 3\nmethods: [baseline, sas]\nseeds: [4]")
    run, comparison = merge(RunConfig, recipe=file), merge(CompareConfig, recipe=file)
    assert (run.method, run.seed) == ("wau", 3)
    assert (comparison.methods, comparison.seeds) == (("baseline", "sas"), (4,))


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes(name: str) -> None:
    config = normalised(merge(CompareConfig, recipe=name))
    assert config.methods[0] == "baseline"
    merge(RunConfig, recipe=name)
    assert check(CompareConfig, read_recipe(name)) == merge(CompareConfig, recipe=name)  # nothing misspelt


def test_yaml_brings_everything_back(recipe: Any) -> None:
    config = merge(CompareConfig, assignments=["train.lr=0.9", "data.image_size=16", "methods=['wau(layers=[x])']"])
    assert merge(CompareConfig, recipe=recipe(to_yaml(config))) == config


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("train.lr=0", ["train.lr must be a number above 0, got 0"]),
        ("train.lr=abc", ["train.lr", "number", "'abc'"]),
        ("train.lr=inf", ["train.lr must be a number above 0, got 'inf'"]),
        ("train.lr=", ["train.lr", "None"]),
        ("train.epochs=0", ["train.epochs must be a whole number of at least 1, got 0"]),
        ("train.epochs=2.5", ["train.epochs", "whole number", "2.5"]),
        ("train.epocs=3", ["train.epocs", "did you mean 'train.epochs'"]),
        ("train.lr.x=3", ["unknown option 'train.lr.x'", "did you mean 'train.lr'"]),
        ("train=3", ["train", "options by name", "got 3"]),
        ("foo=1", ["unknown option 'foo'", "train.lr"]),
        ("train.schedule=cosin", ["train.schedule", "'cosine'", "'cosin'"]),
        ("train.optimizer=null", ["train.optimizer", "'adamw'", "None"]),
        ("train.compile=perhaps", ["train.compile must be true or false, got 'perhaps'"]),
        ("train.momentum=1", ["train.momentum must be a number from 0 to below 1, got 1"]),
        ("train.label_smoothing=-0.1", ["train.label_smoothing", "-0.1"]),
        ("train.milestones=[0.5,0]", ["train.milestones.1 must be a number above 0, got 0"]),
        ("train.lr_min=1", ["train.lr_min", "at most lr = 0.1", "got 1.0"]),
        ("train.warmup_epochs=30", ["train.warmup_epochs", "below epochs = 30", "got 30"]),
        ("data.image_size=0", ["data.image_size", "got 0"]),
        ("seeds=0", ["seeds must be a number from 1 to 10,000 or a list", "got 0"]),
        ("seeds=100000000000", ["seeds", "10,000"]),
        ("seeds=true", ["seeds must be a number", "True"]),
        ("seeds=[1,-1]", ["seeds.1", "-1"]),
        ("seeds=[4294967296]", ["seeds.0 must be a whole number from 0 to 4,294,967,295"]),
        ("seeds=[]", ["seeds must have at least one item, got []"]),
        ("methods=wau", ["methods must be a list, got 'wau'"]),
        ("methods=[]", ["methods must have at least one item, got []"]),
        ("train.lr", ["--set", "NAME=VALUE", "'train.lr'"]),
        ("=3", ["--set", "NAME=VALUE"]),
        ("train.lr=[1", ["--set train.lr=[1"]),
        ("train.lr=1e-3 # small", ["--set train.lr=1e-3 # small", "comment", "quotes"]),
        ("train.epochs=010", ["--set train.epochs=010: 010 is ambiguous", "as 8"]),
        ("train..lr=1", ["unknown option 'train..lr'"]),
        ("methods={a: 1}", ["methods must be a list, got {'a': 1}"]),
        ("data.name=3", ["data.name must be a text, got 3"]),
    ],
)
def test_bad_values(assignment: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the words are checked one by one
        merge(CompareConfig, assignments=[assignment])
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_options_that_need_one_another() -> None:
    assert merge(RunConfig, assignments=["train.nesterov=true"]).train.nesterov
    with pytest.raises(ValueError, match=r"^train.nesterov needs sgd with momentum, got adam"):
        merge(RunConfig, assignments=["train.nesterov=true", "train.optimizer=adam"])
    with pytest.raises(ValueError, match="got sgd with momentum 0"):
        merge(RunConfig, assignments=["train.nesterov=true", "train.momentum=0"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "must hold options by name, got a list"),
        ("train: 5", "train must hold options by name, got 5"),
        ("train: ", "train must hold options by name, got None"),
        ("a: [", "is not YAML"),
        ("a: !!python/object:os.system {}", "line 1: tags are not read"),
        ("data: {name: 2020-01-01}", "recipe .*ambiguous"),
        ("train.lr: 3", "train.lr must be written as lr below train"),
        ("1: 2", "must be texts, got 1"),
        ("# nothing", "is empty"),
        ("train: {epocs: 3}", "did you mean 'train.epochs'"),
    ],
)
def test_bad_recipes(recipe: Any, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        merge(CompareConfig, recipe=recipe(text), options={"train.epochs": 3})
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown recipe .*'digit' .did you mean 'digits'"):
        merge(CompareConfig, recipe="digit")
    with pytest.raises(ValueError, match="there is no file /"):
        merge(CompareConfig, recipe=str(tmp_path))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary.yaml cannot be read"):
        merge(CompareConfig, recipe=str(binary))


def test_which_options_make_another_run() -> None:
    old = RunConfig()
    same = ["train.device=cpu", "train.tensorboard=true", "train.workers=0"]
    assert first_difference(old, merge(RunConfig, assignments=same)) is None
    other = merge(RunConfig, assignments=[*same, "train.lr=0.05", "seed=3"])
    assert first_difference(old, other) == "train.lr is 0.1 there and 0.05 here"
    # The others all count, a new one, too.
    values = {
        "data.name": "x",
        "data.image_size": 9,
        "model.small_images": True,
        "train.momentum": 0.5,
        "method": "wau",
    }
    for name, value in values.items():
        changed = first_difference(old, merge(RunConfig, options={name: value}))
        assert changed is not None
        assert changed.startswith(name)


def test_option_names_are_all_settable() -> None:
    names = option_names(RunConfig)
    assert {"data.name", "train.lr", "method", "seed"} <= set(names)
    config = RunConfig()
    for name in names:
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        if value is not None and not isinstance(value, tuple):
            assert merge(RunConfig, options={name: value}) == config
