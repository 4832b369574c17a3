"""Visual question answering: an LSTM reads the question, a CNN the image; VQA's own accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.common.options import bad_option, first_line
from filtersmith.lab.data import Batching
from filtersmith.lab.data.sets import place
from filtersmith.lab.network import Made, make, network_of
from filtersmith.lab.recipe.config import DataOptions, ModelOptions, RunConfig, TrainOptions
from filtersmith.lab.recipe.origin import about
from filtersmith.lab.results.picture import Picture
from filtersmith.lab.tasks.exporting import Logits
from filtersmith.lab.tasks.task import (
    LEAST_TEST_BATCH,
    Repeatable,
    RunBatches,
    Scores,
    Step,
    TaskBatches,
    check_frozen,
    in_order,
    one_of_classes,
    spread,
)
from filtersmith.lab.tasks.vqa import about as told
from filtersmith.lab.tasks.vqa import layout
from filtersmith.lab.tasks.vqa.answers import by_type
from filtersmith.lab.tasks.vqa.batches import QuestionBatches, image_stats, load_images
from filtersmith.lab.tasks.vqa.exporting import exporting
from filtersmith.lab.tasks.vqa.features import backbone_digest, cached_features
from filtersmith.lab.tasks.vqa.network import DeeperLSTM, without_classifier
from filtersmith.lab.tasks.vqa.pictures import asked
from filtersmith.lab.tasks.vqa.records import QuestionSet, VqaData

ENOUGH = 2**30
"""Bytes of images whose mean and deviation stand for those of more."""


@lru_cache(maxsize=3)
def _pictures(files: tuple[Path, ...], size: int) -> Tensor:
    """The images of a split, once for all runs of a call."""
    return load_images(files, size)


class Vqa:
    """See `filtersmith.lab.tasks.task.Task`. ``model.name`` is the CNN, which is trained with the rest or frozen."""

    def load(self, options: DataOptions) -> VqaData:
        if options.label is not None:
            raise bad_option("data.label", options.label, "left out: questions have their answers with them")
        if options.augment != True:  # noqa: E712  (a text is no truth here)
            raise bad_option(
                "data.augment", options.augment, "left out: images that are asked about stay as they are"
            )
        data = layout.load(options.name, image_size=options.image_size, limit=options.limit)
        return layout.with_held_out(data, options.holdout)

    def fingerprint(self, data: VqaData) -> dict[str, Any]:
        return told.fingerprint(data)

    def describe(self, data: VqaData) -> list[str]:
        counts = f"{len(data.train):,} training and {len(data.test):,} test questions"
        return [f"{counts} about images of {data.image_size}x{data.image_size}", *told.describe(data)]

    def facts(self, data: VqaData, options: ModelOptions | None = None) -> dict[str, Any]:
        """Answers and words by name, longest question, channels and size of the images, their mean and deviation."""
        files = data.train.files
        if len(files) > (enough := ENOUGH // (3 * data.image_size**2)):
            files = tuple(files[number] for number in spread(len(files), max(1, enough)))
        mean, std = image_stats(_pictures(files, data.image_size))
        return {
            "num_classes": data.num_classes,
            "answers": list(data.answers),
            "words": list(data.words),
            "vocabulary": data.vocabulary,
            "longest": data.train.longest,
            "in_channels": data.channels,
            "image_size": data.image_size,
            "mean": mean.tolist(),
            "std": std.tolist(),
        }

    def augments(self, data: VqaData) -> bool:
        return False

    def build(self, options: ModelOptions, facts: Mapping[str, Any]) -> nn.Module:
        return self._around(network_of(options, facts), facts)

    def make(self, options: ModelOptions, facts: Mapping[str, Any]) -> tuple[nn.Module, Made]:
        """The weights of a file are those of the CNN. One that is frozen is not called: its features are `given`."""
        cnn, made = make(options, facts)
        network = self._around(cnn, facts)
        check_frozen(options, made.fit)
        if options.frozen:
            network.cnn.requires_grad_(False)
            network.given = True
        return network, made

    def _around(self, cnn: nn.Module, facts: Mapping[str, Any]) -> DeeperLSTM:
        with about("model.name"):
            features, width = without_classifier(cnn, facts["image_size"], channels=facts["in_channels"])
        return DeeperLSTM(features, width, facts["vocabulary"], facts["num_classes"])

    def tried(
        self, network: nn.Module, options: ModelOptions, facts: Mapping[str, Any], device: torch.device
    ) -> tuple[Any, Any, Any, int]:
        size = facts["image_size"]
        assert isinstance(network, DeeperLSTM)
        shape = (network.image.in_features,) if network.given else (facts["in_channels"], size, size)
        images = torch.zeros(2, *shape, device=device)
        tokens = torch.ones(2, facts["longest"], dtype=torch.int64, device=device)
        inputs = images, tokens, torch.full((2,), facts["longest"], device=device)
        try:
            outputs = network(*inputs)
        except Exception as error:
            raise ValueError(
                f"model {options.name!r} cannot take images of {size}x{size} ({first_line(error)})"
            ) from error
        return inputs, outputs, torch.zeros(2, dtype=torch.int64, device=device), 0

    def batches(
        self, config: RunConfig, data: VqaData, facts: Mapping[str, Any], accelerator: Any, network: nn.Module
    ) -> RunBatches:
        size = config.train.batch_size
        plain = in_order(config, accelerator, facts["mean"], facts["std"])
        assert isinstance(network, DeeperLSTM)
        features = self._features(config, facts, accelerator, network.cnn) if network.given else None

        def of(part: QuestionSet, batching: Batching, training: bool) -> QuestionBatches:
            images = _pictures(part.files, data.image_size) if features is None else features(part.files)
            return QuestionBatches(part, images, batching, training=training)

        test = TestQuestions(of(data.test, replace(plain, batch_size=max(size, LEAST_TEST_BATCH)), False), data)
        train = of(data.train, replace(plain, shuffle=True), True)
        if data.held_out is None:
            return RunBatches(train, test, None)
        return RunBatches(train, test, Repeatable(of(data.held_out, plain, True)))

    def _features(
        self, config: RunConfig, facts: Mapping[str, Any], accelerator: Any, cnn: nn.Module
    ) -> Callable[[tuple[Path, ...]], Tensor]:
        """What the frozen CNN gives of images, by file; made by the first process, and read by the others."""
        known, folder = backbone_digest(cnn), place(config.data.root) / "features"

        def of(files: tuple[Path, ...]) -> Tensor:
            with accelerator.main_process_first():
                return cached_features(
                    files,
                    cnn,
                    known,
                    folder,
                    image_size=facts["image_size"],
                    mean=facts["mean"],
                    std=facts["std"],
                    device=accelerator.device,
                )

        return of

    def step(self, network: nn.Module, inputs: Any, targets: Any, options: TrainOptions) -> Step:
        return one_of_classes(network(*inputs), targets, options)

    def scores(self, network: nn.Module, batches: TaskBatches, accelerator: Any) -> Scores:
        assert isinstance(batches, TestQuestions)
        losses = torch.zeros(2, device=accelerator.device, dtype=torch.float64)
        chosen = torch.full((len(batches.questions),), -1, device=accelerator.device)
        for inputs, (labels, rows) in batches.epoch(0):
            if len(rows) == 0:
                continue
            with accelerator.autocast():
                outputs = network(*inputs).float()
            known = labels >= 0
            loss = F.cross_entropy(outputs[known], labels[known], reduction="sum")
            losses += torch.stack([loss.double(), known.sum().double()])
            chosen[rows] = outputs.argmax(1)
        losses = accelerator.reduce(losses, reduction="sum")
        if accelerator.num_processes > 1:  # each has answered its own questions
            torch.distributed.all_reduce(chosen, torch.distributed.ReduceOp.MAX)
        found = batches.scored(chosen.tolist())
        return Scores(float(losses[0] / losses[1]) if losses[1] else None, found.pop("all"), found)

    def pictures(self, network: nn.Module, data: VqaData, facts: Mapping[str, Any]) -> list[Picture]:
        """Questions of the test set with their images, and what the network answers."""
        chosen = data.test.part(spread(len(data.test)))
        mean, std = torch.tensor(facts["mean"]), torch.tensor(facts["std"])
        images = load_images(chosen.files, data.image_size)
        plain = Batching(len(chosen), torch.device("cpu"), mean, std)
        batches = QuestionBatches(chosen, images, plain, training=False)
        return asked(network, batches, chosen, images, data.words, data.answers)

    def exporting(self, facts: Mapping[str, Any]) -> Logits:
        return exporting(facts)


class TestQuestions:
    """The batches of the questions that are tested, and what answers to them are worth."""

    __test__ = False  # for pytest

    def __init__(self, batches: QuestionBatches, data: VqaData) -> None:
        self._batches = batches
        self.questions: QuestionSet = data.test
        self._answers = data.answers

    @property
    def global_sizes(self) -> Sequence[int]:
        return self._batches.global_sizes

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, number: int, start: int = 0) -> Any:
        return self._batches.epoch(number, start)

    def scored(self, chosen: Sequence[int]) -> dict[str, float]:
        """Accuracy of all questions and of each answer type, of the answers with these numbers."""
        words = [self._answers[number] for number in chosen]
        return by_type(words, self.questions.answers, self.questions.kinds)


VQA = Vqa()
