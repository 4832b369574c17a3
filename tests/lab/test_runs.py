"""The runs of a comparison: one spelling, one folder, and what earlier calls left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from filtersmith.lab.recipe.config import CompareConfig, merge, to_yaml
from filtersmith.lab.runs import kept, normalised, plan, with_earlier


def comparison(methods: str, seeds: Any = 2) -> CompareConfig:
    return normalised(
        merge(CompareConfig, options={"model.name": "vanilla-1-4", "methods": methods.split(), "seeds": seeds})
    )


def earlier(out: Path, methods: str, seeds: Any = 2) -> None:
    (out / "config.yaml").write_text(to_yaml(comparison(methods, seeds)))


def test_arms_have_one_spelling() -> None:
    what = comparison(" baseline@vanilla-1-4 wau(0.3)@vanilla-1-4 baseline@vanilla  wau(0.3)@timm:resnet18")
    expected = ("baseline", "wau(rate=0.3)", "baseline@vanilla", "wau(rate=0.3)@timm:resnet18")
    assert what.methods == expected
    assert normalised(what) == what


@pytest.mark.parametrize(
    ("methods", "seeds", "words"),
    [
        ("wau asa", 1, "methods must include 'baseline', which the others are compared with, got wau,asa"),
        ("baseline wau wau", 1, "methods must be different, got wau twice"),
        ("baseline wau(0.3) wau(rate=0.3)", 1, r"methods must be different, got wau.rate=0.3. twice"),
        ("baseline", [1, 1], r"seeds must be different, got \[1, 1\]"),
        ("baseline wauu", 1, "unknown method 'wauu'"),
        ("baseline wauu@vanilla", 1, "unknown method 'wauu'"),
        ("baseline wau@", 1, "method must be a method, or METHOD@NETWORK with a network of .*, got 'wau@'"),
        ("baseline baseline@vanilla-1-4", 1, "methods must be different, got baseline twice"),
        ("baseline wau@vanilla wau(0.5)@vanilla", 1, "got wau@vanilla and wau.rate=0.5.@vanilla, which is the same"),
        ("baseline@vanilla wau", 1, "must include 'baseline', .*, got baseline@vanilla,wau"),
        (
            "baseline wau(layers=[a,b]) wau(layers=[a_b])",
            1,
            r"methods must have folders of different names, got wau.layers=\[a,b\]. and .*: wau-layers-a-b$",
        ),
    ],
)
def test_what_cannot_be_compared(methods: str, seeds: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        comparison(methods, seeds)


@pytest.mark.parametrize(
    ("methods", "seeds", "line"),
    [
        ("baseline wau asa", [0, 1, 5], None),
        ("baseline wau asa repr", [0, 1, 5, 6], None),
        ("baseline asa", [0, 1, 5], "kept: wau of an earlier call"),
        ("baseline repr", [0, 9], "kept: wau, asa, seeds 1 and 5 of an earlier call"),
        ("baseline wau asa", [1], "kept: seeds 0 and 5 of an earlier call"),
        ("asa baseline wau", [5, 1], "kept: seed 0 of an earlier call"),
    ],
)
def test_what_is_not_asked_for_again_is_kept(
    tmp_path: Path, methods: str, seeds: list[int], line: str | None
) -> None:
    earlier(tmp_path, "baseline wau asa", [0, 1, 5])
    asked, whole = with_earlier(comparison(methods, seeds), tmp_path)
    assert (list(asked.methods), list(asked.seeds)) == (methods.split(), seeds)
    assert whole.methods == ("baseline", "wau", "asa", *(["repr"] if "repr" in methods else []))
    assert whole.seeds == (0, 1, 5, *(seed for seed in seeds if seed > 5))
    assert kept(asked, whole) == line


def test_another_spelling_of_an_earlier_method_is_that_method(tmp_path: Path) -> None:
    earlier(tmp_path, "baseline wau asa(rate=0.5)@vanilla")
    asked, whole = with_earlier(comparison("wau(rate=0.5) baseline asa@vanilla asa"), tmp_path)
    assert asked.methods == ("wau", "baseline", "asa(rate=0.5)@vanilla", "asa")
    assert whole.methods == ("baseline", "wau", "asa(rate=0.5)@vanilla", "asa")
    assert plan(asked, tmp_path)[0].folder.path == tmp_path / "runs" / "wau" / "seed-0"
    assert plan(asked, tmp_path)[0].config.method == "wau"


def test_a_new_folder_holds_nothing(tmp_path: Path) -> None:
    what = comparison("baseline wau")
    assert with_earlier(what, tmp_path / "new") == (what, what)


def test_what_an_earlier_call_had_and_this_one_cannot_go_with(tmp_path: Path) -> None:
    earlier(tmp_path, "baseline wau(layers=[a,b])")
    words = r"^--out .* methods of an earlier call that don't go with these: methods must have folders of different"
    with pytest.raises(ValueError, match=words):
        with_earlier(comparison("baseline wau(layers=[a_b])"), tmp_path)
    recipe = tmp_path / "config.yaml"
    recipe.write_text(recipe.read_text().replace("- baseline", "- baseline\n- gone"))
    with pytest.raises(ValueError, match=r"unknown method 'gone'.*; choose another --out$"):
        with_earlier(comparison("baseline wau"), tmp_path)
