"""Classification: one class for each image, cross entropy, accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from filtersmith.common.options import bad_option, first_line
from filtersmith.common.words import plural
from filtersmith.lab.data import Augment, Data, FileSet, channel_stats, load, make_batches, with_held_out, with_limit
from filtersmith.lab.data.describe import describe
from filtersmith.lab.data.fingerprint import fingerprint
from filtersmith.lab.data.folder import LARGE
from filtersmith.lab.network import Made, logits_of, make, network_of
from filtersmith.lab.recipe.config import DataOptions, ModelOptions, RunConfig, TrainOptions
from filtersmith.lab.tasks.exporting import Logits, random_images
from filtersmith.lab.tasks.task import (
    LEAST_TEST_BATCH,
    Repeatable,
    RunBatches,
    Scores,
    Step,
    TaskBatches,
    in_order,
    one_of_classes,
)


class Classification:
    """The task of most data sets and of the papers' tables; see `filtersmith.lab.tasks.task.Task`."""

    def load(self, options: DataOptions) -> Data:
        data = load(options.name, root=options.root, image_size=options.image_size, label=options.label)
        return with_limit(with_held_out(data, options.holdout), options.limit)

    def fingerprint(self, data: Data) -> dict[str, Any]:
        return fingerprint(data)

    def describe(self, data: Data) -> list[str]:
        images = f"{len(data.train):,} training and {len(data.test):,} test images"
        classes = plural(data.num_classes, "class", "classes")
        return [f"{images} of {data.image_size}x{data.image_size}, {classes}", *describe(data)]

    def facts(self, data: Data, options: ModelOptions | None = None) -> dict[str, Any]:
        """Classes, channels, size, and ``mean`` and ``std`` of the images, a number a channel in units of 0..1."""
        mean, std = channel_stats(data.train)
        return {
            "num_classes": data.num_classes,
            "in_channels": data.channels,
            "image_size": data.image_size,
            "mean": mean.tolist(),
            "std": std.tolist(),
        }

    def augments(self, data: Data) -> bool:
        return data.augment is not None

    def build(self, options: ModelOptions, facts: Mapping[str, Any]) -> nn.Module:
        return network_of(options, facts)

    def make(self, options: ModelOptions, facts: Mapping[str, Any]) -> tuple[nn.Module, Made]:
        if options.frozen:
            raise bad_option("model.frozen", True, "false for a classification, which would have nothing to train")
        return make(options, facts)

    def tried(
        self, network: nn.Module, options: ModelOptions, facts: Mapping[str, Any], device: torch.device
    ) -> tuple[Any, Any, Any, int]:
        size, classes = facts["image_size"], facts["num_classes"]
        images = torch.zeros(2, facts["in_channels"], size, size, device=device)
        try:
            outputs = network(images)
        except Exception as error:
            raise ValueError(
                f"model {options.name!r} cannot take images of {size}x{size} ({first_line(error)}); "
                "data.image_size resizes them"
            ) from error
        spare = logits_of(outputs, options, classes) - classes
        return images, outputs, torch.zeros(2, dtype=torch.int64, device=device), spare

    def batches(
        self, config: RunConfig, data: Data, facts: Mapping[str, Any], accelerator: Any, network: nn.Module
    ) -> RunBatches:
        size, workers = config.train.batch_size, config.train.workers
        plain = in_order(config, accelerator, facts["mean"], facts["std"])
        shuffled = replace(plain, augment=augmentation(config, data), shuffle=True)
        train = make_batches(data.train, shuffled, workers=workers)
        test = make_batches(data.test, replace(plain, batch_size=max(size, _least(data))), workers=workers)
        if data.held_out is None:
            return RunBatches(train, test, None)
        return RunBatches(train, test, Repeatable(make_batches(data.held_out, plain, workers=workers)))

    def step(self, network: nn.Module, inputs: Any, targets: Any, options: TrainOptions) -> Step:
        return one_of_classes(network(inputs), targets, options)

    def scores(self, network: nn.Module, batches: TaskBatches, accelerator: Any) -> Scores:
        sums = torch.zeros(3, device=accelerator.device, dtype=torch.float64)
        for images, labels in batches.epoch(0):
            if len(labels) == 0:  # what a last, very small batch leaves a process
                continue
            with accelerator.autocast():
                outputs = network(images).float()
            loss = F.cross_entropy(outputs, labels, reduction="sum")
            hits = (outputs.argmax(1) == labels).sum()
            sums += torch.stack([loss.double(), hits.double(), loss.new_tensor(len(labels)).double()])
        loss, correct, count = accelerator.reduce(sums, reduction="sum").tolist()
        return Scores(loss / count, correct / count)

    def pictures(self, network: nn.Module, data: Data, facts: Mapping[str, Any]) -> tuple[()]:
        return ()

    def exporting(self, facts: Mapping[str, Any]) -> Logits:
        return Logits(("images",), lambda batch: (random_images(facts, batch),))


CLASSIFICATION = Classification()


def augmentation(config: RunConfig, data: Data) -> Augment | None:
    """What training may do to the images: the set's own, or the part of it that is asked for."""
    asked, own = config.data.augment, data.augment
    on_disk = isinstance(data.train, FileSet)
    if asked == "reflect" and on_disk:
        raise bad_option("data.augment", asked, "true, color, mirror or false: images on disk are not padded")
    if asked == "color" and not on_disk:
        allowed = (
            f"true, mirror, reflect or false: images of up to {LARGE} pixels are in memory and keep their colours"
        )
        raise bad_option("data.augment", asked, allowed)
    if own is None or asked is False:
        return None
    if asked == "mirror":
        return replace(own, pad=0)
    return replace(own, reflect=asked == "reflect", color=asked == "color")


def _least(data: Data) -> int:
    """Images of a batch that is tested; large ones, as they take more memory, not so many."""
    side = max(LARGE, *data.test.height_width)
    return LEAST_TEST_BATCH * LARGE**2 // side**2
