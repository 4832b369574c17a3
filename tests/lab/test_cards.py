"""Cards as text: nothing of the markup is left, all of the words are, and the command in them can be typed."""

from __future__ import annotations

import doctest
import re
import shlex

import pytest
from reference.running import digits

from filtersmith.lab import cards
from filtersmith.lab.compare import check_methods, normalised
from filtersmith.lab.recipe.arms import split_arms
from filtersmith.lab.recipe.config import CompareConfig
from filtersmith.methods import BASELINE, METHODS
from filtersmith.methods.lifecycle import option_defaults
from filtersmith.methods.spelling import read


def letters(text: str) -> str:
    """The letters and digits of a text, so that neither marks nor line ends count."""
    return re.sub(r"[\W_]", "", text).lower()


def test_paragraphs_and_lists_are_wrapped_at_words_and_code_and_tables_are_not() -> None:
    code, table = "    a = call(one, two, three)  # *b* `c`", "==== ====\nname what\n==== ===="
    text = f"A title\n\none two three\nfour five-six\n\n- one two three\n  four\n- five\n\n{code}\n\n{table}"
    items = "- one two\n  three\n  four\n- five"
    assert cards.card(text, 10) == f"A title\n\none two\nthree four\nfive-six\n\n{items}\n\n{code}\n\n{table}"


@pytest.mark.parametrize(
    ("marked", "text"),
    [
        ("**What it does.** Trains *all*\nof `fs.rank`::", "WHAT IT DOES\nTrains all of fs.rank:"),
        ("**Where we differ.**\n\n- ``a`` b", "WHERE WE DIFFER\n\n- 'a' b"),
        (
            '``depth=3``, ``"filter"``, ``f(**options)`` and ``scope``',
            "depth=3, \"filter\", f(**options) and 'scope'",
        ),
        ("the window, M*N, of N*M, 2 * 3 * 4", "the window, M*N, of N*M, 2 * 3 * 4"),
        ("*A paper's\ntitle*, 2020", "A paper's title, 2020"),
        ("    for ``s1`` epochs:\n        a*b*c", "    for s1 epochs:\n        a*b*c"),
    ],
)
def test_markup_goes_and_what_only_looks_like_it_stays(marked: str, text: str) -> None:
    assert cards.card(marked, 80) == text


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is_then_all_of_its_card_then_how_it_is_typed(name: str) -> None:
    record = METHODS[name]
    text = cards.describe(name, 80)
    assert text.startswith(f"{name}: {record.summary}")
    first, card, last = letters(record.cls.__doc__.split("\n\n")[0]), letters(record.card), letters(text)
    assert 0 < last.index(first) < last.index(card) < last.index("onthecommandline")
    assert not re.search(r"``|\*\*[A-Z]|::$|(?<!\w)`\w", text, re.MULTILINE)
    prose = [line for line in text.splitlines() if not line.startswith((" ", "=", "|"))]
    assert max(map(len, prose)) <= 80
    for option, value in option_defaults(record.cls).items():
        shown = value is not None and value is not cards.TO_BE_GIVEN and option != "seed"
        assert re.search(rf"\b{option}{'=' if shown else ' '}", text.split("Options and their defaults: ")[1])


def test_methods_with_one_card_are_told_apart() -> None:
    assert "r, 1, r with r = wau.rate." in " ".join(cards.describe("asa", 80).split("ASA and SAS:")[0].split())
    assert "rates 1, r, 1 with" in " ".join(cards.describe("sas", 80).split("ASA and SAS:")[0].split())
    assert "The card of asa, sas and flow follows.\n" in cards.describe("flow", 80)
    assert "The card of dacnn and regulators follows.\n" in cards.describe("regulators", 80)
    assert "follows." not in cards.describe("wau", 80)
    assert "rates (to be given)" in cards.describe("flow", 80)
    assert cards.describe("ema", 80).endswith("Options and their defaults: decay=0.999, warmup=True.")


def test_the_commands_run() -> None:
    arms = []
    for name in (BASELINE, *METHODS):
        (line,) = [
            line for line in cards.describe(name, 80).splitlines() if line.startswith("    filtersmith compare")
        ]
        program, command, option, methods = shlex.split(line)
        assert (program, command, option) == ("filtersmith", "compare", "--methods")
        arms += [arm for arm in split_arms(methods) if arm not in arms]
    assert [read(arm)[0].name for arm in arms[1:]] == list(METHODS)
    config = normalised(CompareConfig.model_validate({"methods": arms, "seeds": 1}))
    assert check_methods(config, digits()) == []


def test_the_baseline_has_a_card_and_others_have_none() -> None:
    text = cards.describe(BASELINE, 80)
    assert text.startswith("baseline: plain training")
    assert text.endswith("    filtersmith compare --methods baseline\n\nOptions and their defaults: none.")
    with pytest.raises(ValueError, match=r"^unknown method 'wauu'.*did you mean 'wau'"):
        cards.describe("wauu", 80)


def test_the_examples() -> None:
    assert doctest.testmod(cards) == (0, 3)
