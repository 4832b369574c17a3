"""Weights that no optimizer has are said: all of a method's, or a part of them."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from filtersmith.optim.ownership import warn_of_unowned

WEIGHTS = {name: nn.Parameter(torch.ones(2)) for name in ("stem", "body", "head")}
FROZEN = {"frozen": nn.Parameter(torch.ones(2), requires_grad=False)}


def ids(*names: str) -> set[int]:
    return {id((WEIGHTS | FROZEN)[name]) for name in names}


@pytest.mark.parametrize(
    ("owned", "message"),
    [
        ((), r"^WAU: this optimizer has none of its 4 layers \(was it made for another copy of the model\?\)$"),
        (
            ("stem",),
            r"^WAU: no optimizer that it knows has the weight of 'body' and 1 more of its 4 layers, so that ",
        ),
        (
            ("stem", "body", "frozen"),
            r"^WAU: no optimizer that it knows has the weight of 'head' of its 4 layers, so",
        ),
    ],
)
def test_what_is_missing_is_said(owned: tuple[str, ...], message: str) -> None:
    with pytest.warns(UserWarning, match=message) as found:
        warn_of_unowned("WAU", WEIGHTS | FROZEN, ids(*owned))
    assert len(found) == 1


def test_where_all_is_there_or_frozen_nothing_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unowned("WAU", WEIGHTS | FROZEN, ids("stem", "body", "head"))
        warn_of_unowned("WAU", {}, set())


def test_that_all_is_frozen_is_said() -> None:
    with pytest.warns(UserWarning, match=r"^WAU: the weights of 1 layer are frozen, all that it is for, so that"):
        warn_of_unowned("WAU", FROZEN, ids("frozen"))
