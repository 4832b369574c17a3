"""One run: a method, a network, a data set and a seed, from a configuration to a deployed network.

`Session` holds the run in memory and knows how to train an epoch; `run` adds the folder: checkpoints, resuming,
metrics. What a run computes depends on its configuration alone: data order and augmentation are functions of
(seed, epoch), all other random states are in the checkpoint.
"""

from __future__ import annotations

import os
import pickle
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from filtersmith import zoo
from filtersmith.lab import schedules
from filtersmith.lab.config import RunConfig, TrainOptions, to_yaml
from filtersmith.lab.data import Data, channel_stats, load, make_batches
from filtersmith.lab.environment import environment
from filtersmith.lab.errors import Interrupted, RunFailed
from filtersmith.lab.methods import AppliedMethod, parse
from filtersmith.lab.progress import Progress, Silent
from filtersmith.lab.results import Epoch, Run, write_atomically
from filtersmith.lab.runs import RunFolder
from filtersmith.lab.stopping import StopRequest

# On a GPU, looking at a number there means waiting for it.
_LOOK_EVERY = 50


class Position:
    """How far a run is, as saved in a checkpoint: whole epochs, batches of the current one, and what they summed."""

    def __init__(self) -> None:
        self.epoch = 0
        self.batch = 0
        self.step = 0
        self.lr = 0.0
        """Learning rate at the start of the epoch."""
        self.sums = {"loss": 0.0, "correct": 0.0, "count": 0.0, "seconds": 0.0}
        self.history: list[Epoch] = []

    def next_epoch(self, finished: Epoch) -> None:
        self.history.append(finished)
        self.epoch += 1
        self.batch = 0
        self.sums = dict.fromkeys(self.sums, 0.0)

    def state_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("epoch", "batch", "step", "lr")}
        return {**plain, "sums": dict(self.sums), "history": [epoch.model_dump() for epoch in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.batch, self.step, self.lr = (state[name] for name in ("epoch", "batch", "step", "lr"))
        self.sums = dict(state["sums"])
        self.history = [Epoch.model_validate(epoch) for epoch in state["history"]]


class Session:
    """A run in memory: network, optimizer, method and batches, ready to train.

    Raises ``ValueError`` for everything in the configuration that does not fit the data, the network or the machine.
    """

    def __init__(self, config: RunConfig, data: Data) -> None:
        from accelerate.utils import set_seed

        options = config.train
        spec = parse(config.method)
        self.config = config
        self.accelerator = make_accelerator(options)
        self.position = Position()
        device = self.accelerator.device
        set_seed(config.seed)
        model = zoo.build(
            config.model.name,
            data.num_classes,
            data.channels,
            image_size=data.image_size,
            small_images=config.model.small_images,
        )
        self.model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._try_model(data)
        mean, std = channel_stats(data.train)
        ranks = {"rank": self.accelerator.process_index, "world_size": self.accelerator.num_processes}
        common = {
            "device": device,
            "mean": mean,
            "std": std,
            "seed": config.seed,
            "workers": options.workers,
            **ranks,
        }
        augment = data.augment if config.data.augment else None
        self.train_batches = make_batches(data.train, options.batch_size, augment=augment, shuffle=True, **common)
        # No gradients are kept: larger batches fit and are faster.
        test_size = max(options.batch_size, 512)
        self.test_batches = make_batches(data.test, test_size, augment=None, shuffle=False, **common)
        self.global_sizes = [
            min(options.batch_size, len(data.train) - start)
            for start in range(0, len(data.train), options.batch_size)
        ]
        if self.global_sizes[-1] < self.accelerator.num_processes:
            raise ValueError(
                f"train.batch_size must leave every process an image of the last batch: "
                f"{len(data.train)} images in batches of {options.batch_size} leave {self.global_sizes[-1]}"
            )
        optimizer = make_optimizer(self.model, options)
        self.method = AppliedMethod(
            spec,
            self.model,
            optimizer,
            lambda inner, epochs: schedules.make_scheduler(inner, options, epochs, len(self.train_batches)),
            options.epochs,
            config.seed,
        )
        self.averaged: AveragedModel | None = None
        if options.ema is not None:
            # Batch-norm statistics are copied, not averaged (use_buffers=False).
            self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(options.ema))
        compiled = torch.compile(self.model) if options.compile else self.model
        self.wrapped, self.optimizer = self.accelerator.prepare(compiled, optimizer)
        saved = [self.position, self.method] + ([self.averaged] if self.averaged is not None else [])
        self.accelerator.register_for_checkpointing(*saved)

    @torch.no_grad()
    def _try_model(self, data: Data) -> None:
        """One forward pass, so that a network that cannot take these images is refused before anything is written."""
        size = data.image_size
        self.model.eval()  # batch-norm statistics stay as they are
        try:
            with torch.random.fork_rng(enabled=True):
                self.model(torch.zeros(2, data.channels, size, size, device=self.accelerator.device))
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"model {self.config.model.name!r} cannot take images of {size}x{size} ({reason}); "
                "data.image_size resizes them"
            ) from error
        self.model.train()

    @property
    def deployed(self) -> nn.Module:
        """The network that is tested and deployed."""
        return self.averaged.module if self.averaged is not None else self.model

    def train_epoch(self, stop: StopRequest, progress: Progress) -> bool:
        """Train to the end of the current epoch; ``False`` if it was stopped before."""
        position = self.position
        if position.batch == 0:
            position.lr = float(self.optimizer.param_groups[0]["lr"])
        self.wrapped.train()
        # Summed on the device: reading a number there would wait for the GPU at every step.
        loss_sum = torch.zeros((), device=self.accelerator.device, dtype=torch.float64)
        correct = torch.zeros((), device=self.accelerator.device, dtype=torch.int64)
        before, start, done = position.batch, time.perf_counter(), True
        for images, labels in self.train_batches.epoch(position.epoch, position.batch):
            loss, hits = self._train_batch(images, labels, self.global_sizes[position.batch])
            loss_sum += loss
            correct += hits
            position.batch += 1
            position.step += 1
            progress.batch(position.batch, len(self.train_batches))
            last = position.batch == len(self.train_batches)
            look = self.accelerator.device.type == "cpu" or position.step % _LOOK_EVERY == 0
            if look or last:
                self._check_finite(loss)
            # To ask the other processes is to wait for them; alone, a process may ask itself at any time.
            if not last and (look or self.accelerator.num_processes == 1) and self.asked_to_stop(stop):
                done = False
                break
        sums = self.accelerator.reduce(torch.stack([loss_sum, correct.double()]), reduction="sum")
        position.sums["loss"] += float(sums[0])
        position.sums["correct"] += float(sums[1])
        position.sums["count"] += sum(self.global_sizes[before : position.batch])
        position.sums["seconds"] += time.perf_counter() - start
        return done

    def _train_batch(self, images: Tensor, labels: Tensor, global_size: int) -> tuple[Tensor, Tensor]:
        """One step; returns the summed loss and the number of right answers of this process's images."""
        smoothing = self.config.train.label_smoothing
        outputs = self.wrapped(images)
        loss = F.cross_entropy(outputs, labels, reduction="sum", label_smoothing=smoothing)
        # The mean over the global batch, whatever this process's share of it: DDP averages over processes.
        self.accelerator.backward(loss * (self.accelerator.num_processes / global_size))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.method.end_batch()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        return loss.detach(), (outputs.detach().argmax(1) == labels).sum()

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Mean loss and accuracy of the deployed network on the test images."""
        self.deployed.eval()
        if self.accelerator.num_processes > 1:  # each has its own batch-norm statistics; the first one's are saved
            for buffer in self.deployed.buffers():
                torch.distributed.broadcast(buffer, 0)
        sums = torch.zeros(3, device=self.accelerator.device, dtype=torch.float64)
        for images, labels in self.test_batches.epoch(0):
            if len(labels) == 0:  # a rank's share of a last, very small batch
                continue
            with self.accelerator.autocast():
                outputs = self.deployed(images).float()
            loss = F.cross_entropy(outputs, labels, reduction="sum")
            sums += torch.stack(
                [loss.double(), (outputs.argmax(1) == labels).sum().double(), loss.new_tensor(len(labels)).double()]
            )
        loss, correct, count = self.accelerator.reduce(sums, reduction="sum").tolist()
        return loss / count, correct / count

    def finish_epoch(self) -> Epoch:
        """Test, log and go on to the next epoch."""
        position = self.position
        sums = position.sums
        test_loss, test_accuracy = self.evaluate()
        epoch = Epoch(
            epoch=position.epoch + 1,
            lr=position.lr,
            train_loss=sums["loss"] / sums["count"],
            train_accuracy=sums["correct"] / sums["count"],
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            train_seconds=sums["seconds"],
        )
        position.next_epoch(epoch)
        self.method.end_epoch()
        return epoch

    def _check_finite(self, loss: Tensor) -> None:
        if self.accelerator.num_processes > 1:  # all see the same and fail together
            loss = self.accelerator.reduce(loss, reduction="sum")
        if not torch.isfinite(loss):
            position = self.position
            raise RunFailed(
                f"loss is {float(loss)} in epoch {position.epoch + 1}, step {position.batch} "
                f"(train.lr={self.config.train.lr:g}): a smaller train.lr or train.warmup_epochs may help"
            )

    def asked_to_stop(self, stop: StopRequest) -> bool:
        """Whether any process got a signal: all must stop after the same step."""
        if self.accelerator.num_processes > 1:
            asked = torch.tensor([stop.signal], device=self.accelerator.device)
            stop.signal = int(self.accelerator.gather(asked).max())
        return stop.signal != 0


def make_accelerator(options: TrainOptions) -> Any:
    """accelerate's view of the machine: device, processes, precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    cuda = torch.cuda.is_available()
    if options.device == "cuda" and not cuda:
        raise ValueError("train.device must be auto or cpu on this machine, got 'cuda'")
    cpu = options.device == "cpu" or not cuda
    if options.precision == "fp16" and cpu:
        raise ValueError("train.precision must be fp32 or bf16 on a CPU, got 'fp16'")
    # A process may make several runs with different precisions; accelerate keeps the first one's otherwise.
    AcceleratorState._reset_state()
    GradientState._reset_state()
    return Accelerator(cpu=cpu, mixed_precision="no" if options.precision == "fp32" else options.precision)


def make_optimizer(model: nn.Module, options: TrainOptions) -> Optimizer:
    """The optimizer of a recipe, over all parameters in one group."""
    lr, decay = options.lr, options.weight_decay
    match options.optimizer:
        case "sgd":
            return torch.optim.SGD(
                model.parameters(), lr, momentum=options.momentum, nesterov=options.nesterov, weight_decay=decay
            )
        case "rmsprop":
            return torch.optim.RMSprop(model.parameters(), lr, momentum=options.momentum, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(model.parameters(), lr, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr, weight_decay=decay)
        case "adagrad":
            return torch.optim.Adagrad(model.parameters(), lr, weight_decay=decay)


def load_data(config: Any) -> Data:
    """The data set that a configuration names."""
    return load(config.data.name, root=config.data.root, image_size=config.data.image_size)


def run(
    config: RunConfig,
    out: Path,
    data: Data,
    *,
    resume: bool,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Run:
    """Train one run to its end in the folder ``out``.

    Args:
        config: what to run.
        out: its folder; see `filtersmith.lab.runs`.
        data: as `load_data` gives it.
        resume: go on from the newest checkpoint in ``out``, or return at once if the run is finished. Otherwise a
            folder that holds a run is refused.
        progress: told about every batch and epoch.
        stop: an entered `StopRequest` of the caller; by default the run has its own.

    Raises:
        ValueError: something in the configuration does not fit; nothing in ``out`` has changed.
        RunFailed: the run could not be finished; what it measured is kept.
        Interrupted: SIGTERM or Ctrl-C; a checkpoint is written.
    """
    folder, progress = RunFolder(out), progress or Silent()
    if folder.exists():
        if not resume:
            raise ValueError(f"--out {out} holds a run already: --resume auto goes on with it")
        folder.check_same(config)
        result = folder.result() if folder.finished() else None
        if result is not None:
            return result
    with _determinism(config.train.deterministic):
        session = Session(config, data)
        main = session.accelerator.is_main_process
        if main:
            folder.create(config)
            folder.write_manifest(_manifest(session, "running"))
        session.accelerator.wait_for_everyone()
        try:
            with nullcontext(stop) if stop is not None else StopRequest() as asked:
                _fit(session, folder, asked, progress)
        except Interrupted:
            if main:
                folder.write_manifest(_manifest(session, "interrupted"))
            raise
        except Exception as error:  # a network may fail in any way; the manifest must not say that it runs
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if main:
                folder.write_manifest(_manifest(session, "failed", line))
            raise RunFailed(line) from error
        if main:
            _save_model(session.deployed, folder.model, config)
            folder.write_manifest(_manifest(session, "finished"))
        session.accelerator.wait_for_everyone()
    result = folder.result()
    assert result is not None
    return result


def _fit(session: Session, folder: RunFolder, stop: StopRequest, progress: Progress) -> None:
    position, main = session.position, session.accelerator.is_main_process
    checkpoints = folder.all_checkpoints()
    if checkpoints:
        _load_checkpoint(session, checkpoints[-1])
    if main:
        folder.write_metrics(position.history)
    writer = _tensorboard(folder, position.epoch) if main and session.config.train.tensorboard else None
    progress.start(session.config.train.epochs, position.history)
    while position.epoch < session.config.train.epochs:
        complete = session.train_epoch(stop, progress)
        epoch = session.finish_epoch() if complete else None
        _checkpoint(session, folder)
        if epoch is not None:
            if main:
                folder.append_metrics(epoch)
            if writer is not None:
                for name, value in epoch.model_dump(exclude={"epoch"}, exclude_none=True).items():
                    writer.add_scalar(name, value, epoch.epoch)
                writer.flush()
            progress.epoch(epoch)
        if session.asked_to_stop(stop) and position.epoch < session.config.train.epochs:
            where = (
                f"epoch {position.epoch + 1}, batch {position.batch}" if position.batch else f"epoch {position.epoch}"
            )
            raise Interrupted(stop.signal, f"stopped after {where}")


def _load_checkpoint(session: Session, checkpoint: Path) -> None:
    try:
        session.accelerator.load_state(str(checkpoint))
    except (OSError, EOFError, LookupError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
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
    config = session.config
    return {
        "status": status,
        "error": error,
        "method": str(parse(config.method)),
        "seed": config.seed,
        "parameters_training": sum(p.numel() for p in session.model.parameters()),
        "parameters_deployed": sum(p.numel() for p in session.deployed.parameters()),
        "phase_starts": list(session.method.phase_starts),
        "processes": session.accelerator.num_processes,
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
