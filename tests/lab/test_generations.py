"""Born-again networks: each generation is taught by the one before, and all of them are worth something together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lab.test_compare import compare, comparison, trained
from reference.running import config, differ, digits, run, weights

from filtersmith.lab.generations import ensemble, generation_name, seed_of, taught
from filtersmith.lab.results.tables import build_table
from filtersmith.lab.runs import plan, rows
from filtersmith.lab.tasks.classification import CLASSIFICATION
from filtersmith.lab.teachers.load import teacher
from filtersmith.lab.training.folder import RunFolder


def test_names_and_seeds() -> None:
    assert generation_name("wau(rate=0.3)", 1) == "wau(rate=0.3)"
    assert generation_name("wau(rate=0.3)", 2) == "wau(rate=0.3) generation 2"
    assert taught("baseline", "a b") == "kd(teacher='a b',temperature=1,weight=0.5)"
    assert len({seed_of(seed, generation) for seed in range(10_000) for generation in (1, 2, 3)}) == 30_000
    assert 0 <= seed_of(2**32 - 1, 5) < 2**32
    what = comparison("baseline wau", 2).model_copy(update={"generations": 2})
    assert rows(what) == ("baseline", "baseline generation 2", "wau", "wau generation 2")


def test_each_generation_learns_from_the_one_before(tmp_path: Path) -> None:
    what = comparison("baseline wau", 2).model_copy(update={"generations": 3})
    found, printed = compare(what, tmp_path)
    assert "wau generation 3, seed 1" in printed
    assert [(run.method, run.seed) for run in found.runs] == [(one.arm, one.seed) for one in plan(what, tmp_path)]
    assert all(run.status == "finished" for run in found.runs)
    planned = {one.label: one for one in plan(what, tmp_path)}
    third, second = (planned[f"wau generation {g}, seed 1"] for g in (3, 2))
    manifest = json.loads(third.folder.manifest.read_text())
    assert manifest["method"] == taught("wau", str(second.folder.path))
    assert differ(weights(third.folder.path), weights(second.folder.path))
    before = trained(tmp_path)
    again, _ = compare(what, tmp_path)
    assert trained(tmp_path) == before
    assert again == found
    folders = [planned[f"wau{g}, seed 1"].folder for g in ("", " generation 2", " generation 3")]
    (together,) = [one for one in found.ensembles if (one.method, one.seed) == ("wau", 1)]
    assert together == ensemble("wau", 1, folders, digits())
    assert together.members == 3
    remarks = "\n".join(build_table(found).remarks)
    assert "baseline, the mean of the probabilities of 3 generations: " in remarks


def test_an_ensemble_votes_with_the_mean_of_the_probabilities(tmp_path: Path) -> None:
    for seed in (0, 1):
        run(config(seed=seed, epochs=1), tmp_path / str(seed))
    data, facts = digits(), CLASSIFICATION.facts(digits())
    images = (data.test.images.float() / 255 - facts["mean"][0]) / facts["std"][0]
    with torch.no_grad():
        votes = [teacher(str(tmp_path / str(seed)), facts)(images).softmax(1) for seed in (0, 1)]
    wanted = float(((votes[0] + votes[1]).argmax(1) == data.test.labels).double().mean())
    found = ensemble("baseline", 0, [RunFolder(tmp_path / str(seed)) for seed in (0, 1)], data)
    assert found.test_accuracy == pytest.approx(wanted)


def test_nobody_learns_from_a_run_that_has_failed(tmp_path: Path) -> None:
    what = comparison("baseline", 1, lr=1e9).model_copy(update={"generations": 2})
    found, _ = compare(what, tmp_path)
    assert [run.status for run in found.runs] == ["failed"]
    assert found.ensembles == ()


def test_more_generations_of_the_same_comparison(tmp_path: Path) -> None:
    compare(comparison("baseline", 1), tmp_path)
    before = trained(tmp_path)
    more = comparison("baseline", 1).model_copy(update={"generations": 2})
    found, _ = compare(more, tmp_path)
    assert found.methods == ("baseline", "baseline generation 2")
    assert before.items() <= trained(tmp_path).items()
    fewer, printed = compare(comparison("baseline", 1), tmp_path)
    assert "kept: baseline generation 2 of an earlier call" in printed
    assert fewer.methods == found.methods
    assert fewer.ensembles == found.ensembles


def test_a_method_with_a_teacher_of_its_own_has_no_generations() -> None:
    from filtersmith.lab.runs import normalised

    what = comparison("baseline", 1).model_copy(update={"generations": 2, "methods": ("baseline", "kd(teacher=a)")})
    with pytest.raises(ValueError, match=r"generations=2: .*kd twice"):
        normalised(what)
