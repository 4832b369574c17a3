"""What is trained for a row of a table: network, data, schedule, methods, and who teaches or is trained before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from math import floor
from typing import Any

from filtersmith.common.options import bad_option, number
from filtersmith.lab.papers.published import Recipe, Row, Table, paper, recipe_of, row_named
from filtersmith.lab.papers.sets import SETS, SMALL
from filtersmith.lab.recipe.arms import slug
from filtersmith.lab.recipe.config import DataOptions, ModelOptions, RunConfig, TrainOptions, check
from filtersmith.lab.tasks.names import CLASSIFICATION
from filtersmith.methods import BASELINE
from filtersmith.methods.lifecycle import of_class
from filtersmith.methods.spelling import Spelled, read, write

PRETRAINED = 5
"""Networks that are trained beforehand for KFLO's transfer (Table 5)."""
IMAGE_SIZE = SMALL
"""Pixels a side of images, unless a recipe has another number."""
IMAGES = {name: one.train for name, one in SETS.items()} | {"digits": 1_437}
"""Training images (questions) of the papers' data sets, and of the digits."""
_OURS = ("precision", "compile", "channels_last", "device", "workers", "tensorboard", "deterministic")
"""Options of the training that belong to the machine and not to the recipe."""

_LATER: Mapping[str, Any] = {"audit": False}
"""Options of the training that came after the first runs of the ledger -> the value that means what was before. At it
they are left out of a spec, so that the keys of those runs stay."""


@dataclass(frozen=True)
class Arm:
    """What is trained with each seed for a row.

    Attributes:
        network: of the zoo.
        data: the paper's data set, as the laboratory calls it.
        data_options: what of it, and how augmented.
        train: the schedule, at the scale that was asked for.
        method: as `compare` takes it; without a teacher's name.
        generations: networks one after the other, each taught by the one before.
        teacher: what is trained before and teaches it.
        begins_with: what is trained before, of which ``begins_count`` networks are what it begins with.
        pretrained: what is trained before with the same seed, and is its backbone when it begins.
        scratch: whether it would have had one, which was left out.
        frozen: whether that stays as it is.
    """

    network: str
    data: str
    data_options: Mapping[str, Any] = field(hash=False)
    train: TrainOptions
    method: str
    generations: int = 1
    teacher: Arm | None = None
    begins_with: Arm | None = None
    begins_count: int = 0
    pretrained: Arm | None = None
    scratch: bool = False
    frozen: bool = False

    @property
    def task(self) -> str:
        """What is trained on the paper's set."""
        return SETS[self.data].task if self.data in SETS else CLASSIFICATION

    @property
    def image_size(self) -> int:
        """Pixels a side that images are brought to."""
        size: int = self.data_options.get("image_size", IMAGE_SIZE)
        return size

    def spec(self) -> dict[str, Any]:
        """All that decides what is measured, except the data themselves, as plain values."""
        train = self.train.model_dump(mode="json", exclude=set(_OURS))
        train = {name: value for name, value in train.items() if _LATER.get(name, ...) != value}
        found: dict[str, Any] = {"network": self.network, "data": {"name": self.data, **self.data_options}}
        found |= {"train": train, "method": self.method, "generations": self.generations}
        for name, before in (("teacher", self.teacher), ("begins_with", self.begins_with)):
            found[name] = None if before is None else before.spec()
        later: dict[str, Any] = {} if self.pretrained is None else {"pretrained": self.pretrained.spec()}
        later |= {name: True for name, one in (("from_scratch", self.scratch), ("frozen", self.frozen)) if one}
        return {**found, "begins_count": self.begins_count, **later}

    @cached_property
    def key(self) -> str:
        """The `spec` in a few letters: equal of arms that are the same, whatever table they are of."""
        return digest(self.spec())

    def all_before(self) -> tuple[Arm, ...]:
        """What has to be trained before, of other arms."""
        first = replace(self, generations=1) if self.generations > 1 else None
        return tuple(one for one in (self.teacher, self.begins_with, self.pretrained, first) if one is not None)

    def from_scratch(self) -> Arm:
        """The same without a backbone that is trained before: what its methods were acts on the training itself.

        Their phases are left open, as this one has other epochs.
        """
        before = self.pretrained
        if before is None:
            return self
        method = left_open(before.method) if self.method == BASELINE else self.method
        return replace(self, pretrained=None, scratch=True, frozen=False, method=method)

    def config(
        self,
        seed: int,
        data: str,
        images: int,
        *,
        method: str | None = None,
        weights: str | None = None,
        image_size: int | None = None,
        in_memory: bool = False,
    ) -> RunConfig:
        """The configuration of a run on the data called ``data``, which has so many training images.

        Numbers of images are as large a share of them as they are of the paper's. ``image_size`` stands in place of
        the recipe's. Colours are changed only of images that are read from disk as training needs them.
        """
        augment = self.data_options["augment"]
        share = images / IMAGES[self.data]
        counts = {name: self.data_options[name] for name in ("limit", "holdout")}
        options = {name: value and max(1, round(value * share)) for name, value in counts.items()}
        return RunConfig(
            task=self.task,
            data=DataOptions(
                name=data,
                image_size=image_size or self.image_size,
                augment=True if augment == "color" and in_memory else augment,
                **options,
            ),
            model=ModelOptions(name=self.network, weights=weights, frozen=self.frozen),
            train=self.train,
            method=self.method if method is None else method,
            seed=seed,
        )


def in_short(spec: Mapping[str, Any]) -> str:
    """Method and network, for the names of files and folders."""
    return slug(f"{spec['method']}@{spec['network']}")[:60].rstrip("-.@")


def digest(values: Any) -> str:
    """Plain values in sixteen letters."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def arm_of(row: Row, table: Table, scale: float = 1.0, **ours: Any) -> Arm:
    """What is trained for a row.

    Args:
        row: one that is trained.
        table: its table.
        scale: how much of every phase, in (0, 1].
        ours: options of the machine: ``precision``, ``compile``.

    Raises:
        ValueError: a scale out of range.
    """
    scale = number("scale", scale, lambda x: 0 < x <= 1, "a number in (0, 1]")
    recipe = recipe_of(row, table)
    train = train_options(recipe, scale, ours)
    teacher = begins = None
    if row.teacher:
        network, _, name = row.teacher.partition(" ")
        teacher = _plain(network, row.data, paper(table.paper).recipe(name), scale, ours)
    if row.begins_with:
        begins = _plain(row.network, "cifar10", paper(table.paper).recipe("kflo-wrn"), scale, ours)
    return Arm(
        row.network,
        row.data,
        {**_data_options(recipe), "holdout": row.holdout},
        train,
        scaled(row.run, scale, train.epochs),
        generations=row.generations,
        teacher=teacher,
        begins_with=begins,
        begins_count=row.begins_with,
        pretrained=_pretrained(row, scale, ours),
        frozen=recipe.option("model.frozen", False),
    )


def _pretrained(row: Row, scale: float, ours: Mapping[str, Any]) -> Arm | None:
    if not row.pretrained:
        return None
    table, other = row_named(row.pretrained)
    return arm_of(other, table, scale, **ours)


@cache
def key_of(row: Row, table: Table, scale: float = 1.0, *, open_lengths: bool = False) -> str:
    """The key of what is trained for a row: a table asks for it once for every setting and page.

    With ``open_lengths`` that of the same without the lengths of its phases.
    """
    arm = arm_of(row, table, scale)
    return (replace(arm, method=left_open(arm.method)) if open_lengths else arm).key


@cache
def keys_of(row: Row, table: Table, scale: float = 1.0) -> tuple[str, ...]:
    """The key of what is trained for a row, and that of the same without a backbone that is trained before."""
    arm = arm_of(row, table, scale)
    return tuple(dict.fromkeys([key_of(row, table, scale), arm.from_scratch().key]))


def alike(row: Row, table: Table, scale: float) -> tuple[int, ...]:
    """The other rows of a table that a row cannot be told from at a scale, and can at the full schedule.

    Those that are the same run. Where its phases would be shorter than an epoch their lengths are left open: then
    also those that differ in these lengths alone, for it is no longer the shortest of them.
    """
    if scale == 1:
        return ()
    short, full = key_of(row, table, scale), key_of(row, table)
    lost = left_open(row.run) != row.run and short == key_of(row, table, scale, open_lengths=True)
    others = (one for one in table.trained() if one is not row and key_of(one, table) != full)
    return tuple(one.n for one in others if key_of(one, table, scale, open_lengths=lost) == short)


def _plain(network: str, data: str, recipe: Recipe, scale: float, ours: Mapping[str, Any]) -> Arm:
    options = {**_data_options(recipe), "holdout": 0}
    return Arm(network, data, options, train_options(recipe, scale, ours), "baseline")


def _data_options(recipe: Recipe) -> dict[str, Any]:
    found = {"augment": recipe.option("data.augment", True), "limit": recipe.option("data.limit")}
    size = recipe.option("data.image_size", IMAGE_SIZE)
    return found if size == IMAGE_SIZE else {**found, "image_size": size}


def train_options(recipe: Recipe, scale: float, ours: Mapping[str, Any]) -> TrainOptions:
    """The schedule of a recipe, every length of it times ``scale``.

    Milestones become fractions of a phase, as flows start the schedule anew in each.
    """
    values = {
        choice.name.removeprefix("train."): choice.value
        for choice in recipe.choices
        if choice.name.startswith("train.")
    }
    full = values["epochs"]
    values["epochs"] = max(1, round(full * scale))
    phase = full / recipe.option("phases", 1)
    if "milestones" in values:
        values["milestones"] = [round(milestone / phase - 1e-6, 6) for milestone in values["milestones"]]
    if "step_epochs" in values:
        values["step_epochs"] = max(1, round(values["step_epochs"] * scale))
        if values["schedule"] == "step" and values["step_epochs"] >= values["epochs"]:
            values["schedule"] = "constant"  # so short that no drop comes
    if "warmup_epochs" in values:
        values["warmup_epochs"] = round(values["warmup_epochs"] * scale, 6)
    config = check(RunConfig, {"train": {**values, **ours}})
    return config.train


def scaled(method: str, scale: float, epochs: int) -> str:
    """The text of methods with every phase of theirs times ``scale``.

    Where a phase would be shorter than an epoch, the lengths are left open: the method places its phases itself.

    >>> scaled("repr(s1=20,s2=10,cycles=3)+ema", 0.1, 10)
    'repr(s1=2,s2=1,cycles=3)+ema'
    >>> scaled("repr(s1=20,s2=10,cycles=3,rank=l2)", 0.02, 2)
    'repr(rank=l2)'
    """
    if scale == 1:
        return method
    return write([_scaled(one, scale, epochs) for one in read(method)])


def left_open(method: str) -> str:
    """The text of methods without the lengths and numbers of their phases.

    >>> left_open("repr(s1=20,s2=10,cycles=3,rank=l2)+ema")
    'repr(rank=l2)+ema'
    """
    return write([_left_open(one) if _lengths(one) else one for one in read(method)])


def _lengths(one: Spelled) -> dict[str, Any]:
    counted = of_class(one.record.cls, "in_epochs", ())
    return {name: value for name, value in one.options.items() if name in counted}


def _left_open(one: Spelled) -> Spelled:
    gone = {*of_class(one.record.cls, "in_epochs", ()), "cycles"}
    return Spelled(one.name, {name: value for name, value in one.options.items() if name not in gone})


def _scaled(one: Spelled, scale: float, epochs: int) -> Spelled:
    shorter = {name: floor(value * scale + 1e-9) for name, value in _lengths(one).items()}
    if not shorter:
        return one
    if min(shorter.values()) < 1 or sum(shorter.values()) >= epochs:
        return _left_open(one)
    return Spelled(one.name, {**one.options, **shorter})


def check_scale(value: str) -> float:
    """What ``--scale`` says."""
    try:
        return number("scale", float(value), lambda x: 0 < x <= 1, "a number in (0, 1]")
    except ValueError:
        raise bad_option("scale", value, "a number in (0, 1]") from None
