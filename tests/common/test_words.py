"""One is one, and everything else is several."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import filtersmith
from filtersmith.common import words
from filtersmith.common.words import in_words, plural


def test_counts() -> None:
    assert [plural(n, "run") for n in (0, 1, 2, 1000)] == ["0 runs", "1 run", "2 runs", "1,000 runs"]
    assert [plural(n, "class", "classes") for n in (1, 10)] == ["1 class", "10 classes"]


def test_an_error_in_words_has_one_line_and_is_never_empty() -> None:
    assert in_words(OSError("a\n  b")) == "a b"
    assert in_words(KeyError()) == "KeyError"


def test_nobody_else_adds_an_s() -> None:
    by_hand = re.compile(r"""\{['"]s?['"] (?:\*|if )|\w\(s\) """)
    root = Path(filtersmith.__file__).parent
    found = [
        f"{file.relative_to(root)}:{number}"
        for file in sorted(root.rglob("*.py"))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if by_hand.search(line)
    ]
    assert found == []


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(words)
    assert (results.failed, results.attempted > 0) == (0, True)
