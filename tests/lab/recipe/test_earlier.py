"""Configurations of earlier versions stay readable."""

from __future__ import annotations

from filtersmith.lab.recipe.config import CompareConfig, RunConfig, check


def test_averages_of_older_recipes_are_methods_now() -> None:
    """Version 0.1 had an option of training in the place of ``+ema``; its finished runs stay readable."""
    values = RunConfig(method="wau").model_dump(mode="json")
    values["train"]["ema"] = None
    assert check(RunConfig, values) == RunConfig(method="wau")
    values["train"]["ema"] = 0.9
    assert check(RunConfig, values).method == "wau+ema(decay=0.9,warmup=False)"
    assert check(RunConfig, values | {"method": "baseline"}).method == "ema(decay=0.9,warmup=False)"
    compared = {"train": {"ema": 0.9}, "methods": ["baseline", "wau@resnet20"]}
    averaged = ("ema(decay=0.9,warmup=False)", "wau+ema(decay=0.9,warmup=False)@resnet20")
    assert check(CompareConfig, compared).methods == ("baseline", *averaged)
