"""Rows of a comparison by name: method and network apart and together again, and their folders."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtersmith.lab.recipe import arms
from filtersmith.lab.recipe.arms import arm_name, slug, split_arm, split_arms

METHODS = st.sampled_from(("baseline", "wau(rate=0.3)", "kflo+wau(layers=['a@b'])", "dacnn(scope=[[a,b],[c]])"))
NETWORKS = st.sampled_from((None, "resnet20", "timm:tf_net.in1k", "timm:a@b", ""))


@given(METHODS, NETWORKS)
def test_a_name_comes_apart_as_it_was_put_together(method: str, network: str | None) -> None:
    assert split_arm(arm_name(method, network)) == (method, network)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("wau", ("wau", None)),
        (" wau @ resnet20 ", ("wau", "resnet20")),
        ("wau(layers=['a@b'])", ("wau(layers=['a@b'])", None)),
        ("wau(layers=['(@b'])@net", ("wau(layers=['(@b'])@net", None)),  # a bracket that is never closed
    ],
)
def test_an_at_sign_inside_of_brackets_belongs_to_the_method(text: str, parts: tuple[str, str | None]) -> None:
    assert split_arm(text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("baseline,wau,asa", ["baseline", "wau", "asa"]),
        ("baseline, wau(rate=0.3,draw=bernoulli) ,asa", ["baseline", "wau(rate=0.3,draw=bernoulli)", "asa"]),
        ("flow(rates=[1,0.5]),wau", ["flow(rates=[1,0.5])", "wau"]),
        ("wau(layers=['a,b'])", ["wau(layers=['a,b'])"]),
        ("baseline,kflo(depth=3,width=1.5),do-conv", ["baseline", "kflo(depth=3,width=1.5)", "do-conv"]),
        ("baseline,", ["baseline", ""]),
    ],
)
def test_methods_are_split_outside_of_brackets(text: str, parts: list[str]) -> None:
    assert split_arms(text) == parts


def test_folders_have_names_for_a_shell() -> None:
    names = {
        "wau(rate=0.3)": "wau-rate-0.3",
        "conv-lr(rate=0.5)": "conv-lr-rate-0.5",
        "flow(rates=[0.5,1,0.5])": "flow-rates-0.5-1-0.5",
        "wau(seed=1)": "wau-seed-1",
        "wau(seed=-1)": "wau-seed--1",
        "baseline@resnet20": "baseline@resnet20",
        "dacnn+wau(rate=0.3)@timm:tf_net.in1k": "dacnn-wau-rate-0.3@timm-tf_net.in1k",
        "dacnn(scope=[[a,b],[c]])": "dacnn-scope-a-b--c",
        "dacnn(scope=[[a],[b,c]])": "dacnn-scope-a--b-c",
    }
    assert {name: slug(name) for name in names} == names


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(arms)
    assert (results.failed, results.attempted > 0) == (0, True)


def test_long_names_have_short_folders() -> None:
    long = [f"wau(layers=[{','.join(f'features.{n}' for n in range(60))},{last}])" for last in ("a", "b")]
    names = [slug(arm) for arm in long]
    assert len(set(names)) == 2, "two that begin alike differ"
    assert all(len(name) <= 80 and name.startswith("wau-layers-features.0-") for name in names)
    assert names[0] == slug(long[0])
    assert slug("baseline@timm:" + "n" * 300) != slug("baseline@timm:" + "n" * 301)
    kept = f"wau(layers=[{'a' * 120}])"
    assert slug(kept) == f"wau-layers-{'a' * 120}", "folders that there are stay"
