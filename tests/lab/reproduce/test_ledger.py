"""The ledger: one file a run, found again whoever wrote it, never mixed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab.reproduce.entries import entry

from filtersmith.lab.papers.published import table
from filtersmith.lab.reproduce import ledger, maths
from filtersmith.lab.reproduce.arms import Arm, arm_of, digest
from filtersmith.lab.results.document import Epoch, Run
from filtersmith.lab.training.run import load_data, train
from filtersmith.methods import METHODS

LOSSES = {1: [2.2874, 2.1116, 1.9157]}
"""Number of the laboratory's mathematics -> training losses of a short run."""


def arm(name: str = "repr/table1", number: int = 3) -> Arm:
    return arm_of(table(name).row(number), table(name))


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    first, second = entry(arm(), 0, [0.5, 0.7]), entry(arm(), 1, [0.6] * 4, alone=True, phase_starts=(3,))
    for one in (first, second):
        file = ledger.save(one, tmp_path)
        assert len(file.read_text()) < 5_000
    assert ledger.load(tmp_path) == sorted([first, second], key=lambda one: one.file_name)
    assert ledger.load(tmp_path / "nowhere") == []
    ledger.save(first, tmp_path)
    (tmp_path / f"._{first.file_name}").write_bytes(b"\0what a Mac keeps of a file")
    assert len(ledger.load(tmp_path)) == 2


def test_scores_beside_the_first_one_are_kept_and_files_without_them_stay(tmp_path: Path) -> None:
    found = arm("wau/table2", 1)
    epochs = [(0.2, 0.4), (0.25, 0.5)]
    run = Run(
        method="baseline",
        seed=0,
        status="finished",
        epochs=tuple(
            Epoch(
                epoch=number,
                lr=0.1,
                train_loss=1.0,
                train_accuracy=None,
                test_loss=None,
                test_accuracy=score,
                train_seconds=1.0,
                scores={"AP50": half},
            )
            for number, (score, half) in enumerate(epochs, 1)
        ),
    )
    made = ledger.entry_of(found, 0, run, {"environment": {}}, data=("COCO", "d"), scale=1.0)
    assert (made.test_accuracy, dict(made.scores)) == ((0.2, 0.25), {"AP50": (0.4, 0.5)})
    ledger.save(made, tmp_path)
    assert ledger.load(tmp_path) == [made]
    assert "scores" not in json.loads(ledger.save(entry(arm()), tmp_path).read_text())
    with pytest.raises(ValueError, match="scores: AP50 needs a value for each epoch, and there are 1"):
        entry(found, 0, 0.5, scores={"AP50": [0.1, 0.2]})


def test_runs_that_differ_have_files_of_their_own() -> None:
    one = entry(arm())
    others = [
        entry(arm(), seed=1),
        entry(arm("repr/table1", 1)),
        entry(arm(), data="CIFAR-10 (JPEG)"),
        entry(arm(), data_digest="e"),
        entry(arm(), scale=0.5),
        entry(arm(), precision="bf16"),
        entry(arm(), maths={"training": 2, "repr": 1}),
    ]
    assert len({one.file_name, *(other.file_name for other in others)}) == len(others) + 1


def test_code_that_computes_something_else_leaves_old_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    old, other = entry(arm()), entry(arm("repr/table1", 1))
    assert old.maths == {"repr": 1, "training": 1}
    assert ledger.found([old, other], old.key) == {0: old}
    records = dict(METHODS.items())
    monkeypatch.setattr(METHODS, "_all", {**records, "repr": replace(records["repr"], maths=2)})
    assert ledger.found([old], old.key) == {}
    assert other.current
    monkeypatch.setattr(maths, "TRAINING", 2)
    assert not other.current
    unknown = {**old.spec, "method": "future(1)"}
    assert not entry(replace(arm(), method="future(1)"), key=digest(unknown), maths={}).current


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "has schema 2; this version reads schema 1"),
        ({"test_accuracy": []}, "is not an entry of a ledger: test_accuracy"),
        ({"seed": -1}, "is not an entry of a ledger: seed"),
        ({"other": 1}, "is not an entry of a ledger: other"),
    ],
)
def test_a_file_that_is_no_entry_is_refused_by_its_name(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    file = ledger.save(entry(arm()), tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=said) as error:
        ledger.load(tmp_path)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    file.write_text("{")
    with pytest.raises(ValueError, match="is not an entry of a ledger"):
        ledger.load(tmp_path)


def test_training_that_computes_something_else_has_another_number(tmp_path: Path) -> None:
    """Crops, mirror images, a cosine, twice the rate of the biases, decay: the recipe of KFLO's first table."""
    found = arm("kflo/table1", 1)
    short = replace(
        found, train=found.train.model_copy(update={"epochs": 3}), data_options={**found.data_options, "limit": 200}
    )
    config = short.config(0, "digits", 50_000)
    result = train(config, tmp_path / "run", load_data(config), resume=False)
    losses = [epoch.train_loss for epoch in result.epochs]
    assert losses == pytest.approx(LOSSES[maths.TRAINING], rel=0.01), "raise maths.TRAINING and keep the new losses"


def test_an_entry_that_contradicts_itself_or_its_name_is_refused(tmp_path: Path) -> None:
    one = entry(arm(), 0, [0.5, 0.7])
    file = ledger.save(one, tmp_path)
    values = json.loads(file.read_text())
    longer = {**values["spec"], "train": {**values["spec"]["train"], "epochs": 300}}
    for changed, said in (
        ({"spec": longer}, "key: it is not that of the spec"),
        ({"spec": {}}, "spec: a network and a method are needed"),
        ({"spec": {**values["spec"], "teacher": 5}}, "spec: teacher and begins_with are specs, too"),
        ({"spec": {**values["spec"], "generations": "2"}}, "spec: generations must be a whole number"),
        ({"phase_starts": [99]}, "phase_starts: they must rise, and there are 2 epochs"),
        ({"phase_starts": [1, 1]}, "phase_starts: they must rise"),
        ({"seed": 1}, "is not named as its run: repr-.*-seed-1.json"),
    ):
        file.write_text(json.dumps({**values, **changed}))
        with pytest.raises(ValueError, match=rf"^{re.escape(str(file))} .*{said}"):
            ledger.load(tmp_path)
    file.write_text(json.dumps(values))
    file.with_name("copy.json").write_text(json.dumps({**values, "test_accuracy": [0.1, 0.1]}))
    with pytest.raises(ValueError, match=r"copy\.json is not named as its run"):
        ledger.load(tmp_path)


def test_the_key_of_a_row_stays() -> None:
    """Where it does not, all runs that there are are lost: `arms._LATER` leaves out what was not there before."""
    assert arm().key == "12347b80246d459e"
    assert arm("kflo/table5", 22).key == "980baf44b21e9212"
    for found in (arm(), arm("kflo/table5", 22)):
        assert {"pretrained", "from_scratch", "task"}.isdisjoint(found.spec())
        assert "image_size" not in found.spec()["data"]
