"""Detection: boxes around things in images, by torchvision's Faster R-CNN; average precision as COCO has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from filtersmith.common.options import bad_option, first_line
from filtersmith.lab.data import Augment, Batching
from filtersmith.lab.network import Made, fingerprint
from filtersmith.lab.recipe.config import DataOptions, ModelOptions, RunConfig, TrainOptions
from filtersmith.lab.recipe.origin import about
from filtersmith.lab.results.picture import Picture
from filtersmith.lab.tasks.detection import load, network
from filtersmith.lab.tasks.detection.batches import DetectionBatches
from filtersmith.lab.tasks.detection.detections import detect, losses, not_finite, total
from filtersmith.lab.tasks.detection.exporting import DetectorExporting, commonest_shape
from filtersmith.lab.tasks.detection.metric import AveragePrecision
from filtersmith.lab.tasks.detection.pictures import drawn
from filtersmith.lab.tasks.detection.records import DetectionData
from filtersmith.lab.tasks.task import RunBatches, Scores, Step, TaskBatches, check_frozen, in_order, spread
from filtersmith.lab.training.errors import RunFailed
from filtersmith.zoo import checkpoints

_TRIED = 320
"""Pixels a side of the images with which a network is tried, where images keep their size."""


class Detection:
    """See `filtersmith.lab.tasks.task.Task`. A network is one of `network.NAMES`."""

    def load(self, options: DataOptions) -> DetectionData:
        if options.label is not None:
            raise bad_option("data.label", options.label, "left out: boxes have their classes with them")
        if options.augment == "reflect":
            raise bad_option("data.augment", options.augment, "true, mirror (the same here), color or false")
        if options.holdout:
            raise bad_option("data.holdout", options.holdout, "0: methods that choose by data need classes of images")
        return load.load(options.name, image_size=options.image_size, limit=options.limit)

    def fingerprint(self, data: DetectionData) -> dict[str, Any]:
        return load.fingerprint(data)

    def describe(self, data: DetectionData) -> list[str]:
        return load.describe(data)

    def facts(self, data: DetectionData, options: ModelOptions | None = None) -> dict[str, Any]:
        """Classes by name, channels, the short side that images are scaled to (``None``: 800), and which norms the
        network has: those that its weights need."""
        weights = None if options is None or options.weights is None else checkpoints.read(options.weights)
        return {
            "num_classes": data.num_classes,
            "classes": list(data.classes),
            "in_channels": data.channels,
            "image_size": data.image_size,
            "shape": commonest_shape(data.train),
            "norm": network.norm_for(weights, frozen=options is not None and options.frozen),
        }

    def augments(self, data: DetectionData) -> bool:
        return True

    def build(self, options: ModelOptions, facts: Mapping[str, Any]) -> nn.Module:
        with about("model.name"):
            if options.small_images:
                raise bad_option("model.small_images", True, "false for a detector")
            return network.build(
                options.name,
                facts["num_classes"],
                image_size=facts["image_size"],
                norm=facts["norm"],
                trained=network.stages_of_head(options.name) if options.frozen else network.STAGES,
            )

    def make(self, options: ModelOptions, facts: Mapping[str, Any]) -> tuple[nn.Module, Made]:
        made, begun = self.build(options, facts), None
        if options.weights is not None:
            with about("model.weights"):
                try:
                    begun = network.begin(made, checkpoints.read(options.weights))
                except ValueError as error:
                    raise ValueError(f"weights {options.weights} for {options.name}: {error}") from error
        check_frozen(options, begun)
        return made, Made(options, fingerprint(options), begun)

    def tried(
        self, network: nn.Module, options: ModelOptions, facts: Mapping[str, Any], device: torch.device
    ) -> tuple[Any, Any, Any, int]:
        size = facts["image_size"] or _TRIED
        images = [torch.zeros(3, size, size, device=device) for _ in range(2)]
        targets = [
            {
                "boxes": torch.tensor([[0.0, 0.0, size, size]], device=device),
                "labels": torch.ones(1, dtype=torch.int64, device=device),
            }
            for _ in images
        ]
        try:
            outputs = detect(network, images)
        except Exception as error:
            raise ValueError(
                f"model {options.name!r} cannot take images of {size}x{size} ({first_line(error)})"
            ) from error
        return images, outputs, targets, 0

    def batches(
        self, config: RunConfig, data: DetectionData, facts: Mapping[str, Any], accelerator: Any, network: nn.Module
    ) -> RunBatches:
        if config.train.label_smoothing:
            raise bad_option("train.label_smoothing", config.train.label_smoothing, "0 for a detector")
        plain = in_order(config, accelerator, (0.0,) * 3, (1.0,) * 3)  # detectors normalise themselves
        wanted = config.data.augment
        mirrored = Augment(0, flip=True, color=wanted == "color") if wanted else None
        shuffled = replace(plain, augment=mirrored, shuffle=True)
        workers = config.train.workers
        train = DetectionBatches(data.train, shuffled, train=True, workers=workers)
        return RunBatches(train, DetectionBatches(data.test, plain, train=False, workers=workers), None)

    def step(self, network: nn.Module, inputs: Any, targets: Any, options: TrainOptions) -> Step:
        """torchvision's losses are means over the images."""
        parts = losses(network, inputs, targets)
        loss = total(parts)
        if inputs[0].device.type == "cpu" and (wrong := not_finite(parts)):  # elsewhere to ask is to wait
            raise RunFailed(f"{wrong} (train.lr={options.lr:g}): a smaller train.lr or train.warmup_epochs may help")
        return Step(parts, loss * len(inputs), None)

    def scores(self, network: nn.Module, batches: TaskBatches, accelerator: Any) -> Scores:
        metric = AveragePrecision()
        for images, targets in batches.epoch(0):
            with accelerator.autocast():
                found = detect(network, images)
            metric.add(found, targets)
        more = metric.result()
        return Scores(None, more.pop("AP"), more)

    def pictures(self, network: nn.Module, data: DetectionData, facts: Mapping[str, Any]) -> list[Picture]:
        """Images of the test set with the boxes that are labelled and those that are found."""
        chosen = data.test.part(spread(len(data.test)))
        plain = Batching(len(chosen), torch.device("cpu"), torch.zeros(3), torch.ones(3))
        images, targets = next(iter(DetectionBatches(chosen, plain, train=False, workers=0).epoch(0)))
        found = detect(network, images)
        names = [file.name for file in chosen.files]
        return drawn(images, targets, found, data.classes, most=len(images), names=names)

    def exporting(self, facts: Mapping[str, Any]) -> DetectorExporting:
        return DetectorExporting(facts)


DETECTION = Detection()
