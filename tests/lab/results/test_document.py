from __future__ import annotations

import json
import os
import stat

import pytest
from pydantic import ValidationError
from reference.example_results import compared, everything, run

from filtersmith.lab.results import document as results


def test_a_saved_document_loads_as_itself(tmp_path):
    document = everything()
    file = results.save(document, tmp_path / "new" / "folder" / "results.json")
    assert results.load(file) == document
    assert results.load(file.parent) == document
    assert json.loads(file.read_text())["schema"] == 1
    lines = file.read_text().splitlines()
    assert sum('"method": ' in line for line in lines) == len(document.runs)  # a diff shows which runs changed


def test_times_mean_nothing_unless_the_file_says_otherwise(tmp_path):
    old = json.loads(results.dumps(everything()))
    del old["times_measured_alone"]  # a file of version 0.1
    (tmp_path / "results.json").write_text(json.dumps(old))
    assert not results.load(tmp_path).times_measured_alone
    alone = everything().model_copy(update={"times_measured_alone": True})
    assert results.load(results.save(alone, tmp_path / "alone.json")).times_measured_alone


def test_times_count_where_every_run_of_a_ratio_had_the_machine_to_itself():
    def count(*alone: bool | None, **fields: object) -> bool:
        names = [("baseline", 0), ("wau", 0), ("baseline", 1), ("wau", 1)]
        return compared(
            [run(*name, [0.5], alone=one) for name, one in zip(names, alone, strict=False)], **fields
        ).times_count

    assert count(True, True, True, True)
    assert count(True, True, False), "a baseline that nothing is compared with"
    for shared in (False, None):
        assert not count(True, True, True, shared)
        assert not count(shared, True)
    assert not count(True), "there is no ratio"
    assert count(None, None, times_measured_alone=True)


def test_floats_are_kept_to_the_last_bit_and_a_loss_that_diverged_becomes_null(tmp_path):
    odd = run("baseline", 0, [0.1 + 0.2])
    diverged = odd.epochs[0].model_dump() | {"train_loss": float("nan")}
    odd = odd.model_copy(update={"epochs": (results.Epoch.model_validate(diverged),)})
    document = everything().model_copy(update={"epochs": 1, "runs": (odd,)})
    epoch = results.load(results.save(document, tmp_path / "r.json")).runs[0].epochs[0]
    assert epoch.test_accuracy == 0.1 + 0.2
    assert epoch.train_loss is None


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    results.write_atomically(file, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        results.write_atomically(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.json"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    results.write_atomically(tmp_path / "ours", "text")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2; this version reads schema 1"),
        ({"epochs": 7}, "is finished with 3 of 7 epochs"),
        ({"methods": ["baseline"]}, "not among the methods and seeds"),
        ({"methods": [], "runs": []}, "methods: Tuple should have at least 1 item"),
        ({"seeds": [0, 0, 1, 2]}, "seeds must not repeat"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"title": None}, "title: Input should be a valid string"),
    ],
)
def test_a_wrong_document_is_refused_in_one_line_that_names_the_file(tmp_path, change, message):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(json.loads(results.dumps(everything())) | change))
    with pytest.raises(ValueError, match=r"results\.json") as caught:
        results.load(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "", "{", "[1, 2]", "[" * 100_000, '{"schema": 1' + "0" * 5_000 + "}"])
def test_a_missing_or_broken_file_is_refused_in_one_line(tmp_path, text):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results\.json") as caught:
        results.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_epochs_must_be_consecutive():
    first, second = run("baseline", 0, [0.1, 0.2]).epochs
    with pytest.raises(ValidationError, match="must count 1, 2, 3"):
        results.Run(method="baseline", seed=0, status="finished", epochs=(second, first))
