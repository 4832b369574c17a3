"""``help`` of every public name teaches its use, and every card shows calls that work."""

from __future__ import annotations

import doctest
import inspect
import re
from operator import attrgetter
from typing import Any

import pytest
import torch

import filtersmith as fs

NAMES = sorted(set(fs.__all__) - {"__version__", "METHODS", "measure"})
CLASSES = [name for name in NAMES if inspect.isclass(getattr(fs, name))]
NAMES += [f"measure.{name}" for name in fs.measure.__all__]
PRINTED = r"Source: .+\*.+\*, .*(19|20)\d\d"
LINK = r"https://(arxiv\.org/abs/\d{4}\.\d{5}|doi\.org/10\.\d{4}/\S+)"


def public(name: str) -> Any:
    """What ``fs.NAME`` is."""
    return attrgetter(name)(fs)


def takes_options(value: Any) -> bool:
    """Whether a call takes something; an object that only `fs.compose` makes is not called by users."""
    return value is not fs.Composition and bool(inspect.signature(value).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_its_docstring_starts_with_a_sentence(name: str) -> None:
    first, *rest = inspect.getdoc(public(name)).splitlines()
    assert first[0].isupper()
    assert first.endswith(".")
    assert ". " not in first, "it has two"
    assert len(first) <= 118
    assert rest[0] == "", "the summary is one line"


@pytest.mark.parametrize("name", NAMES)
def test_its_example_runs(name: str) -> None:
    """As a stranger would type it: with nothing imported that the example does not import."""
    (example,) = doctest.DocTestFinder(recurse=False).find(public(name), name, globs={"__name__": "example"})
    assert len(example.examples) > 1, "it has no example"
    assert any(f"fs.{name}(" in line.source for line in example.examples) or name == "Composition"
    said: list[str] = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_takes_and_refuses(name: str) -> None:
    value = public(name)
    told = inspect.getdoc(value)
    if not takes_options(value):
        return
    assert re.search(r"^(Args|Args and attributes|Args and Raises as `\w+`)\b", told, re.M)
    assert re.search(r"\bRaises\b", told)
    if "Args and Raises as" in told or name in ("ASA", "Flow"):
        told += inspect.getdoc(fs.ASA) + inspect.getdoc(fs.Flow)
    for option in inspect.signature(value).parameters:
        assert re.search(rf"^ +(\w+, )*{option}(, \w+)*:", told, re.M), f"{option} is not explained"


@pytest.mark.parametrize("name", NAMES)
def test_it_names_its_source(name: str) -> None:
    told = inspect.getdoc(public(name))
    assert re.search(r"\bSource: ", told)
    assert re.search(LINK, told) or "own work" in told or re.search(PRINTED, told)


@pytest.mark.parametrize("name", CLASSES)
def test_its_methods_have_docstrings(name: str) -> None:
    for key, value in vars(getattr(fs, name)).items():
        if not key.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            assert inspect.getdoc(value), key


@pytest.mark.parametrize("name", fs.METHODS)
def test_a_card_links_its_paper_and_shows_a_composition_that_works(name: str) -> None:
    card = fs.METHODS[name].card
    assert re.search(LINK, card.split("**What it does.**")[0])
    texts = re.findall(r'fs\.compose\("(.+?)"[,)]', card)
    assert texts, "no fs.compose"
    methods = [
        one.name for text in texts for one in fs.compose(text, resolve=lambda name: torch.nn.Identity()).spelled
    ]
    of_this_file = {record.name for record in fs.METHODS.values() if record.card == card}
    assert of_this_file & set(methods), "another method's"
