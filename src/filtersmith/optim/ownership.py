"""Weights that a method is meant for and that no optimizer has: nothing trains them, and nobody would notice."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from filtersmith.common.said import warn_user
from filtersmith.common.words import plural


def warn_of_unowned(method: str, weights: Mapping[str, Tensor], owned: Collection[int]) -> None:
    """Say it where no optimizer has some or all of the weights that a method is for; frozen ones apart.

    Args:
        method: as its user knows it.
        weights: by the names of their layers.
        owned: the parameters, by id, that the optimizers have, as their user holds them.
    """
    if weights and not any(id(weight) in owned for weight in weights.values()):
        warn_user(
            f"{method}: this optimizer has none of its {plural(len(weights), 'layer')} "
            "(was it made for another copy of the model?)"
        )
        return
    missing = [name for name, weight in weights.items() if weight.requires_grad and id(weight) not in owned]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        warn_user(
            f"{method}: no optimizer that it knows has the weight of {missing[0]!r}{more} of its {len(weights)} "
            "layers, so that nothing moves it: make the optimizer when the network has all its layers, or freeze it"
        )


def refuse_unowned(method: str, parameters: Mapping[str, Tensor], owned: Collection[int]) -> None:
    """``ValueError`` where no optimizer has what a method has to keep still: one that it does not know may move it.

    Args:
        method: as its user knows it.
        parameters: by name, those that go with what the method leaves out; frozen ones do no harm.
        owned: the parameters, by id, that the optimizers have, as their user holds them; where they have none of
            these, `warn_of_unowned` says so.
    """
    if not any(id(parameter) in owned for parameter in parameters.values()):
        return
    for name, parameter in parameters.items():
        if parameter.requires_grad and id(parameter) not in owned:
            raise ValueError(
                f"optimizer must have {name!r}, which {method} leaves out with filters that it has: give all "
                "optimizers as a list, or freeze it with requires_grad_(False) if nothing trains it"
            )
