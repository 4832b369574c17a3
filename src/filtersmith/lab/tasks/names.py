"""The tasks by name, and what can be said of them without torch: how their score is called, and their defaults."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from filtersmith.common.options import unknown_name

if TYPE_CHECKING:
    from filtersmith.lab.tasks.task import Task


@dataclass(frozen=True)
class TaskInfo:
    """What is known of a task without running it.

    Attributes:
        place: ``module:object`` that carries it out.
        summary: one line.
        score: what is measured after each epoch, a fraction; larger is better.
        column: the head of its column in tables.
        more: scores beside it, by the names under which they are recorded; each has a column.
        forms: how data of one's own is named, in front of a colon.
        samples: what a data set consists of.
        counts_hits: whether right answers are counted, so that one more has a fixed worth.
        one_class: whether each image has one class: what teaches classes, and audits by images, go with it alone.
        pictures: whether a page shows what networks say about test images.
        defaults: options by name: data and network, and those that are others than a classification's.
    """

    place: str
    summary: str
    score: str
    column: str = "Last epoch"
    more: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    samples: str = "images"
    counts_hits: bool = False
    one_class: bool = False
    pictures: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> str:
        """The data where none is named, and how one's own is."""
        own = [f"{form}:PATH" for form in self.forms]
        return ", ".join(filter(None, [self.defaults["data.name"], *own]))

    @property
    def network(self) -> str:
        """The network where none is named."""
        return str(self.defaults["model.name"])


CLASSIFICATION = "classification"
TASKS: dict[str, TaskInfo] = {
    CLASSIFICATION: TaskInfo(
        "filtersmith.lab.tasks.classification:CLASSIFICATION",
        "one class for each image",
        "accuracy",
        forms=("imagefolder", "hf"),
        counts_hits=True,
        one_class=True,
        defaults={"data.name": "digits", "model.name": "vanilla"},
    ),
    "detection": TaskInfo(
        "filtersmith.lab.tasks.detection.task:DETECTION",
        "boxes around things in images",
        "average precision",
        column="AP",
        more=("AP50", "AP75"),
        forms=("voc", "coco"),
        pictures=True,
        defaults={
            "data.name": "",
            "model.name": "fasterrcnn-resnet18-fpn",
            "train.epochs": 12,
            "train.batch_size": 8,
            "train.optimizer": "adamw",  # from random weights SGD often ends in losses that are infinite
            "train.lr": 0.001,
            "train.warmup_epochs": 0.5,
        },
    ),
    "vqa": TaskInfo(
        "filtersmith.lab.tasks.vqa.task:VQA",
        "answers to questions about images",
        "accuracy",
        more=("yes/no", "number", "other"),
        forms=("vqa",),
        pictures=True,
        samples="questions",
        counts_hits=True,
        defaults={
            "data.name": "",
            "model.name": "resnet8",
            "train.epochs": 10,
            "train.optimizer": "adam",
            "train.lr": 0.001,
        },
    ),
}


def info_of(name: str) -> TaskInfo:
    """A task's record; ``ValueError`` for a name that is none."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def task_named(name: str) -> Task:
    """What carries out a task."""
    module, _, attribute = info_of(name).place.partition(":")
    found: Task = getattr(importlib.import_module(module), attribute)
    return found
