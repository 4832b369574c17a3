"""What a task has to be able to do, so that training, comparing and reporting need not know which one runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.common.options import bad_option
from filtersmith.lab.data import Batching
from filtersmith.lab.network import Fitted, Made
from filtersmith.lab.recipe.config import DataOptions, ModelOptions, RunConfig, TrainOptions
from filtersmith.lab.results.picture import Picture
from filtersmith.lab.tasks.exporting import Exporting


class Samples(Protocol):
    """One split of a data set."""

    def __len__(self) -> int: ...


class TaskData(Protocol):
    """A data set of any task.

    Attributes:
        name: as it was typed.
        title: for tables and headings.
        train: training split.
        test: test split.
        held_out: kept out of training, for methods that choose by data; ``None`` where nothing is.
        notes: what a person should know of how the set was read, a line each.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def train(self) -> Samples: ...
    @property
    def test(self) -> Samples: ...
    @property
    def held_out(self) -> Samples | None: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


LEAST_TEST_BATCH = 512
"""Samples of a batch that is tested: no gradients are kept, so that larger ones fit, and they are faster."""


class TaskBatches(Protocol):
    """Batches of this process: ``(inputs, targets)``, on its device.

    Attributes:
        global_sizes: samples of each batch, over all processes.
    """

    @property
    def global_sizes(self) -> Sequence[int]: ...
    def __len__(self) -> int: ...
    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """The batches of an epoch from one of them on: a function of seed and epoch."""
        ...


class Repeatable:
    """Batches as evaluation takes them, as often as they are asked for."""

    def __init__(self, batches: TaskBatches) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches.epoch(0))


class RunBatches(NamedTuple):
    """The batches of a run; ``held_out`` for methods that choose by data, where samples are held out for them."""

    train: TaskBatches
    test: TaskBatches
    held_out: Repeatable | None


def in_order(config: RunConfig, accelerator: Any, mean: Sequence[float], std: Sequence[float]) -> Batching:
    """How the samples of this process are made into batches, in the order of the split."""
    return Batching(
        config.train.batch_size,
        accelerator.device,
        torch.tensor(mean),
        torch.tensor(std),
        seed=config.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        channels_last=config.train.channels_last,
    )


PICTURES = 4
"""Test images of which a page shows what a network says."""


def spread(count: int, most: int = PICTURES) -> list[int]:
    """So many numbers below ``count``, as far apart as can be.

    >>> spread(72), spread(2)
    ([0, 24, 47, 71], [0, 1])
    """
    most = min(most, count)
    return [round(place * (count - 1) / max(1, most - 1)) for place in range(most)]


def check_frozen(options: ModelOptions, fit: Fitted | None) -> None:
    """``ValueError`` where a part that is not trained would stay as it was drawn."""
    if options.frozen and fit is None:
        raise bad_option("model.frozen", True, "false without --backbone or --weights: what is frozen stays as drawn")
    if options.frozen and fit is not None and not fit.whole:
        raise bad_option("model.frozen", True, f"false with weights that fit in part: of {options.weights} {fit}")


class Step(NamedTuple):
    """A training step before its backward pass.

    Attributes:
        outputs: of the network, as methods get them.
        loss: summed over this process's samples.
        hits: right answers among them; ``None`` where a task does not count any.
    """

    outputs: Any
    loss: Tensor
    hits: Tensor | None


def one_of_classes(outputs: Tensor, labels: Tensor, options: TrainOptions) -> Step:
    """The step of a task that chooses one of several classes: the cross entropy of logits ``(samples, classes)``."""
    loss = F.cross_entropy(outputs, labels, reduction="sum", label_smoothing=options.label_smoothing)
    return Step(outputs, loss, (outputs.detach().argmax(1) == labels).sum())


@dataclass(frozen=True)
class Scores:
    """What a network is worth on the test set, over all processes.

    Attributes:
        loss: mean over the samples; ``None`` where a network has none in evaluation.
        score: the task's, a fraction.
        more: scores beside it.
    """

    loss: float | None
    score: float
    more: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol):
    """A task owns its data, network, loss and metric."""

    def load(self, options: DataOptions) -> Any:
        """The data set that options name (a `TaskData`); ``ValueError`` in one line for what cannot be."""
        ...

    def fingerprint(self, data: Any) -> dict[str, Any]:
        """What tells two data sets apart, as plain values."""
        ...

    def describe(self, data: Any) -> list[str]:
        """What a person should see of the data before training, a line each."""
        ...

    def facts(self, data: Any, options: ModelOptions | None = None) -> dict[str, Any]:
        """What building and using a network needs to know of the data, as the manifest keeps it."""
        ...

    def augments(self, data: Any) -> bool:
        """Whether training changes images at random, unless a recipe says otherwise."""
        ...

    def build(self, options: ModelOptions, facts: Mapping[str, Any]) -> nn.Module:
        """The network with random weights, drawn from torch's generator."""
        ...

    def make(self, options: ModelOptions, facts: Mapping[str, Any]) -> tuple[nn.Module, Made]:
        """The network with its weights, and what is known of it."""
        ...

    def tried(
        self, network: nn.Module, options: ModelOptions, facts: Mapping[str, Any], device: torch.device
    ) -> tuple[Any, Any, Any, int]:
        """Two black samples through the network, in evaluation mode and without gradients.

        Returns:
            Inputs, outputs and targets as in a `Step`, and how many logits the network has beyond the classes.

        Raises:
            ValueError: a network that cannot take the data, or gives something else than the task needs.
        """
        ...

    def batches(
        self, config: RunConfig, data: Any, facts: Mapping[str, Any], accelerator: Any, network: nn.Module
    ) -> RunBatches:
        """The batches of this process; ``network`` is the one that is trained, as its methods have prepared it."""
        ...

    def step(self, network: nn.Module, inputs: Any, targets: Any, options: TrainOptions) -> Step:
        """The loss of a batch."""
        ...

    def scores(self, network: nn.Module, batches: TaskBatches, accelerator: Any) -> Scores:
        """What the network is worth, in evaluation mode; no gradients are kept."""
        ...

    def pictures(self, network: nn.Module, data: Any, facts: Mapping[str, Any]) -> Sequence[Picture]:
        """What the deployed network, on the CPU, says about some of the test set; empty where there is none."""
        ...

    def exporting(self, facts: Mapping[str, Any]) -> Exporting:
        """How a network of these facts is written to a file for elsewhere."""
        ...
