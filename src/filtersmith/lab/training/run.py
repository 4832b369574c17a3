"""One run in its folder: trained to its end or resumed, with checkpoints, metrics and the deployed network."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from filtersmith.common.options import first_line
from filtersmith.lab.data import Data, load, with_held_out, with_limit
from filtersmith.lab.recipe.config import RunConfig, to_yaml
from filtersmith.lab.results.document import Run, write_atomically
from filtersmith.lab.training.alone import Machine
from filtersmith.lab.training.environment import environment
from filtersmith.lab.training.errors import Interrupted, RunFailed
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.progress import Progress, Silent
from filtersmith.lab.training.session import Position, Session
from filtersmith.lab.training.stopping import StopRequest


def load_data(config: Any) -> Data:
    """The data set that a configuration names."""
    data = load(config.data.name, root=config.data.root, image_size=config.data.image_size)
    return with_limit(with_held_out(data, config.data.holdout), config.data.limit)


def train(
    config: RunConfig,
    out: Path,
    data: Data,
    *,
    resume: bool,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    label: str | None = None,
    shared: bool = False,
) -> Run:
    """Train one run to its end in the folder ``out``.

    Args:
        config: what to run.
        out: its folder; see `filtersmith.lab.training.folder`.
        data: as `load_data` gives it.
        resume: go on from the newest checkpoint in ``out``, or return at once if the run is finished. Otherwise a
            folder that holds a run is refused.
        progress: told about every batch and epoch.
        stop: an entered `StopRequest` of the caller; by default the run has its own.
        label: what warnings call the run; by default its method.
        shared: other runs are trained beside this one, so that its times mean nothing.

    Raises:
        ValueError: something in the configuration does not fit; nothing in ``out`` has changed.
        RunFailed: the run could not be finished; what it measured is kept.
        Interrupted: SIGTERM, Ctrl-C or a time limit; a checkpoint is written if a batch was trained.
    """
    folder, progress = RunFolder(out), progress or Silent()
    if (before := _finished_before(folder, config, resume)) is not None:
        return before
    with _determinism(config.train.deterministic):
        session = _ready(config, data, stop)
        session.position.machine = Machine(shared=shared or session.accelerator.num_processes > 1)
        main = session.accelerator.is_main_process
        if main:
            folder.create(config)
            folder.write_manifest(_manifest(session, "running"))
            for warning in session.composition.warnings:
                progress.note(f"warning: {label or config.method}: {warning}")
        session.accelerator.wait_for_everyone()
        with nullcontext(stop) if stop is not None else StopRequest() as asked:
            _fit(session, folder, asked, progress)
        if main:
            folder.write_manifest(_manifest(session, "finished"))
        session.accelerator.wait_for_everyone()
    result = folder.result()
    assert result is not None
    return result


def _ready(config: RunConfig, data: Data, stop: StopRequest | None) -> Session:
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


def _finished_before(folder: RunFolder, config: RunConfig, resume: bool) -> Run | None:
    """The run in the folder, if it is finished; ``ValueError`` where what stands there is not to be gone on with."""
    if not folder.exists():
        return None
    if not resume:
        raise ValueError(f"--out {folder.path} holds a run already: --resume auto goes on with it")
    folder.check_same(config)
    if folder.finished() and (result := folder.result()) is not None:
        return result
    folder.check_checkpoint()
    return None


def _fit(session: Session, folder: RunFolder, stop: StopRequest, progress: Progress) -> None:
    """Train to the last epoch and write the deployed network. The manifest says how it ended, if otherwise."""
    main = session.accelerator.is_main_process
    try:
        _train_epochs(session, folder, stop, progress)
        deployed = session.composition.finish()
        if main:
            _save_model(deployed, folder.model, session.config)
    except Interrupted:
        if main:
            folder.write_manifest(_manifest(session, "interrupted"))
        raise
    except Exception as error:  # a network may fail in any way; the manifest must not say that it runs
        line = first_line(error)
        if main:
            folder.write_manifest(_manifest(session, "failed", line))
        raise RunFailed(line) from error


def _train_epochs(session: Session, folder: RunFolder, stop: StopRequest, progress: Progress) -> None:
    """From the newest checkpoint, if there is one; a checkpoint and a line of metrics after each epoch."""
    position, main = session.position, session.accelerator.is_main_process
    checkpoints = folder.all_checkpoints()
    if checkpoints:
        _load_checkpoint(session, checkpoints[-1])
    if main:
        folder.write_metrics(position.history)
    writer = _tensorboard(folder, position.epoch) if main and session.config.train.tensorboard else None
    progress.start(session.config.train.epochs, position.history)
    while position.epoch < session.config.train.epochs:
        if session.asked_to_stop(stop):
            raise stop.interrupted(_where(position, session.config.train.epochs))
        complete = session.train_epoch(stop, progress)
        epoch = session.finish_epoch() if complete else None
        start = time.monotonic()
        _checkpoint(session, folder)
        session.pace.checkpoint = max(session.pace.checkpoint, time.monotonic() - start)
        if epoch is not None:
            if main:
                folder.append_metrics(epoch)
            if writer is not None:
                for name, value in epoch.model_dump(exclude={"epoch"}, exclude_none=True).items():
                    writer.add_scalar(name, value, epoch.epoch)
                writer.flush()
            progress.epoch(epoch)


def _where(position: Position, epochs: int) -> str:
    if position.step == 0:
        return "stopped before the first batch"
    if position.batch:
        return f"stopped after epoch {position.epoch + 1} of {epochs}, batch {position.batch}"
    return f"stopped after epoch {position.epoch} of {epochs}"


def _load_checkpoint(session: Session, checkpoint: Path) -> None:
    try:
        session.accelerator.load_state(str(checkpoint))
    except (OSError, EOFError, LookupError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = first_line(error)
        raise RunFailed(
            f"{checkpoint} cannot be read ({reason}): remove that folder to go on from the one before"
        ) from error


def _checkpoint(session: Session, folder: RunFolder) -> None:
    """Write everything needed to go on; it appears whole or not at all."""
    accelerator = session.accelerator
    partial = folder.checkpoints / ".partial"
    if accelerator.is_main_process:
        partial = folder.new_checkpoint()
    accelerator.wait_for_everyone()
    # torch.save keeps strides; safetensors would need contiguous copies of channels_last weights.
    accelerator.save_state(str(partial), safe_serialization=False)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_atomically(partial / folder.config.name, to_yaml(session.config))
        folder.publish(partial, session.position.step)
    accelerator.wait_for_everyone()


def _save_model(model: nn.Module, path: Path, config: RunConfig) -> None:
    from safetensors.torch import save_model

    metadata = {"format": "pt", "model": config.model.name, "method": config.method, "data": config.data.name}
    temporary = path.with_name(f".{path.name}.tmp")
    save_model(model.to(memory_format=torch.contiguous_format), str(temporary), metadata)
    shutil.copymode(path.with_name("config.yaml"), temporary)  # safetensors would leave it to its owner alone
    os.replace(temporary, path)


def _manifest(session: Session, status: str, error: str | None = None) -> dict[str, Any]:
    config, phases = session.config, session.composition.phases
    subs = [[phase.start, phase.stop] for phase in phases if phase.name == "sub"]
    return {
        "status": status,
        "error": error,
        "method": str(session.composition),
        "seed": config.seed,
        "parameters_training": sum(p.numel() for p in session.model.parameters()),
        "parameters_deployed": session.composition.parameters_kept,
        "network": session.facts,
        "phase_starts": [phase.start for phase in phases[1:] if not subs],
        "sub_phases": subs,
        "processes": session.accelerator.num_processes,
        "alone": session.position.alone_so_far(),
        "environment": environment(session.accelerator.device),
    }


def _tensorboard(folder: RunFolder, epoch: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder.path / "tensorboard", purge_step=epoch + 1)


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Deterministic algorithms for one run; on a CPU everything that is used here is deterministic anyway."""
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark = torch.backends.cudnn.benchmark
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Some layers have no deterministic backward on a GPU: train on and let torch name them.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not wanted
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = benchmark
