"""The papers' tables: every row known, nothing lost of what was printed, every choice with its source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from filtersmith import zoo
from filtersmith.lab.generations import with_teacher
from filtersmith.lab.papers.published import (
    COUNTED,
    NOT_RUN,
    PAPERS,
    Row,
    Table,
    before,
    compared_with,
    paper,
    recipe_of,
    row_named,
    table,
    tables,
)
from filtersmith.lab.papers.sets import SETS
from filtersmith.lab.recipe.config import TrainOptions
from filtersmith.lab.tasks.detection.network import NAMES as DETECTORS
from filtersmith.lab.tasks.names import info_of
from filtersmith.lab.teachers.names import unread
from filtersmith.methods.composition import compose

SHARED = Path(__file__).parents[4] / "shared" / "papers" / "tables.yaml"
EVERY = [(of, row) for of in tables() for row in of.rows]
TRAINED = [(of, row) for of, row in EVERY if row.trained]


def test_no_row_is_unknown() -> None:
    assert len(EVERY) > 600
    for of, row in EVERY:
        known = row.trained or row.kind in {*NOT_RUN, *COUNTED} or row.see or row.why
        assert known, f"{of.id} {row.n}"
        assert not (row.run and row.kind), f"{of.id} {row.n}"


def test_rows_are_numbered_and_ids_are_of_their_paper() -> None:
    for of in tables():
        assert [row.n for row in of.rows] == list(range(1, len(of.rows) + 1)), of.id
        assert of.paper in PAPERS
        assert of.claim
        assert of.better.split()[0] in ("higher", "lower", "-"), of.id


def test_every_network_is_one_of_the_zoo_or_a_detector() -> None:
    for of, row in EVERY:
        if row.trained and SETS[row.data].task == "detection":
            assert row.network in DETECTORS, f"{of.id} {row.n}"
        elif row.network:
            assert any(re.fullmatch(info.regex, row.network) for info in zoo.MODELS), f"{of.id} {row.n}"


def test_rows_name_scores_and_backbones_that_there_are() -> None:
    for of, row in TRAINED:
        where = f"{of.id} {row.n}"
        assert row.score in ("", *info_of(SETS[row.data].task).more), where
        if row.pretrained:
            table_of, backbone = row_named(row.pretrained)
            assert backbone.trained, where
            assert backbone.cycle in (None, recipe_of(backbone, table_of).option("cycles")), "the end of a run"
            assert before(row) == ("imagenet",), where
            if SETS[row.data].task == "detection":  # its backbone, with a pyramid or without
                kind = backbone.network.partition(":")[2]
                assert row.network.removesuffix("-fpn") == f"fasterrcnn-{kind}", where
            else:
                assert row.network == backbone.network, where


def test_the_rows_of_rounds_are_parts_of_one_run_with_as_many_cycles() -> None:
    rounds = [(of, row) for of, row in TRAINED if row.cycle is not None]
    assert len(rounds) == 21
    for of, row in rounds:
        cycles = recipe_of(row, of).option("cycles")
        assert f"cycles={cycles}," in row.run
        assert row.params["N"] == row.cycle <= cycles


def test_what_the_libraries_do_not_have_says_so() -> None:
    missing = [row for row in table("repr/table5").rows if row.model == "Inception v2" and not row.kind]
    assert len(missing) == 4
    assert {row.why for row in missing} == {"Inception v2 (BN-Inception) is in neither torchvision nor timm"}


@pytest.mark.parametrize("text", sorted({row.run for _, row in EVERY if row.run}))
def test_every_method_is_spelled_right(text: str) -> None:
    composed = compose(with_teacher(text, "teacher"), resolve=unread)
    assert with_teacher(text, "teacher") == str(composed)


def test_every_trained_row_has_data_and_a_recipe_whose_choices_have_sources() -> None:
    options = set(TrainOptions.model_fields)
    for of, row in TRAINED:
        assert row.data in SETS, f"{of.id} {row.n}"
        recipe = recipe_of(row, of)
        assert {"train.epochs", "train.lr", "train.weight_decay", "data.augment"} <= {c.name for c in recipe.choices}
        for choice in recipe.choices:
            assert choice.source, f"{recipe.name}: {choice.name}"
            if choice.name.startswith("train."):
                assert choice.name.removeprefix("train.") in options


def test_rows_are_compared_with_rows_of_the_same_data() -> None:
    for of, row in EVERY:
        other = compared_with(row, of)
        if other is not None and row.trained:
            assert other[1].trained, f"{of.id} {row.n}"
            assert other[1].data == row.data, f"{of.id} {row.n}"
            assert (other[0].id, other[1].n) != (of.id, row.n)


def test_printed_gains_are_the_differences_of_the_rows_or_flagged() -> None:
    for of, row in EVERY:
        other = compared_with(row, of)
        if row.delta is None or other is None or row.value is None or other[1].value is None:
            continue
        found = (other[1].value - row.value) if of.better == "lower" else (row.value - other[1].value)
        flagged = any(note.check == "delta" and row.n in note.rows for note in of.notes)
        assert flagged or found == pytest.approx(row.delta, abs=0.011), f"{of.id} {row.n}"


def test_unknown_names_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown table 'repr/table44' \(did you mean 'repr/table4'\?\)"):
        table("repr/table44")
    with pytest.raises(ValueError, match="unknown table 'nothing'"):
        table("nothing")
    with pytest.raises(ValueError, match="repr/table4 has no row 99; it has 1 to 66"):
        table("repr/table4").row(99)
    with pytest.raises(ValueError, match="unknown recipe of wau 'nothing'"):
        paper("wau").recipe("nothing")


@pytest.mark.skipif(not SHARED.is_file(), reason="needs the transcription of the papers beside the repository")
def test_nothing_that_was_printed_is_lost() -> None:
    every = yaml.load(SHARED.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for wanted in every["tables"]:
        found = table(wanted["id"])
        for name in ("kind", "title", "location", "metric", "unit", "better"):
            assert getattr(found, name) == wanted[name], found.id
        dataset = wanted["dataset"]
        assert found.dataset == (dataset if isinstance(dataset, str) else ", ".join(dataset))
        for row, values in zip(found.rows, wanted["rows"], strict=True):
            _check_row(found, row, values)
        notes = {note.id: note for note in found.notes}
        assert list(notes) == [note["id"] for note in wanted["notes"]]
        for note in wanted["notes"]:
            kept = notes[note["id"]]
            assert (kept.severity, kept.text, list(kept.rows)) == (
                note["severity"],
                note["text"],
                note.get("rows", []),
            )


def _check_row(of: Table, row: Row, values: dict[str, Any]) -> None:
    for name in values.keys() - {"recipe", "params"}:
        assert getattr(row, name) == values[name], f"{of.id} {row.n}: {name}"
    assert dict(row.params) == values.get("params", {}), f"{of.id} {row.n}"
