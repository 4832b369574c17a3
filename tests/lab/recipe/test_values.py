"""Numbers as they are typed: one way to write each, and one line for what is none."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from filtersmith.lab.recipe.values import number, shortened, truth, whole

WHOLE = TypeAdapter(Annotated[int, whole(1)])
FROM_0 = TypeAdapter(Annotated[int, whole(0, 4000)])
NUMBER = TypeAdapter(Annotated[float, number(lambda x: x > 0, "a number above 0")])
TRUTH = TypeAdapter(Annotated[bool, truth])


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        *((WHOLE, 5, 5), (WHOLE, "5", 5), (FROM_0, "0", 0), (FROM_0, 4000, 4000)),
        *((NUMBER, 1, 1.0), (NUMBER, "1e-3", 0.001), (NUMBER, ".5", 0.5), (NUMBER, "5", 5.0)),
        *((TRUTH, "true", True), (TRUTH, "FALSE", False), (TRUTH, True, True)),
    ],
)
def test_what_is_taken(kind: TypeAdapter[Any], given: Any, value: Any) -> None:
    found = kind.validate_python(given)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *((WHOLE, given) for given in (0, -1, 5.0, "5.0", "010", "+5", " 5", "5 ", "1_000", "1e3", "\uff11\uff12")),
        *((WHOLE, given) for given in (True, None, "", "9" * 5000, [5], float("nan"))),
        *((FROM_0, given) for given in (4001, "-1", "4,000")),
        *((NUMBER, given) for given in (0, "nan", ".nan", "inf", float("inf"), 10**400, True, "0x1p3", "1,5", None)),
        *((TRUTH, given) for given in ("yes", "on", "1", 1, 0.0, None, "t")),
    ],
)
def test_what_is_refused(kind: TypeAdapter[Any], given: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.validate_python(given)
    message = caught.value.errors()[0]["msg"]
    assert "must be " in message
    assert f"got {shortened(repr(given))}" in message
    assert len(message) < 200


def test_a_range_is_named() -> None:
    with pytest.raises(ValidationError, match=r"must be a whole number from 0 to 4,000, got 4001"):
        FROM_0.validate_python(4001)


def test_long_texts_are_cut_and_have_one_line() -> None:
    assert shortened("a\n b") == "a b"
    assert shortened("x" * 80) == "x" * 80
    assert len(shortened("x" * 81)) == 80
