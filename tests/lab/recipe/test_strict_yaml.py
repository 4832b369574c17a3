"""YAML that everybody reads in the same way, and what is written is read back as it was."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from filtersmith.lab.recipe.strict_yaml import LONGEST, read, read_value, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("-0", 0),
        ("1.0e-05", 1e-5),
        ("5", 5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("'010'", "010"),
        ('"yes"', "yes"),
        ("hf:/a/b", "hf:/a/b"),
        ("[0.5, 9]", [0.5, 9]),
        ("a: {b: [x, 'y z']}", {"a": {"b": ["x", "y z"]}}),
        ("wau(rate=0.3)", "wau(rate=0.3)"),
        ("3x3", "3x3"),
        ("1.5:30", "1.5:30"),
    ],
)
def test_values(text: str, value: object) -> None:
    found = read(text)
    assert (found, type(found)) == (value, type(value))


def test_numbers_that_are_none() -> None:
    assert math.isnan(read(".nan"))
    assert read("-.inf") == -math.inf


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, "is ambiguous") for text in ("010", "1:30", "0x10", "0b1", "1_000", "+5", "yes", "No", "on", "OFF")),
        *((text, "is ambiguous") for text in ("2020-01-01", "=", "190:20:30", "[1, yes]", "{off: 1}")),
        ("010", "reads it as 8"),
        ("a: 1\nb: 2\na: 3", "line 3: a is given twice"),
        ("x: {b: 1, b: 2}", "b is given twice"),
        ("a: 1\n'a': 2", "a is given twice"),
        ("a: &x [1]\nb: *x", "line 1: anchors and aliases"),
        ("<<: {a: 1}", "merge keys"),
        ("1: 2", "must be texts, got 1"),
        ("~: 2", "must be texts, got ~"),
        ("? [a]\n: 1", "must be texts"),
        ("!!int 3", "tags are not read"),
        ("! 3", "tags are not read"),
        ("a: !!python/object/apply:os.system [ls]", "tags are not read"),
        ("a:\n\t- 1", "not YAML: line 2"),
        ("a: [", "not YAML: line 1"),
        ("a: 1\n---\nb: 2", "a single document"),
        ("a: \x00", "not YAML"),
        ("[" * 5000, "nested too deeply"),
        ("1" * 5000, "cannot be read"),
        ("a" * (LONGEST + 1), "1,000,001 characters"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the words are checked below
        read(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_billion_laughs_are_none() -> None:
    bomb = "a: &a [x,x]\n" + "\n".join(f"{b}: &{b} [*{a},*{a}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    with pytest.raises(ValueError, match="anchors"):
        read(bomb)


@pytest.mark.parametrize("text", ["/data #1", "#", "a # b", "[1] # c"])
def test_a_value_of_the_command_line_has_no_comment(text: str) -> None:
    with pytest.raises(ValueError, match="comment: put the value in quotes"):
        read_value(text)


def test_a_value_of_the_command_line() -> None:
    assert read_value("'/data #1'") == "/data #1"
    assert read_value("a#b") == "a#b"
    with pytest.raises(ValueError, match=r"^010 is ambiguous"):
        read_value("010")


ODD = ("010", "1e3", "yes", "1:30", "null", "", "=", "<<", "~", "0x1", "2020-01-01", "a: b", "# c", "1_0", ".nan")
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("ü中\n")) | st.sampled_from(ODD)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT


@given(st.dictionaries(TEXT, PLAIN | st.lists(PLAIN, max_size=3), max_size=4))
def test_what_is_written_is_read(values: dict[str, object]) -> None:
    assert read(write(values)) == values


def test_others_read_the_same_numbers() -> None:
    values = {"lr": 1e-5, "epochs": 30, "big": 1e30, "text": "1e3"}
    assert yaml.safe_load(write(values)) == values
