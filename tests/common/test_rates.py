"""Phases of rates; what is refused of them, through `Flow`, is in ``test_flow``."""

from __future__ import annotations

import doctest
import warnings

import pytest

from filtersmith.common import rates as module
from filtersmith.common.rates import check_rates, phases_in


def test_fewer_epochs_than_phases_are_said() -> None:
    with pytest.warns(
        UserWarning, match=r"^3 phases need at least 3 epochs, got 2 epochs: the first phases are left"
    ):
        assert phases_in(2, [0.5, 1.0, 0.25]) == [(1.0, 1), (0.25, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert phases_in(3, [0.5, 1.0, 0.25]) == [(0.5, 1), (1.0, 1), (0.25, 1)]


@pytest.mark.parametrize("wrong", [[], 0.5, "0.5", [0.5, 2], [0.0]])
def test_what_is_no_list_of_rates(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"rates? must be"):
        check_rates("rates", wrong)


def test_the_example() -> None:
    assert doctest.testmod(module) == (0, 1)
