"""From where a session stands to its end: epochs, checkpoints, metrics, the deployed network and the manifest."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from filtersmith.common.options import first_line
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.teachers.names import fingerprint
from filtersmith.lab.training import checkpoint
from filtersmith.lab.training.agreement import on_main
from filtersmith.lab.training.alone import Machine
from filtersmith.lab.training.environment import environment
from filtersmith.lab.training.errors import Interrupted, RunFailed
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.progress import Progress
from filtersmith.lab.training.session import Position, Session
from filtersmith.lab.training.standing import Standing
from filtersmith.lab.training.stopping import StopRequest


@dataclass(frozen=True)
class Work:
    """A run in memory, and where it belongs.

    Attributes:
        session: at its start, or where its checkpoint was saved.
        folder: locked.
        data: the fingerprint of the data.
        progress: told about every batch and epoch.
        label: what warnings call the run.
        shared: other runs are trained beside this one.
    """

    session: Session
    folder: RunFolder
    data: Mapping[str, Any]
    progress: Progress
    label: str
    shared: bool


def fit(work: Work, standing: Standing, stop: StopRequest) -> None:
    """Train to the last epoch and write the deployed network. The manifest says how it ended, if otherwise."""
    session, folder = work.session, work.folder
    facts = _facts(work, folder.manifest_or_nothing())
    if session.position.epoch < session.config.train.epochs:
        session.position.machine = Machine(shared=work.shared or session.accelerator.num_processes > 1)

    def note_end(status: str, error: str | None = None) -> None:
        if session.accelerator.is_main_process:
            folder.write_manifest({"status": status, "error": error, **facts, **_so_far(session)})

    on_main(session.accelerator, lambda: _begin(work, standing))
    note_end("running")
    session.accelerator.wait_for_everyone()
    try:
        _train_epochs(work, stop)
        deployed = session.finish()
        on_main(session.accelerator, lambda: _save_model(deployed, folder.model, session.config))
        note_end("finished")
    except Interrupted:
        note_end("interrupted")
        raise
    except Exception as error:  # a network may fail in any way; the manifest must not say that it runs
        line = first_line(error)
        with suppress(OSError):  # of a disk that is full
            note_end("failed", line)
        raise RunFailed(line) from error
    session.accelerator.wait_for_everyone()


def _begin(work: Work, standing: Standing) -> None:
    """The files of the folder as they were at this position, and what a person should know."""
    work.folder.create(work.session.config)
    work.folder.write_metrics(work.session.position.history)
    for note in work.session.made.notes():
        work.progress.note(note)
    for warning in work.session.composition.warnings:
        work.progress.note(f"warning: {work.label}: {warning}")
    if standing.checkpoint is not None:
        for wrong in standing.wrong:
            work.progress.note(f"{work.label}: {wrong}; made anew from {standing.checkpoint}")


def _train_epochs(work: Work, stop: StopRequest) -> None:
    """A checkpoint and a line of metrics after each epoch."""
    session, folder, progress = work.session, work.folder, work.progress
    position, main = session.position, session.accelerator.is_main_process
    writer = _tensorboard(folder, position.epoch) if main and session.config.train.tensorboard else None
    progress.start(session.config.train.epochs, position.history)
    while position.epoch < session.config.train.epochs:
        if session.asked_to_stop(stop):
            raise stop.interrupted(_where(position, session.config.train.epochs))
        complete = session.train_epoch(stop, progress)
        epoch = session.finish_epoch() if complete else None
        start = time.monotonic()
        _save_checkpoint(work)
        session.pace.checkpoint = max(session.pace.checkpoint, time.monotonic() - start)
        if epoch is not None:
            if main:
                folder.append_metrics(epoch)
            if writer is not None:
                values = epoch.model_dump(exclude={"epoch"}, exclude_none=True)
                audited = {f"filters/{name}": value for name, value in values.pop("filters", {}).items()}
                for name, value in (values | audited).items():
                    writer.add_scalar(name, value, epoch.epoch)
                writer.flush()
            progress.epoch(epoch)


def _where(position: Position, epochs: int) -> str:
    if position.step == 0:
        return "stopped before the first batch"
    if position.batch:
        return f"stopped after epoch {position.epoch + 1} of {epochs}, batch {position.batch}"
    return f"stopped after epoch {position.epoch} of {epochs}"


def _save_checkpoint(work: Work) -> None:
    """Write everything needed to go on; it appears whole or not at all."""
    session, folder = work.session, work.folder
    random = checkpoint.gather_random_states(session.accelerator)

    def write() -> None:
        partial = folder.new_checkpoint()
        try:
            checkpoint.write(session, partial, random, work.data)
            folder.publish(partial, session.position.step)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            reason = error.strerror or str(error)
            raise RunFailed(f"no checkpoint can be written in {folder.checkpoints} ({reason})") from error

    on_main(session.accelerator, write)


def _save_model(model: nn.Module, path: Path, config: RunConfig) -> None:
    import torch
    from safetensors.torch import save_model

    metadata = {"format": "pt", "model": config.model.name, "method": config.method, "data": config.data.name}
    temporary = path.with_name(f".{path.name}.tmp")
    save_model(model.to(memory_format=torch.contiguous_format), str(temporary), metadata)
    shutil.copymode(path.with_name("config.yaml"), temporary)  # safetensors would leave it to its owner alone
    os.replace(temporary, path)


def _facts(work: Work, before: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says of a run from its beginning on."""
    session = work.session
    facts = {
        "method": str(session.composition),
        "seed": session.config.seed,
        "config": session.config.model_dump(mode="json"),
        "parameters_training": sum(p.numel() for p in session.model.parameters()),
        "network": session.facts,
        "model": session.made.record(),
        "teachers": fingerprint(session.config.method),
        "data": dict(work.data),
        "processes": session.accelerator.num_processes,
        "environment": environment(session.accelerator.device),
    }
    trained = session.position.epoch == session.config.train.epochs  # then it was made with what stands there
    return facts | {name: before[name] for name in ("processes", "environment") if trained and name in before}


def _so_far(session: Session) -> dict[str, Any]:
    """What the manifest says of a run that changes while it is trained."""
    phases = session.composition.phases
    subs = [[phase.start, phase.stop] for phase in phases if phase.name == "sub"]
    return {
        "parameters_deployed": session.composition.parameters_kept,
        "phase_starts": [phase.start for phase in phases[1:] if not subs],
        "sub_phases": subs,
        "alone": session.position.alone_so_far(),
    }


def _tensorboard(folder: RunFolder, epoch: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder.path / "tensorboard", purge_step=epoch + 1)
