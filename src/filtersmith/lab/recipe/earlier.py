"""Configurations that earlier versions wrote."""

from __future__ import annotations

from typing import Any

from filtersmith.lab.recipe.arms import arm_name, split_arm


def written_by_0_1(values: Any) -> bool:
    """Whether a configuration is one of version 0.1: it always names ``train.ema``, a decay or null.

    ``+ema(decay=...,warmup=False)`` has taken its place.
    """
    train = values.get("train") if isinstance(values, dict) else None
    return isinstance(train, dict) and "ema" in train


def with_averages_as_methods(values: Any) -> Any:
    """Values with `+ema(...)` in every method in place of version 0.1's ``train.ema``."""
    if not written_by_0_1(values):
        return values
    train = values["train"]
    values = {**values, "train": {name: value for name, value in train.items() if name != "ema"}}
    if (decay := train["ema"]) is None:
        return values

    def averaged(method: Any) -> str:
        bare, network = split_arm(str(method))
        average = f"ema(decay={decay},warmup=False)"  # there was no warm-up
        return arm_name(average if bare == "baseline" else f"{bare}+{average}", network)

    if "method" in values:
        values["method"] = averaged(values["method"])
    if isinstance(values.get("methods"), (list, tuple)):
        values["methods"] = ["baseline", *(averaged(method) for method in values["methods"])]
    return values
