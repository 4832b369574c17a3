"""One run in its folder: checked, trained to its end or resumed; refused where it could not be believed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from filtersmith.lab.recipe.config import Recipe, RunConfig
from filtersmith.lab.results.document import Run
from filtersmith.lab.tasks.names import task_named
from filtersmith.lab.training import checkpoint
from filtersmith.lab.training.agreement import on_main
from filtersmith.lab.training.determinism import determinism
from filtersmith.lab.training.fit import Work, fit
from filtersmith.lab.training.folder import RunFolder, check_writable, make_folder
from filtersmith.lab.training.locking import locked, refuse_locked
from filtersmith.lab.training.progress import Progress, Silent
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.standing import Standing, admit
from filtersmith.lab.training.stopping import StopRequest


def load_data(config: Recipe) -> Any:
    """The data set that a configuration names."""
    return task_named(config.task).load(config.data)


def fingerprint(config: Recipe, data: Any) -> dict[str, Any]:
    """What tells the data of a configuration apart from others."""
    return task_named(config.task).fingerprint(data)


def train(
    config: RunConfig,
    out: Path,
    data: Any,
    *,
    resume: bool,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    label: str | None = None,
    seen: Mapping[str, Any] | None = None,
    shared: bool = False,
) -> Run:
    """Train one run to its end in the folder ``out``.

    Args:
        config: what to run.
        out: its folder; see `filtersmith.lab.training.folder`.
        data: as `load_data` gives it.
        resume: go on from the newest checkpoint in ``out``, or return at once if the run is finished and whole.
            Otherwise a folder that holds a run is refused.
        progress: told about every batch and epoch.
        stop: an entered `StopRequest` of the caller; by default the run has its own.
        label: what warnings call the run; by default its method.
        seen: the fingerprint of the data, where the caller has it already.
        shared: other runs are trained beside this one, so that its times mean nothing.

    Raises:
        ValueError: something in the configuration does not fit, the folder is in use, or it holds what must not be
            gone on with; nothing in ``out`` has changed.
        RunFailed: the run could not be finished; what it measured is kept.
        Interrupted: SIGTERM, Ctrl-C or a time limit; a checkpoint is written if a batch was trained.
    """
    folder, progress = RunFolder(out), progress or Silent()
    seen = fingerprint(config, data) if seen is None else seen
    if _admitted(config, folder, seen, resume).status == "finished":
        return _result(folder)
    with determinism(config.train.deterministic), ExitStack() as held:
        session = _ready(config, data, stop)
        work = Work(session, folder, seen, progress, label or config.method, shared)

        def take() -> Standing:
            make_folder(out)
            held.enter_context(locked(out, progress.note))
            # Once more: until it was locked, another process could go on with it.
            return admit(folder, config, seen, resume=resume)

        standing = on_main(session.accelerator, take)
        if standing.status != "finished":
            if standing.checkpoint is not None:
                checkpoint.load(session, standing.checkpoint)
            with nullcontext(stop) if stop is not None else StopRequest() as asked:
                fit(work, standing, asked)
    return _result(folder)


def _ready(config: RunConfig, data: Any, stop: StopRequest | None) -> Session:
    """The run in memory. Where the time limit leaves nothing but that, it is not even begun."""
    # One of several processes must not decide that alone; they ask one another before the first batch.
    single = os.environ.get("WORLD_SIZE", "1") == "1"
    if single and stop is not None and stop.look(stop.longest_setup):
        raise stop.interrupted("stopped before the first batch")
    start = time.monotonic()
    session = Session(config, data)
    if stop is not None:
        stop.longest_setup = max(stop.longest_setup, time.monotonic() - start)
    return session


def check(
    config: RunConfig, out: Path, data: Any, *, resume: bool, seen: Mapping[str, Any] | None = None
) -> tuple[Standing, list[str]]:
    """What ``out`` holds, and notes and warnings; raises all that `train` would refuse. Nothing is written."""
    folder, seen = RunFolder(out), fingerprint(config, data) if seen is None else seen
    standing = _admitted(config, folder, seen, resume)
    if standing.status == "finished":
        return standing, []
    check_writable(out)
    with determinism(config.train.deterministic):
        session = Session(config, data)
        if standing.checkpoint is not None:
            checkpoint.load(session, standing.checkpoint)
    warnings = [f"warning: {config.method}: {warning}" for warning in session.composition.warnings]
    return standing, session.made.notes() + warnings


def _admitted(config: RunConfig, folder: RunFolder, seen: Mapping[str, Any], resume: bool) -> Standing:
    refuse_locked(folder.path)  # first: what another process is just writing would look damaged
    return admit(folder, config, seen, resume=resume)


def _result(folder: RunFolder) -> Run:
    result = folder.result()
    assert result is not None
    return result
