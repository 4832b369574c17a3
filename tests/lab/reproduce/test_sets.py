"""The data sets of a call: what stands for which, and how often each is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from lab.tasks.detection.small_sets import voc
from reference.running import digits

from filtersmith.lab.papers.published import table
from filtersmith.lab.papers.sets import SETS
from filtersmith.lab.recipe.config import DataOptions, RunConfig
from filtersmith.lab.reproduce import sets as module
from filtersmith.lab.reproduce.arms import arm_of
from filtersmith.lab.reproduce.instead import Instead
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
    found = Sets(Place(Path("runs"), Instead("digits")))
    assert found.place.images == dict.fromkeys(("cifar10", "cifar100", "svhn"), 1_437)
    assert found.place.in_memory == {"cifar10", "cifar100", "svhn"}
    assert found.identity("cifar10") == found.identity("cifar100") == found.identity("svhn")
    plain = RunConfig(data=DataOptions(name="digits", image_size=32, augment=False))
    assert len(found.load(plain).train) == 1_437
    assert loaded == ["digits"], "augmented or not, they are the same images"
    limited = RunConfig(data=DataOptions(name="digits", image_size=32, limit=200))
    assert len(found.load(limited).train) == 200


def test_a_set_that_is_not_there_is_an_error_or_is_left_out() -> None:
    nowhere = Place(Path("runs"), Instead("imagefolder:nowhere"))
    with pytest.raises(ValueError, match="nowhere"):
        Sets(nowhere)
    said: list[str] = []
    found = Sets(nowhere, lambda name, error: said.append(f"{name}: {error}"))
    assert found.identity("cifar10") is None
    assert found.identity("cifar10") is None
    assert len(said) == 1
    assert said[0].startswith("imagefolder:nowhere: ")


def test_only_the_named_sets_are_replaced() -> None:
    found = Sets(Place(Path("runs"), Instead("digits", ("cifar10",))), lambda name, error: None)
    assert found.place.name("cifar10") == "digits"
    assert found.place.name("cifar100") == "cifar100"


@pytest.mark.parametrize(
    ("name", "instead", "said"),
    [
        (
            "imagenet",
            None,
            r"^imagenet is not downloaded: it needs ImageNet \(ILSVRC 2012 from image-net\.org, as train/",
        ),
        ("coco", None, "^coco is not downloaded: it needs COCO .*, named by --data coco=coco:PATH$"),
        ("imagenet", "voc:cells", "^voc:cells is data of the task detection, and rows on imagenet need data of the "),
        (
            "coco",
            "digits",
            "^digits is data of the task classification, and rows on coco need data of the task detec",
        ),
        ("vqa", "coco:2017", "need data of the task vqa, such as vqa:PATH$"),
    ],
)
def test_sets_that_are_not_there_and_those_of_another_task_are_refused(
    name: str, instead: str | None, said: str
) -> None:
    place = Place(Path("runs"), Instead(None, (), {} if instead is None else {name: instead}))
    with pytest.raises(ValueError, match=said) as error:
        Sets(place).identity(name)
    assert "\n" not in str(error.value)


def test_a_title_says_what_was_reduced(tmp_path: Path) -> None:
    cells = f"voc:{voc(tmp_path / 'cells', {'trainval': ['a', 'b'], 'test': ['c']})}"
    of = table("repr/table7")
    arm = arm_of(of.row(6), of)
    alone = Sets(Place(tmp_path, Instead(cells, ("coco",), image_size=64)))
    scratch = alone.identity_of(alone.place.as_run(arm))
    assert scratch is not None
    assert (scratch.title, scratch.images) == ("cells at 64 pixels from scratch", 2)
    both = Sets(Place(tmp_path, Instead(cells, ("coco",), {"imagenet": "digits"})))
    after = both.identity_of(both.place.as_run(arm))
    assert after is not None
    assert after.title == "cells after digits"
    first = both.identity_of(arm.pretrained) if arm.pretrained is not None else None
    assert first is not None
    assert first.title == "digits"
    assert len({one.digest for one in (scratch, after, first)}) == 3
    whole = both.identity_of(replace(arm, pretrained=None))
    assert whole is not None
    assert whole.digest not in {scratch.digest, after.digest}


def test_a_copy_of_a_papers_set_is_known_by_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = voc(tmp_path / "my-copy", {"trainval": ["a", "b"], "test": ["c"]})
    monkeypatch.setitem(SETS, "voc2007", replace(SETS["voc2007"], train=2, test=1, classes=2))
    place = Place(tmp_path, Instead(None, (), {"voc2007": f"voc:{folder}", "coco": f"voc:{folder}"}))
    titles = [one.title for one in map(Sets(place).identity, ("voc2007", "coco")) if one is not None]
    assert titles == ["Pascal VOC 2007", "my-copy"]
