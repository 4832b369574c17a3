"""The runs that an arm and a seed need, each in its folder, those first that others need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from filtersmith.lab.generations import seed_of, taught, with_teacher
from filtersmith.lab.reproduce.arms import IMAGES, PRETRAINED, Arm, digest, in_short
from filtersmith.lab.reproduce.instead import Instead
from filtersmith.lab.reproduce.maths import maths_of
from filtersmith.lab.runs import Planned
from filtersmith.lab.training.folder import RunFolder
from filtersmith.methods import BASELINE
from filtersmith.methods.spelling import Spelled, read, write


@dataclass(frozen=True)
class Job:
    """A run of an arm as it is trained, and as the ledger will have it."""

    arm: Arm
    seed: int
    planned: Planned


@dataclass(frozen=True)
class Place:
    """Where runs stand, and on which data.

    Attributes:
        out: the folder of all runs.
        instead: the data that stands in place of the papers' sets.
        images: set -> training images of the data in its place.
        in_memory: the sets in whose place stands data that is held in memory.
    """

    out: Path
    instead: Instead = field(default_factory=Instead)
    images: Mapping[str, int] = field(default_factory=dict, hash=False)
    in_memory: frozenset[str] = frozenset()

    def name(self, papers: str) -> str:
        """The data on which rows on a paper's set are run."""
        return self.instead.of(papers) or papers

    def images_of(self, arm: Arm) -> int:
        """How many training images there are."""
        return self.images.get(arm.data, IMAGES[arm.data])

    def from_scratch(self, arm: Arm) -> bool:
        """Whether a backbone is not trained before: its row's data was named, and that of the backbone was not."""
        before = arm.pretrained
        return before is not None and self.instead.of(arm.data) is not None and self.instead.of(before.data) is None

    def as_run(self, arm: Arm) -> Arm:
        """What is really trained for an arm."""
        return arm.from_scratch() if self.from_scratch(arm) else arm

    def folder(self, arm: Arm, seed: int) -> RunFolder:
        """Of one run; another for each recipe, version of the mathematics, data set and precision."""
        spec, train, pixels = arm.spec(), arm.train, self.instead.image_size
        parts = [arm.key, maths_of(spec), self.name(arm.data), train.precision, train.compile]
        parts += [] if pixels is None else [pixels]
        parts += [] if arm.pretrained is None else [self.name(arm.pretrained.data)]
        return RunFolder(self.out / f"{in_short(spec)}-{digest(parts)[:8]}" / f"seed-{seed}")


def needed(runs: Iterable[tuple[Arm, int]], place: Place) -> list[Job]:
    """The jobs of arms with their seeds, each once, those first that others need."""
    ordered: dict[tuple[str, int], Job] = {}
    for arm, seed in runs:
        for job in jobs(arm, seed, place):
            ordered.setdefault((job.arm.key, job.seed), job)
    return sorted(ordered.values(), key=lambda job: job.planned.stage)


def jobs(arm: Arm, seed: int, place: Place) -> list[Job]:
    """The run of an arm and a seed, behind all that it needs."""
    if arm.generations > 1:
        return _generation(arm, seed, place)
    before: list[Job] = []
    run = place.as_run(arm)
    method, weights = run.method, None
    if run.pretrained is not None:
        before += jobs(run.pretrained, seed, place)
        weights = str(before[-1].planned.folder.model)
    if arm.teacher is not None:
        before += jobs(arm.teacher, 0, place)  # one teacher for all
        method = with_teacher(method, str(before[-1].planned.folder.path))
    if arm.begins_with is not None:
        networks = [jobs(arm.begins_with, (seed + k) % PRETRAINED, place) for k in range(arm.begins_count)]
        before += [job for one in networks for job in one]
        folders = [one[-1].planned.folder for one in networks]
        if method == BASELINE:
            weights = str(folders[0].model)
        else:
            method = stacked(method, [str(folder.path) for folder in folders])
    config = run.config(
        seed,
        place.name(run.data),
        place.images_of(run),
        method=method,
        weights=weights,
        image_size=place.instead.image_size,
        in_memory=run.data in place.in_memory,
    )
    return [*before, _job(run, seed, Planned(config, place.folder(run, seed), _label(run), seed), before)]


def _generation(arm: Arm, seed: int, place: Place) -> list[Job]:
    before = jobs(replace(arm, generations=arm.generations - 1), seed, place)
    teacher = before[-1].planned.folder
    config = arm.config(
        seed_of(seed, arm.generations),
        place.name(arm.data),
        place.images_of(arm),
        method=taught(arm.method, str(teacher.path)),
        image_size=place.instead.image_size,
        in_memory=arm.data in place.in_memory,
    )
    label = f"{_label(arm)} generation {arm.generations}"
    return [*before, _job(arm, seed, Planned(config, place.folder(arm, seed), label, seed), before)]


def _job(arm: Arm, seed: int, planned: Planned, before: list[Job]) -> Job:
    needs = tuple(job.planned.folder for job in before)
    stage = 1 + max((job.planned.stage for job in before), default=0)
    return Job(arm, seed, replace(planned, stage=stage, needs=needs))


def _label(arm: Arm) -> str:
    return f"{arm.method}@{arm.network}"


def stacked(method: str, networks: list[str]) -> str:
    """KFLO's text with the networks whose kernels it begins with; their number is its width."""
    (one,) = read(method)
    options = {name: value for name, value in one.options.items() if name != "width"}
    return write([Spelled(one.name, {**options, "networks": networks})])
