"""Weights that a method is meant for and that no optimizer has: nothing trains them, and nobody would notice."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from filtersmith.common.said import warn_user
from filtersmith.common.words import plural


def warn_of_unowned(method: str, weights: Mapping[str, Tensor], owned: Collection[int]) -> None:
    """Say it where no optimizer has some or all of the weights that a method is for, or all of them are frozen.

    Args:
        method: as its user knows it.
        weights: by the names of their layers.
        owned: the parameters, by id, that the optimizers have, as their user holds them.
    """
    if weights and not any(weight.requires_grad for weight in weights.values()):
        layers = plural(len(weights), "layer")
        warn_user(f"{method}: the weights of {layers} are frozen, all that it is for, so that it changes nothing")
        return
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
