"""A run in memory, and how an epoch of it is trained. `setup` makes its parts, `evaluate` tests.

What it computes depends on its configuration alone: data order and augmentation are functions of (seed, epoch), all
other random states are saved with it. `filtersmith.lab.training.run` adds the folder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.lab.audit.images import images_for
from filtersmith.lab.network import Made
from filtersmith.lab.recipe.config import RunConfig, to_yaml
from filtersmith.lab.results.document import Epoch, Filters
from filtersmith.lab.tasks.names import info_of, task_named
from filtersmith.lab.tasks.task import RunBatches, Task
from filtersmith.lab.teachers.load import check_classes, resolver
from filtersmith.lab.training.alone import Machine, both
from filtersmith.lab.training.audited import IMAGES, filters_of
from filtersmith.lab.training.checkpoint import methods_state
from filtersmith.lab.training.compiled import compiled
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.training.evaluate import evaluate, not_finite
from filtersmith.lab.training.learning_rate import make_scheduler
from filtersmith.lab.training.progress import Progress
from filtersmith.lab.training.setup import (
    check_batches,
    make_accelerator,
    make_network,
    make_optimizer,
    try_out,
    with_bias_lr,
)
from filtersmith.lab.training.stopping import Pace, StopRequest
from filtersmith.methods.composition import Composition, Resolve, compose

# On a GPU, looking at a number there means waiting for it.
_LOOK_EVERY = 50


class Position:
    """How far a run is, as saved in a checkpoint: whole epochs, batches of the current one, and what they summed."""

    def __init__(self) -> None:
        self.epoch: int = 0
        self.batch: int = 0
        self.step: int = 0
        self.lr: float = 0.0
        """Learning rate at the start of the epoch."""
        self.sums: dict[str, float] = {"loss": 0.0, "correct": 0.0, "count": 0.0, "seconds": 0.0}
        self.history: list[Epoch] = []
        self.alone: bool | None = True
        """Whether the machine was the run's own until the checkpoint from which it went on."""
        self.restored: bool = False
        self.machine: Machine | None = None
        """The watch over what was done since; none where nobody asked for it."""

    def next_epoch(self, finished: Epoch) -> None:
        self.history.append(finished)
        self.epoch += 1
        self.batch = 0
        self.sums = dict.fromkeys(self.sums, 0.0)

    def state_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("epoch", "batch", "step", "lr")}
        history = [epoch.model_dump() for epoch in self.history]
        return {**plain, "sums": dict(self.sums), "history": history, "alone": self.alone_so_far()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.batch, self.step, self.lr = (state[name] for name in ("epoch", "batch", "step", "lr"))
        self.sums = dict(state["sums"])
        self.history = [Epoch.model_validate(epoch) for epoch in state["history"]]
        self.alone = state.get("alone")  # older versions did not look
        self.restored = True

    def alone_so_far(self) -> bool | None:
        """Whether the run has had the machine to itself in all its parts; ``None``: nobody can tell."""
        if self.machine is None:  # nobody looks now: what its checkpoint says
            return self.alone if self.restored else None
        return both(self.alone, self.machine.alone())


class Session:
    """A run in memory, ready to train: network, optimizer, batches and the composition of its methods.

    ``data`` is what the task of the configuration loads.
    ``resolve`` makes teachers of names; by default they are runs, files and networks (`lab/teachers`).

    Raises ``ValueError`` for everything in the configuration that does not fit the data, the network or the machine.
    """

    def __init__(self, config: RunConfig, data: Any, *, resolve: Resolve | None = None) -> None:
        from accelerate.utils import set_seed

        options = config.train
        self.config = config
        self.recipe: str = to_yaml(config)  # once: PyYAML takes as long as an epoch of small images
        self.position: Position = Position()
        self.task: Task = task_named(config.task)
        self._info = info_of(config.task)
        self.facts: dict[str, Any] = self.task.facts(data, config.model)
        self.composition: Composition = compose(config.method, resolve=resolve or resolver(self.facts))
        if self.composition.plain_loss and not self._info.one_class:
            raise bad_option(
                "method", config.method, f"without what teaches classes, where the task is {config.task}"
            )
        if resolve is None:
            check_classes(config.method, data)
        if options.label_smoothing and self.composition.plain_loss:
            allowed = f"0 with {config.method}, which reckons with the plain cross entropy"
            raise bad_option("train.label_smoothing", options.label_smoothing, allowed)
        self.accelerator: Any = make_accelerator(options)
        set_seed(config.seed)
        device = self.accelerator.device
        self.model: nn.Module
        self.made: Made
        self.model, self.made = make_network(config, self.task, self.facts, self.composition, device)
        self.batches: RunBatches = self.task.batches(config, data, self.facts, self.accelerator, self.model)
        check_batches(self.batches, config, len(data.train), self.accelerator.num_processes)
        looks = options.audit and self._info.one_class
        self._audited = images_for(data, self.facts, IMAGES) if looks else None
        self.scaler: Any | None = getattr(self.accelerator, "scaler", None)
        groups = self.composition.param_groups(self.model, options.weight_decay, scaler=self.scaler)
        optimizer = make_optimizer(with_bias_lr(groups, self.model, options), options)
        self.composition.attach(
            self.model,
            optimizer,
            epochs=options.epochs,
            seed=config.seed,
            scheduler=partial(
                make_scheduler,
                options=options,
                epochs=self.composition.schedule_epochs(options.epochs),
                steps_per_epoch=len(self.batches.train),
            ),
            schedule_by="batch",
            held_out=self.batches.held_out,
        )
        self._try_penalty()
        network = compiled(self.model) if options.compile else self.model
        self.wrapped: Any
        self.optimizer: Any
        self.wrapped, self.optimizer = self.accelerator.prepare(network, optimizer)
        methods_state(self.composition)  # what cannot be saved is refused before anything is trained
        self._odd = not_finite(self.model)
        self.pace: Pace = Pace(sum(p.numel() * p.element_size() for p in self.model.parameters()))

    def _try_penalty(self) -> None:
        """What the methods add to the loss, once on black images: what does not fit there shows before training."""
        inputs, outputs, targets, _ = try_out(self.task, self.model, self.config, self.facts, self.accelerator.device)
        with torch.random.fork_rng(), torch.no_grad():
            self.composition.penalty(inputs, outputs, targets)

    def train_epoch(self, stop: StopRequest, progress: Progress) -> bool:
        """Train to the end of the current epoch; ``False`` if it was stopped before."""
        position = self.position
        if position.batch == 0:
            position.lr = float(self.optimizer.param_groups[0]["lr"])
        self.wrapped.train()
        # Summed on the device: reading a number there would wait for the GPU at every step.
        loss_sum = torch.zeros((), device=self.accelerator.device, dtype=torch.float64)
        correct = torch.zeros((), device=self.accelerator.device, dtype=torch.int64)
        batches, sizes = self.batches.train, self.batches.train.global_sizes
        before, start, done = position.batch, time.perf_counter(), True
        looked, looked_at = start, before
        for inputs, targets in batches.epoch(position.epoch, position.batch):
            loss, hits = self._train_batch(inputs, targets, sizes[position.batch])
            loss_sum += loss
            correct += 0 if hits is None else hits
            position.batch += 1
            position.step += 1
            progress.batch(position.batch, len(sizes))
            last = position.batch == len(sizes)
            look = self.accelerator.device.type == "cpu" or position.step % _LOOK_EVERY == 0
            if look or last:
                self._check_finite(loss)
                self.pace.batches((now := time.perf_counter()) - looked, sum(sizes[looked_at : position.batch]))
                looked, looked_at = now, position.batch
            # To ask the other processes is to wait for them; alone, a process may ask itself at any time.
            if not last and (look or self.accelerator.num_processes == 1) and self.asked_to_stop(stop):
                done = False
                break
        sums = self.accelerator.reduce(torch.stack([loss_sum, correct.double()]), reduction="sum")
        position.sums["loss"] += float(sums[0])
        position.sums["correct"] += float(sums[1])
        position.sums["count"] += sum(sizes[before : position.batch])
        position.sums["seconds"] += time.perf_counter() - start
        return done

    def _train_batch(self, inputs: Any, targets: Any, global_size: int) -> tuple[Tensor, Tensor | None]:
        """One step; returns the summed loss and the number of right answers of this process's samples."""
        outputs, loss, hits = self.task.step(self.wrapped, inputs, targets, self.config.train)
        # The mean over the global batch, whatever part of it this process has: DDP averages over processes.
        objective = loss * (self.accelerator.num_processes / global_size)
        self.accelerator.backward(objective + self.composition.penalty(inputs, outputs, targets))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.composition.end_batch()
        return loss.detach(), hits

    def finish_epoch(self) -> Epoch:
        """Test, log and go on to the next epoch."""
        position = self.position
        sums, start = position.sums, time.perf_counter()
        scores = evaluate(self.task, self.composition, self.batches.test, self.accelerator)
        last = position.epoch + 1 == self.config.train.epochs
        if last and scores.loss is not None and not math.isfinite(scores.loss):
            # The last step had a loss yet: nobody else would notice.
            raise self._not_finite(f"loss on the test images is {scores.loss} after epoch {position.epoch + 1}")
        filters = self._filters()
        self.pace.evaluation = max(self.pace.evaluation, time.perf_counter() - start)
        epoch = Epoch(
            epoch=position.epoch + 1,
            lr=position.lr,
            train_loss=sums["loss"] / sums["count"],
            train_accuracy=sums["correct"] / sums["count"] if self._info.counts_hits else None,
            test_loss=scores.loss,
            test_accuracy=scores.score,
            scores=dict(scores.more),
            train_seconds=sums["seconds"],
            filters=filters,
        )
        position.next_epoch(epoch)
        self.composition.end_epoch()
        return epoch

    def _filters(self) -> Filters | None:
        """What the filters do now; on images after the last epoch alone, as that takes longer."""
        if not self.config.train.audit:
            return None
        network = self.composition.deployed  # which all processes make together
        if not self.accelerator.is_main_process:  # it alone writes the record, and its images are not a share of them
            return None
        last = self.position.epoch + 1 == self.config.train.epochs
        images = self._audited if last else None
        return filters_of(network, None if images is None else images.batches())

    def finish(self) -> nn.Module:
        """The network to deploy; ``RunFailed`` where it has values that are not finite, and had them not before."""
        deployed = self.composition.finish()
        if found := sorted(not_finite(deployed) - self._odd):
            raise self._not_finite(f"{found[0]} of the deployed network is not finite after the last epoch")
        return deployed

    def _check_finite(self, loss: Tensor) -> None:
        if self.accelerator.num_processes > 1:  # all see the same and fail together
            loss = self.accelerator.reduce(loss, reduction="sum")
        if not torch.isfinite(loss):
            position = self.position
            raise self._not_finite(f"loss is {float(loss)} in epoch {position.epoch + 1}, step {position.batch}")

    def _not_finite(self, what: str) -> RunFailed:
        rate = f"train.lr={self.config.train.lr:g}"
        return RunFailed(f"{what} ({rate}): a smaller train.lr or train.warmup_epochs may help")

    def asked_to_stop(self, stop: StopRequest) -> bool:
        """Whether any process got a signal, or has no time for what comes: all must stop after the same step."""
        stop.look(0.0 if stop.deadline is None else self._seconds_to_next_look())
        if self.accelerator.num_processes > 1:
            asked = torch.tensor([stop.code], device=self.accelerator.device)
            stop.code = int(self.accelerator.gather(asked).max())
        return stop.code != 0

    def _seconds_to_next_look(self) -> float:
        """What comes before one can stop again: batches, at the end of an epoch its evaluation, and a checkpoint."""
        alone = self.accelerator.num_processes == 1 or self.accelerator.device.type == "cpu"
        ends = len(self.batches.train) - self.position.batch <= (1 if alone else _LOOK_EVERY)
        evaluation = self.pace.evaluation_of(sum(self.batches.test.global_sizes)) if ends else 0.0
        return self.pace.batch + evaluation + self.pace.checkpoint
