"""What can be concluded of a table, and what cannot."""

from __future__ import annotations

from dataclasses import replace

from lab.reproduce.entries import every_verdict

from filtersmith.lab.papers.published import table
from filtersmith.lab.reproduce.conclusions import conclude
from filtersmith.lab.reproduce.measured import Measured, Setting, measure, settings
from filtersmith.lab.results.statistics import Difference


def sections() -> dict[str, tuple[list[Measured], Setting]]:
    of, entries = table("repr/table1"), every_verdict()
    return {one.data: (measure(of, entries, one), one) for one in settings(of, entries)}


def test_each_verdict_has_its_sentence_that_names_the_rows() -> None:
    every = {data: conclude(*section) for data, section in sections().items()}
    assert every["CIFAR-10"].can == (
        "The paper's difference is seen here, too (agrees): row 3.",
        "Better or worse as in the paper, but by another amount (direction holds): row 4.",
    )
    assert every["CIFAR-10"].cannot == (
        "Whether the paper's difference is there in row 2: these seeds cannot tell.",
        "Whether there is any difference in rows 3, 4: it may be chance (Holm's p is not below 0.05).",
        "Differences smaller than 0.19 to 3.26 points in rows 2, 3, 4: these seeds are too few to show them "
        "(80% power).",
    )
    assert every["CIFAR-100"].can == ("The paper's difference is not seen here (differs): row 7.",)
    assert every["CIFAR-100"].cannot[-1] == "Anything about 2 rows without a run."
    assert every["digits"].can == ("Nothing yet.",)
    assert every["digits"].cannot[:2] == (
        "What the paper's data would give for row 3: this was digits (not comparable).",
        "How sure the difference of row 3 is: there is no interval (fewer than 3 seeds, or every seed differs by "
        "the same).",
    )


def test_our_own_difference_counts_where_the_paper_has_none() -> None:
    (base, _, third, fourth), setting = sections()["CIFAR-10"]
    sure = Difference(0.04, 0.03, 0.05, (0.04,) * 6, p=0.03, p_holm=0.04, detectable=0.01)
    better = replace(third, difference=sure, published=None, verdict=None)
    worse = replace(fourth, difference=replace(sure, low=-0.05, high=-0.03), published=None, verdict=None)
    said = conclude([base, better, worse], replace(setting, scale=0.1))
    than = "than the row that it is compared with (the interval leaves out 0, Holm's p is below 0.05)"
    assert said.can == (f"Better {than}: row 3.", f"Worse {than}: row 4.")
    assert said.cannot == (
        "Whether the paper agrees on rows 3, 4: it prints no difference.",
        "Differences smaller than 1.00 points in rows 3, 4: these seeds are too few to show them (80% power).",
        "What the full schedule would give: this was 0.1 of it.",
    )
