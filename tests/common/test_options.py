"""The wording of errors, and the numbers that are taken: what torch takes as a seed is asked of torch."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from filtersmith.common.options import (
    Check,
    at_least,
    bad_option,
    below_one,
    check_options,
    check_state,
    first_line,
    number,
    one_of,
    seed_number,
    unknown_name,
    whole_number,
    yes_or_no,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.5, "1.5"),
        ("a\nb", r"'a\nb'"),
        (nn.Sequential(nn.ReLU()), "Sequential( (0): ReLU() )"),
        (torch.eye(2), "tensor([[1., 0.], [0., 1.]])"),
    ],
)
def test_an_option_out_of_range_is_one_line(value: object, shown: str) -> None:
    error = bad_option("rate", value, "a number in (0, 1]")
    assert type(error) is ValueError
    assert str(error) == f"rate must be a number in (0, 1], got {shown}"


def test_an_unknown_name_has_the_nearest_one_first_and_not_a_page_of_others() -> None:
    known = [f"net{n}" for n in range(31)]
    assert str(unknown_name("network", "wua", ["asa", "wau"])) == (
        "unknown network 'wua' (did you mean 'wau'?); known: asa, wau"
    )
    assert str(unknown_name("network", "", iter(known[:30]))) == (
        "unknown network ''; known: " + ", ".join(known[:30])
    )
    long = str(unknown_name("network", None, known))
    assert long.endswith("net29, ... (31 in all)")
    assert "net30" not in long
    assert "did you mean" not in long


@given(
    st.one_of(st.floats(), st.integers(), st.fractions(), st.booleans(), st.none(), st.text(), st.complex_numbers())
)
@example(math.nan)
@example(True)
@example(np.float32(0.5))
@example(Fraction(1, 3))
@example(torch.tensor(0.5))
def test_a_number_is_a_real_number_that_fits(value: Any) -> None:
    real = isinstance(value, (float, int, Fraction, np.floating)) and not isinstance(value, bool)
    if real and 0 < value <= 1:
        found = number("rate", value, lambda x: 0 < x <= 1, "a number in (0, 1]")
        assert type(found) is float
        assert found == float(value)
    elif real and abs(value) > 2**1023 and math.isfinite(value):
        return  # no float is so large
    else:
        with pytest.raises(ValueError, match=r"^rate must be a number in \(0, 1\], got ") as caught:
            number("rate", value, lambda x: 0 < x <= 1, "a number in (0, 1]")
        assert "\n" not in str(caught.value)


@given(st.integers(-(2**65), 2**65))
@example(-(2**63))
@example(-(2**63) - 1)
@example(2**64 - 1)
@example(2**64)
def test_a_seed_is_what_torchs_generators_take(value: int) -> None:
    try:
        torch.Generator().manual_seed(value)
    except (RuntimeError, ValueError, OverflowError):
        with pytest.raises(ValueError, match=f"^seed must be a whole number of at most 64 bits, got {value}$"):
            seed_number("seed", value)
    else:
        assert seed_number("seed", value) == value


@pytest.mark.parametrize("value", [1.0, "1", None, True])
def test_other_things_are_no_seeds_and_no_whole_numbers(value: object) -> None:
    with pytest.raises(ValueError, match=r"^seed must be "):
        seed_number("seed", value)
    with pytest.raises(ValueError, match=r"^depth must be a whole number of at least -1, got "):
        whole_number("depth", value, -1)


def test_a_whole_number_has_a_least_one_and_may_be_numpys() -> None:
    assert [whole_number("depth", value, 2) for value in (2, 10**30)] == [2, 10**30]
    found = whole_number("depth", np.int64(3), 2)
    assert (found, type(found)) == (3, int)
    with pytest.raises(ValueError, match=r"^depth must be a whole number of at least 2, got 1$"):
        whole_number("depth", 1, 2)


def test_the_first_line_of_an_error_or_its_kind() -> None:
    assert first_line(ValueError("\none\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError(" \n")) == "ValueError"


def test_several_options_are_given_back_as_their_checks_give_them() -> None:
    checks: dict[str, Check] = {"n": at_least(2), "share": below_one, "kind": one_of(("a", "b")), "on": yes_or_no}
    found = check_options(checks, n=np.int64(3), share=0, kind="a", on=True)
    assert found == {"n": 3, "share": 0.0, "kind": "a", "on": True}
    for option, value, allowed in (
        ("n", 1, "a whole number of at least 2"),
        ("share", 1, r"a number in \[0, 1\)"),
        ("kind", "c", "one of a, b"),
        ("on", 1, "True or False"),
    ):
        with pytest.raises(ValueError, match=rf"^{option} must be {allowed}, got {value!r}$"):
            check_options(checks, **{option: value})


def test_a_state_is_of_the_same_set_up() -> None:
    own = {"rate": 0.5, "epoch": 3}
    check_state("X", {"rate": 0.5, "epoch": 7, "more": 1}, own, ("rate",))
    for state, words in (
        ({"rate": 0.5}, "not a state of X: epoch missing"),
        ({"rate": 0.4, "epoch": 7}, "the state of X was saved with rate=0.4, this one has 0.5"),
        ([1], "state must be a state_dict of X, got list"),
    ):
        with pytest.raises(ValueError, match=f"^{words}$"):
            check_state("X", state, own, ("rate",))
