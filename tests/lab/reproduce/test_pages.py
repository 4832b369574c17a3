"""The pages of results, and that those of the repository are up to date."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from lab.reproduce.entries import entry

from filtersmith.lab.papers.published import table, tables
from filtersmith.lab.reproduce import ledger
from filtersmith.lab.reproduce.arms import arm_of
from filtersmith.lab.reproduce.ledger import Entry
from filtersmith.lab.reproduce.pages import pages

ROOT = Path(__file__).parents[3]


def entries() -> list[Entry]:
    of = table("repr/table1")
    pairs = [(arm_of(of.row(1), of), (0.70, 0.71, 0.72)), (arm_of(of.row(3), of), (0.745, 0.755, 0.76))]
    return [entry(arm, seed, one) for arm, every in pairs for seed, one in enumerate(every)]


@cache
def made() -> dict[str, str]:
    return pages(entries())


def test_the_first_page_says_which_claims_were_measured_and_how() -> None:
    first = made()["README.md"]
    assert "The ledger has 6 runs for " in first
    assert ", 6 of the full schedule. Verdicts at full length on the paper's data: agrees 2.\n" in first
    assert "| [RePr: Improved Training of Convolutional Filters](repr.md) | " in first
    (line,) = [line for line in first.splitlines() if line.startswith("| [repr/table1]")]
    assert line.endswith("| CIFAR-10 · full schedule, 3 seeds | agrees 1 |")
    assert "Without a run yet: wau/table1, " in first


def test_runs_on_other_data_than_the_papers_decide_nothing() -> None:
    first = pages([one.model_copy(update={"data": "digits"}) for one in entries()])["README.md"]
    assert "No published difference was measured at full length on a paper's data: no claim" in first
    assert "[repr/table1]" not in first


def test_a_part_of_the_schedule_decides_nothing_at_full_length() -> None:
    of = table("repr/table1")
    short = [
        entry(arm_of(of.row(number), of, 0.1), seed, base + step * seed, scale=0.1)
        for number, base, step in ((1, 0.70, 0.01), (3, 0.60, 0.015))
        for seed in range(3)
    ]
    first = pages(short)["README.md"]
    assert "No published difference was measured at full length on a paper's data: no claim" in first
    assert "| CIFAR-10 · 0.1 of the schedule, 3 seeds | differs 1 |" in first


def test_a_page_of_each_paper_has_all_its_tables() -> None:
    every = made()
    for of in tables():
        assert f"## {of.id}: {of.title}" in every[f"{of.paper}.md"]
    page = every["repr.md"]
    assert "| 3 | C^3(32), RePr, " in page
    assert "| 76.4 | 75.33 ± 0.76 | 3 | +4.30 | +4.33 [" in page
    assert "] | 0.25 (0.25) | agrees |" in page
    assert "- R1, inconsistent: " in page
    assert "Not measured yet: needs ImageNet (ILSVRC 2012 " in page
    assert "Not measured yet: needs COCO (" in page
    assert "Not measured yet: needs VQA v1 (" in page


def test_links_lead_to_headings() -> None:
    every = made()
    assert "(repr.md#reprtable1-adding-an-orthogonality-penalty-to-standard-and-repr-training)" in every["README.md"]


def test_they_come_out_the_same_each_time() -> None:
    assert made() == pages(list(reversed(entries())))


@pytest.mark.skipif(not (ROOT / "results" / "ledger").is_dir(), reason="needs the repository")
def test_the_ledger_of_this_repository_is_of_todays_mathematics() -> None:
    assert all(one.current for one in ledger.load(ROOT / "results" / "ledger"))
