"""The data sets of a call: what stands for which, and how often each is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference.running import digits

from filtersmith.lab.recipe.config import DataOptions, RunConfig
from filtersmith.lab.reproduce import sets as module
from filtersmith.lab.reproduce.plan import Place
from filtersmith.lab.reproduce.sets import Identity, Sets


def test_data_is_known_by_title_and_test_images() -> None:
    found = Identity.of(RunConfig(), digits())
    assert (found.title, found.images) == ("digits", 1_437)
    assert found == Identity.of(RunConfig(), digits())


def test_what_stands_in_place_of_another_set_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = module.load_data
    monkeypatch.setattr(module, "load_data", lambda config: loaded.append(config.data.name) or load(config))
    found = Sets(Place(Path("runs"), "digits"))
    assert found.place.images == 1_437
    assert found.identity("cifar10") == found.identity("cifar100") == found.identity("digits")
    plain = RunConfig(data=DataOptions(name="digits", image_size=32, augment=False))
    assert len(found.load(plain).train) == 1_437
    assert loaded == ["digits"], "augmented or not, they are the same images"
    limited = RunConfig(data=DataOptions(name="digits", image_size=32, limit=200))
    assert len(found.load(limited).train) == 200


def test_a_set_that_is_not_there_is_an_error_or_is_left_out() -> None:
    nowhere = Place(Path("runs"), "imagefolder:nowhere")
    with pytest.raises(ValueError, match="nowhere"):
        Sets(nowhere)
    said: list[str] = []
    found = Sets(nowhere, lambda name, error: said.append(f"{name}: {error}"))
    assert found.identity("cifar10") is None
    assert found.identity("cifar10") is None
    assert len(said) == 1
    assert said[0].startswith("imagefolder:nowhere: ")


def test_only_the_named_sets_are_replaced() -> None:
    found = Sets(Place(Path("runs"), "digits", replaced=("cifar10",)), lambda name, error: None)
    assert found.place.name("cifar10") == "digits"
    assert found.place.name("cifar100") == "cifar100"
