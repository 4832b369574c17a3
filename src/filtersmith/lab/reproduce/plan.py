"""The runs that an arm and a seed need, each in its folder, those first that others need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from filtersmith.lab.generations import seed_of, taught, with_teacher
from filtersmith.lab.reproduce.arms import IMAGES, PRETRAINED, Arm, digest, in_short
from filtersmith.lab.reproduce.maths import maths_of
from filtersmith.lab.runs import Planned
from filtersmith.lab.training.folder import RunFolder
from filtersmith.methods import BASELINE
from filtersmith.methods.spelling import Spelled, read, write


@dataclass(frozen=True)
class Job:
    """A run of an arm, as the ledger will have it."""

    arm: Arm
    seed: int
    planned: Planned


@dataclass(frozen=True)
class Place:
    """Where runs stand, and on which data.

    Attributes:
        out: the folder of all runs.
        data: in place of the paper's set; ``None``: that itself.
        images: training images of ``data``.
        replaced: the sets in whose place it stands; ``None``: all.
    """

    out: Path
    data: str | None = None
    images: int | None = None
    replaced: tuple[str, ...] | None = None

    def stands_for(self, name: str) -> bool:
        """Whether other data stands in place of the paper's set."""
        return self.data is not None and (self.replaced is None or name in self.replaced)

    def name(self, papers: str) -> str:
        """The data on which rows on a paper's set are run."""
        return self.data if self.data is not None and self.stands_for(papers) else papers

    def images_of(self, arm: Arm) -> int:
        """How many training images there are."""
        return self.images if self.images is not None and self.stands_for(arm.data) else IMAGES[arm.data]

    def folder(self, arm: Arm, seed: int) -> RunFolder:
        """Of one run; another for each recipe, version of the mathematics, data set and precision."""
        spec, train = arm.spec(), arm.train
        key = digest([arm.key, maths_of(spec), self.name(arm.data), train.precision, train.compile])[:8]
        return RunFolder(self.out / f"{in_short(spec)}-{key}" / f"seed-{seed}")


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
    method, weights = arm.method, None
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
    config = arm.config(seed, place.name(arm.data), place.images_of(arm), method=method, weights=weights)
    return [*before, _job(arm, seed, Planned(config, place.folder(arm, seed), _label(arm), seed), before)]


def _generation(arm: Arm, seed: int, place: Place) -> list[Job]:
    before = jobs(replace(arm, generations=arm.generations - 1), seed, place)
    teacher = before[-1].planned.folder
    config = arm.config(
        seed_of(seed, arm.generations),
        place.name(arm.data),
        place.images_of(arm),
        method=taught(arm.method, str(teacher.path)),
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
