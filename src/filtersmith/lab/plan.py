"""What `--dry-run` shows: the plan of a call, after every check that the real call makes. Nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from filtersmith.common.words import plural
from filtersmith.lab import compare as comparing
from filtersmith.lab.recipe.config import CompareConfig, RunConfig, TrainOptions
from filtersmith.lab.tasks.names import task_named
from filtersmith.lab.tasks.task import Task, TaskData
from filtersmith.lab.training import learning_rate
from filtersmith.lab.training.run import check, fingerprint
from filtersmith.lab.training.standing import Standing

_WORDS = {"nothing": "to do", "begun": "begun", "finished": "finished", "damaged": "damaged"}


def show_comparison(console: Console, config: CompareConfig, data: TaskData, out: Path) -> None:
    """The plan of `filtersmith compare`. ``config`` is normalised; ``ValueError`` for what the call would refuse."""
    config, whole = comparing.with_earlier(config, out)
    standings = comparing.check_folders(config, whole, out, fingerprint(config, data))
    notes = [*filter(None, [comparing.kept(config, whole)]), *comparing.kept_damaged(config, whole, out)]
    notes += comparing.check_methods(config, data)
    lines = [one.label for one in comparing.plan(config, out)]
    _show(console, notes, comparing.title(config, data), task_named(config.task), data, config.train)
    for line, standing in zip(lines, standings, strict=True):
        _print(console, f"  {line}: {state(standing)}")
    _print(console, f"Nothing was trained. The results would stand in {out}.")


def show_run(console: Console, config: RunConfig, data: TaskData, out: Path, *, resume: bool) -> None:
    """The plan of `filtersmith train`; ``ValueError`` for what the call would refuse."""
    standing, found = check(config, out, data, resume=resume)
    options = config.train
    parts = [data.title, comparing.network_title(config.model), plural(options.epochs, "epoch")]
    parts.append(f"{options.optimizer} {options.lr:g}, {learning_rate.describe(options)}")
    _show(console, found, " · ".join(parts), task_named(config.task), data, options)
    _print(console, f"  {config.method}, seed {config.seed}: {state(standing)}")
    _print(console, f"Nothing was trained. The run would stand in {out}.")


def state(standing: Standing) -> str:
    """What a run stands at: ``damaged (model.safetensors is missing), goes on from step-00000023``."""
    words = _WORDS[standing.status] + (f" ({'; '.join(standing.wrong)})" if standing.wrong else "")
    goes_on = standing.status in ("begun", "damaged") and standing.checkpoint is not None
    return f"{words}, goes on from {standing.checkpoint.name}" if goes_on and standing.checkpoint else words


def _show(console: Console, warnings: list[str], title: str, task: Task, data: Any, options: TrainOptions) -> None:
    for warning in warnings:
        _print(console, warning)
    console.print(title, style="bold", markup=False, highlight=False)
    first, *lines = task.describe(data)
    steps = -(-len(data.train) // options.batch_size)
    _print(console, f"{first}, {plural(steps, 'step')} per epoch")
    for line in lines:
        _print(console, line)


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False)
