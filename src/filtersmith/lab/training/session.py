"""A run in memory: network, optimizer, method and batches, and how an epoch of it is trained and tested.

What it computes depends on its configuration alone: data order and augmentation are functions of (seed, epoch), all
other random states are saved with it. `filtersmith.lab.training.run` adds the folder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from filtersmith import zoo
from filtersmith.common.options import first_line
from filtersmith.lab.data import Data, channel_stats, make_batches
from filtersmith.lab.methods import AppliedMethod, change_architecture, expand_network, parse
from filtersmith.lab.recipe.config import RunConfig, TrainOptions
from filtersmith.lab.results.document import Epoch
from filtersmith.lab.training import schedules
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.training.progress import Progress
from filtersmith.lab.training.stopping import StopRequest
from filtersmith.methods import EMA
from filtersmith.reparam import collapse, param_groups

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
        change_architecture(spec, model)
        self.model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._try_model(data)
        self.facts = network_facts(data)
        ranks = {"rank": self.accelerator.process_index, "world_size": self.accelerator.num_processes}
        common = {
            "device": device,
            "mean": torch.tensor(self.facts["mean"]),
            "std": torch.tensor(self.facts["std"]),
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
        expand_network(spec, self.model)
        groups = param_groups(self.model, options.weight_decay, scaler=getattr(self.accelerator, "scaler", None))
        optimizer = make_optimizer(groups, options)
        self.method = AppliedMethod(
            spec,
            self.model,
            optimizer,
            lambda inner, epochs: schedules.make_scheduler(inner, options, epochs, len(self.train_batches)),
            options.epochs,
            config.seed,
            held_out=None
            if data.held_out is None
            else make_batches(data.held_out, options.batch_size, augment=None, shuffle=False, **common),
            highest_rate=lambda epoch: schedules.highest_from(
                epoch, options, options.epochs, len(self.train_batches)
            ),
        )
        if options.ema is not None and self.method.average is not None:
            raise ValueError(
                f"train.ema must be null for the method {spec}, which averages itself, got {options.ema}"
            )
        if options.ema is not None and self.method.parameters_kept is not None:
            raise ValueError(
                f"train.ema must be null for the method {spec}, whose zeros an average would not have, "
                f"got {options.ema}"
            )
        # After the method: what it holds still is put back before it is averaged.
        self.ema = EMA(self.model, options.ema).attach(optimizer) if options.ema is not None else None
        compiled = torch.compile(self.model) if options.compile else self.model
        self.wrapped, self.optimizer = self.accelerator.prepare(compiled, optimizer)
        saved = [self.position, self.method] + ([self.ema] if self.ema is not None else [])
        self.accelerator.register_for_checkpointing(*saved)

    @torch.no_grad()
    def _try_model(self, data: Data) -> None:
        """One forward pass, so that a network that cannot take these images is refused before anything is written."""
        size = data.image_size
        self.model.eval()  # batch-norm statistics stay as they are
        try:
            with torch.random.fork_rng():
                self.model(torch.zeros(2, data.channels, size, size, device=self.accelerator.device))
        except Exception as error:
            reason = first_line(error)
            raise ValueError(
                f"model {self.config.model.name!r} cannot take images of {size}x{size} ({reason}); "
                "data.image_size resizes them"
            ) from error
        self.model.train()

    @property
    def deployed(self) -> nn.Module:
        """A copy of the network that is tested and deployed: plain, whatever was trained."""
        return collapse(self._source)

    @property
    def parameters_deployed(self) -> int:
        """How many parameters are deployed: shared ones once, those that were pruned for good not at all."""
        kept = self.method.parameters_kept
        return kept if kept is not None else sum(p.numel() for p in self.deployed.parameters())

    @property
    def _source(self) -> nn.Module:
        """What the deployed network is made of: the trained network or its average."""
        average = self.ema.network if self.ema is not None else self.method.average
        return average if average is not None else self.model

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
        objective = loss * (self.accelerator.num_processes / global_size)
        penalty = self.method.penalty()
        self.accelerator.backward(objective if penalty is None else objective + penalty)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.method.end_batch()
        return loss.detach(), (outputs.detach().argmax(1) == labels).sum()

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Mean loss and accuracy of the deployed network on the test images."""
        if self.accelerator.num_processes > 1:  # each has its own batch-norm statistics; the first one's are saved
            for buffer in self._source.buffers():
                torch.distributed.broadcast(buffer, 0)
        network = self.deployed.eval()
        sums = torch.zeros(3, device=self.accelerator.device, dtype=torch.float64)
        for images, labels in self.test_batches.epoch(0):
            if len(labels) == 0:  # a rank's share of a last, very small batch
                continue
            with self.accelerator.autocast():
                outputs = network(images).float()
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


def network_facts(data: Data) -> dict[str, Any]:
    """What building and using a network needs to know of its data, as the manifest keeps it.

    ``mean`` and ``std``, one number a channel in units of 0..1, are what the images are normalised with.
    """
    mean, std = channel_stats(data.train)
    return {
        "num_classes": data.num_classes,
        "in_channels": data.channels,
        "image_size": data.image_size,
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


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


def make_optimizer(groups: list[dict[str, Any]], options: TrainOptions) -> Optimizer:
    """The optimizer of a recipe, over groups that have their own weight decay."""
    lr = options.lr
    match options.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr, momentum=options.momentum, nesterov=options.nesterov)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr, momentum=options.momentum)
        case "adam":
            return torch.optim.Adam(groups, lr)
        case "adamw":
            return torch.optim.AdamW(groups, lr)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr)
