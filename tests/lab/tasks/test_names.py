"""The tasks by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from filtersmith.lab.recipe.config import CompareConfig, RunConfig, merge, option_names
from filtersmith.lab.tasks import names
from filtersmith.lab.tasks.names import CLASSIFICATION, TASKS, TaskInfo, info_of, task_named
from filtersmith.lab.tasks.task import Task


def test_each_is_carried_out_by_what_its_record_names() -> None:
    members = {name for name in vars(Task) if not name.startswith("_")}
    for name, info in TASKS.items():
        assert members <= {attribute for attribute in dir(task_named(name)) if not attribute.startswith("_")}
        assert set(info.defaults) <= set(option_names(RunConfig))
        merge(RunConfig, options={"task": name})  # its defaults are allowed
    with pytest.raises(ValueError, match=r"unknown task 'classificatoin' .did you mean 'classification'"):
        info_of("classificatoin")


def test_a_recipe_has_the_defaults_of_its_task_wherever_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    other = TaskInfo("", "", "score", defaults={"train.epochs": 7, "model.name": "resnet8"})
    monkeypatch.setitem(names.TASKS, "other", other)
    plain = merge(CompareConfig)
    assert (plain.task, plain.train.epochs, plain.model.name) == (CLASSIFICATION, 30, "vanilla")
    typed = merge(CompareConfig, options={"task": "other", "train.epochs": "3"})
    assert (typed.task, typed.train.epochs, typed.model.name) == ("other", 3, "resnet8")
    assigned = merge(CompareConfig, assignments=["task=other", "model.name=vanilla"])
    assert (assigned.task, assigned.train.epochs, assigned.model.name) == ("other", 7, "vanilla")
    assert assigned.run_config("wau", 0).task == "other"
    with pytest.raises(ValueError, match="unknown task 'others'"):
        merge(CompareConfig, options={"task": "others"})


def test_names_need_no_torch() -> None:
    code = "import sys, filtersmith.lab.tasks.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
