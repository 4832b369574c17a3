"""The results of a comparison: as its folders say, each read when it has something new to say."""

from __future__ import annotations

import doctest
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from reference.running import digits

from filtersmith.lab import publish
from filtersmith.lab.data.fingerprint import fingerprint
from filtersmith.lab.recipe.config import CompareConfig, merge
from filtersmith.lab.results.document import load
from filtersmith.lab.runs import Planned, plan
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.run import train


def test_a_run_is_read_when_it_has_ended_and_not_after_each_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"model.name": "vanilla-1-4", "train.epochs": 1, "train.batch_size": 256, "train.device": "cpu"}
    config = merge(CompareConfig, options={**options, "methods": ["baseline", "wau"], "seeds": 2})
    runs = plan(config, tmp_path)
    read: Counter[str] = Counter()
    result = Planned.result

    def counted(one: Planned) -> Any:
        read[one.label] += 1
        return result(one)

    monkeypatch.setattr(Planned, "result", counted)
    results = publish.Results(config, tmp_path, digits(), seen := fingerprint(digits()))
    for one in (runs[3], runs[0]):  # whoever ends first
        train(one.config, one.folder.path, digits(), resume=True)
        found = results.publish([one])
    assert read == {runs[0].label: 2, runs[1].label: 1, runs[2].label: 1, runs[3].label: 2}
    assert [(run.method, run.seed) for run in found.runs] == [("baseline", 0), ("wau", 1)]
    assert found == load(tmp_path)
    assert found.fingerprint == seen
    assert found.test_images == len(digits().test)
    assert found.environment == RunFolder(runs[0].folder.path).read_manifest()["environment"]
    with pytest.raises(ValueError, match=r"baseline/seed-0 holds a run on other data: .*; choose another --out$"):
        publish.Results(config, tmp_path, digits(), {**seen, "classes": "others"})


def test_the_examples_in_the_docstrings() -> None:
    done = doctest.testmod(publish)
    assert (done.failed, done.attempted > 0) == (0, True)
