"""Recipes: what to train on what and how, from defaults, a YAML file, command-line options and ``--set``.

Later ones win. Every option is checked when it is read; an unknown or impossible one is a one-line ``ValueError``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from filtersmith.common.options import unknown_name
from filtersmith.lab.recipe.earlier import with_averages_as_methods
from filtersmith.lab.recipe.origin import OptionError, Origins, about
from filtersmith.lab.recipe.packaged import recipe_names, recipe_text
from filtersmith.lab.recipe.strict_yaml import read, read_value, write
from filtersmith.lab.recipe.values import number, shortened, shown, truth, truth_or, whole
from filtersmith.lab.tasks.names import CLASSIFICATION, TASKS, info_of

Positive = Annotated[int, whole(1)]
NotNegative = Annotated[int, whole(0)]
BelowOne = Annotated[float, number(lambda x: 0 <= x < 1, "a number from 0 to below 1")]
AboveZero = Annotated[float, number(lambda x: x > 0, "a number above 0")]
AtLeastZero = Annotated[float, number(lambda x: x >= 0, "a number of at least 0")]
Gamma = Annotated[float, number(lambda x: 0 < x <= 1, "a number above 0 and at most 1")]
Flag = Annotated[bool, truth]
Augmentation = Annotated[bool | Literal["mirror", "reflect", "color"], truth_or("mirror", "reflect", "color")]
Seed = Annotated[int, whole(0, 2**32 - 1)]  # what NumPy's generator takes


class _Options(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class DataOptions(_Options):
    """Which images, and what training may do to them."""

    name: str = "digits"
    root: str | None = None
    """Folder of cifar10, cifar100 and svhn; default: the environment's FILTERSMITH_DATA, else ``data``."""
    image_size: Annotated[int, whole(1, 65_535)] | None = None
    """Resize the short side to this many pixels and crop the centre; default: as they are."""
    label: str | None = None
    """Column of the labels in parquet (hf:PATH_OR_ID); default: the one that is certain."""
    augment: Augmentation = True
    """The set's own augmentation (crops and mirror images for photographs, none for digits); false: none; mirror:
    mirror images alone; reflect: crops after padding with what is at the edge, mirrored, in place of black; color:
    brightness, contrast, saturation and lighting, too, of images on disk."""
    holdout: NotNegative = 0
    """Training images that no method trains on, for those that choose by data: repr(rank=oracle)."""
    limit: Positive | None = None
    """Train on so many images only, of each class alike; default: on all of them."""


class ModelOptions(_Options):
    """Which network."""

    name: str = "vanilla"
    small_images: Flag = False
    """Fit the stem of a timm or torchvision network to small images."""
    weights: str | None = None
    """File of weights to begin with (safetensors, or a state dict of torch.save); default: drawn by the seed."""
    frozen: Flag = False
    """A detector's backbone, and the CNN of questions, are not trained; the CNN's features are kept on disk."""


class TrainOptions(_Options):
    """How to train, the same for every method of a comparison."""

    epochs: Positive = 30
    """All epochs of a run; a flow divides them among its phases."""
    batch_size: Positive = 128
    """Images per step, over all processes."""
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"] = "sgd"
    lr: AboveZero = 0.1
    bias_lr: AboveZero = 1.0
    """Learning rate of biases, as a multiple of lr."""
    momentum: BelowOne = 0.9
    """Of sgd and rmsprop."""
    nesterov: Flag = False
    weight_decay: AtLeastZero = 1e-4
    schedule: Literal["constant", "step", "multistep", "cosine", "cyclic"] = "cosine"
    milestones: tuple[AboveZero, ...] = (0.5, 0.75)
    """Of multistep, where the rate is multiplied by gamma: epochs, or fractions of all if below 1."""
    step_epochs: Positive = 30
    """Of step: epochs between two drops. Of cyclic: epochs of one cycle."""
    gamma: Gamma = 0.1
    """Factor of one drop (step, multistep)."""
    lr_min: AtLeastZero = 0.0
    """Lowest rate of cosine and cyclic."""
    warmup_epochs: AtLeastZero = 0.0
    """Linear rise from zero at the start of each phase."""
    label_smoothing: BelowOne = 0.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: Flag = False
    channels_last: Flag = True
    """Memory format of the network and its images; false: torch's own, which is slower."""
    deterministic: Flag = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: NotNegative = 2
    """Processes that read image files too large to hold in memory."""
    tensorboard: Flag = False
    audit: Flag = False
    """Record after each epoch how much filters overlap, their rank and how many are dead."""

    @model_validator(mode="after")
    def _fits(self) -> TrainOptions:
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError(f"nesterov needs sgd with momentum, got {self.optimizer} with momentum {self.momentum}")
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min must be at most lr = {self.lr}, got {self.lr_min}")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs must be below epochs = {self.epochs}, got {self.warmup_epochs}")
        return self


_MOST_SEEDS = 10_000


def _as_seeds(value: Any) -> Any:
    """A number of seeds means so many, from 0."""
    if isinstance(value, (list, tuple)):
        return value
    count = int(value) if re.fullmatch("[1-9][0-9]{0,8}", str(value)) else 0
    if not 1 <= count <= _MOST_SEEDS:
        raise ValueError(f"must be a number from 1 to {_MOST_SEEDS:,} or a list, got {shown(value)}")
    return tuple(range(count))


def _known_task(value: str) -> str:
    info_of(value)
    return value


class Recipe(_Options):
    """What a run and a comparison have in common."""

    task: Annotated[str, AfterValidator(_known_task)] = CLASSIFICATION
    """What is trained; `filtersmith list tasks` has them, and what is else where nothing is said."""
    data: DataOptions = DataOptions()
    model: ModelOptions = ModelOptions()
    train: TrainOptions = TrainOptions()


SECTIONS = ("data", "model", "train")
"""The fields of a recipe that have options of their own."""


class RunConfig(Recipe):
    """One run: one method, one seed."""

    method: str = "baseline"
    seed: Seed = 0


class CompareConfig(Recipe):
    """A comparison: every method with every seed; ``METHOD@NETWORK`` is one on another network than the model's."""

    methods: Annotated[tuple[str, ...], Field(min_length=1)] = ("baseline", "wau", "asa")
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_as_seeds), Field(min_length=1)] = (0, 1, 2)
    generations: Positive = 1
    """Networks trained one after the other, each taught by the one before (born-again networks)."""

    def run_config(self, method: str, seed: int, network: str | None = None) -> RunConfig:
        """The configuration of one run, on ``network`` in place of the comparison's own where one is named."""
        model = self.model if network is None else self.model.model_copy(update={"name": network})
        return RunConfig(task=self.task, data=self.data, model=model, train=self.train, method=method, seed=seed)


Config = TypeVar("Config", RunConfig, CompareConfig)


def merge(
    kind: type[Config],
    *,
    recipe: str | None = None,
    options: Mapping[str, Any] | None = None,
    assignments: Iterable[str] = (),
    origins: Origins | None = None,
) -> Config:
    """Defaults, then the recipe, then ``options`` that are not ``None`` (dotted names), then ``--set`` assignments.

    Raises ``ValueError`` in one line that names the option, its value and what is allowed. ``origins`` learns where
    each value came from, and can say so of the error.
    """
    origins = origins or Origins()
    values = {}
    if recipe is not None:
        with about("recipe"):
            origins.record("recipe", origins.typed("recipe"))
            values = _of_command(kind, recipe, read_recipe(recipe))
    options, assignments = options or {}, list(assignments)
    merged = kind().model_dump(mode="json")
    for name, value in _defaults_of(values, options, assignments).items():
        _put(kind, merged, name, value)
    if recipe is not None:
        for name, value in values.items():
            _put(kind, merged, name, value)
            origins.record(name, f"recipe {recipe}", value)
    for name, value in options.items():
        if value is not None:
            _put(kind, merged, name, list(value) if isinstance(value, tuple) else value)
            origins.record(name, origins.typed(name))
    for assignment in assignments:
        name, value = _read_assignment(assignment)
        origins.record(name, f"--set {shortened(assignment)}", value)
        _put(kind, merged, name, value)
    return check(kind, merged)


def _defaults_of(recipe: Mapping[str, Any], options: Mapping[str, Any], assignments: list[str]) -> Mapping[str, Any]:
    """The defaults of the task that is asked for, which are others than those of a classification."""
    asked = [recipe.get("task"), options.get("task")]
    asked += [value for name, value in map(_read_assignment, assignments) if name == "task"]
    task = next((one for one in reversed(asked) if isinstance(one, str)), CLASSIFICATION)
    return TASKS[task].defaults if task in TASKS else {}  # an unknown one is refused by `check`


def _of_command(kind: type[Config], recipe: str, values: dict[str, Any]) -> dict[str, Any]:
    """A recipe serves both commands: what only the other one reads is left out."""
    for name, value in values.items():
        if name in SECTIONS and not isinstance(value, dict):
            raise ValueError(f"recipe {recipe}: {name} must hold options by name, got {shown(value)}")
        if "." in name:
            section, _, inner = name.partition(".")
            raise ValueError(f"recipe {recipe}: {name} must be written as {inner} below {section}")
    other = {"methods", "seeds", "generations", "method", "seed"} - set(kind.model_fields)
    return {name: value for name, value in values.items() if name not in other}


def _read_assignment(assignment: str) -> tuple[str, Any]:
    name, equals, text = assignment.partition("=")
    if not equals or not name:
        raise ValueError(f"--set takes NAME=VALUE, for example train.lr=0.05, got {assignment!r}")
    try:
        return name, read_value(text)
    except ValueError as error:
        raise ValueError(f"--set {shortened(assignment)}: {error}") from error


def _put(kind: type[Config], values: dict[str, Any], name: str, value: Any) -> None:
    """Set an option, or several of a section; one that is unknown is refused here or by `check`."""
    *sections, last = name.split(".")
    inside: Any = values
    for section in sections:
        inside = inside.get(section)
        if not isinstance(inside, dict):
            raise OptionError(name, str(unknown_name("option", name, option_names(kind))))
    if isinstance(inside.get(last), dict) and isinstance(value, dict):
        for inner, below in value.items():
            _put(kind, values, f"{name}.{inner}", below)
    else:
        inside[last] = value


_MESSAGES = {
    "string_type": "must be a text",
    "string_unicode": "must be a text in UTF-8",
    "tuple_type": "must be a list",
    "model_type": "must be options by name",
    "too_short": "must have at least one item",
}
"""What pydantic finds -> how it is said here."""


def check(kind: type[Config], values: Any) -> Config:
    """Validate plain values; ``ValueError`` in one line."""
    try:
        return kind.model_validate(with_averages_as_methods(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise OptionError(place, str(unknown_name("option", place, option_names(kind)))) from None
        if first["type"] == "value_error":  # ours; that of a section begins with the option
            message = first["msg"].removeprefix("Value error, ")
            if place in kind.model_fields and place not in option_names(kind):
                place, _, message = f"{place}.{message}".partition(" ")
        elif first["type"] == "literal_error":
            message = f"must be one of {first['ctx']['expected']}, got {shown(first['input'])}"
        else:
            wrong = _MESSAGES.get(first["type"], first["msg"].replace("Input should be", "must be"))
            message = f"{wrong}, got {shown(first['input'])}"
        named = message if message.startswith("unknown ") else f"{place or 'a configuration'} {message}"
        raise OptionError(place, named) from None


def option_names(kind: type[BaseModel]) -> list[str]:
    """Dotted names of all options."""
    names = []
    for name, spec in kind.model_fields.items():
        inner = spec.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += [f"{name}.{below}" for below in option_names(inner)]
        else:
            names.append(name)
    return names


def read_recipe(name: str) -> dict[str, Any]:
    """A recipe file, or one that comes with the package, as a dictionary; ``ValueError`` where it is neither."""
    if name in recipe_names():
        text = recipe_text(name)
    else:
        path = Path(name)
        if not os.path.isfile(path):  # which also says so of names that no file can have
            if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
                raise ValueError(f"there is no file {name}; `filtersmith list recipes` has those of the package")
            raise unknown_name("recipe (a YAML file, or a name)", name, recipe_names())
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"recipe {name} cannot be read: {error}") from error
    try:
        values = read(text)
    except ValueError as error:
        raise ValueError(f"recipe {name}: {error}") from error
    if values is None:
        raise ValueError(f"recipe {name} is empty")
    if not isinstance(values, dict):
        raise ValueError(f"recipe {name} must hold options by name, got a {type(values).__name__}")
    return values


def to_yaml(config: BaseModel) -> str:
    """The configuration as YAML, in the order of its options."""
    return write(config.model_dump(mode="json"))


_NOT_RECIPE = {"train.device", "train.tensorboard", "train.workers"}


def first_difference(old: BaseModel, new: BaseModel) -> str | None:
    """The first option that would make another run of it: ``train.lr is 0.1 there and 0.05 here``."""
    left, right = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    for name in left | right:
        if name not in _NOT_RECIPE and left.get(name) != right.get(name):
            return f"{name} is {left.get(name)!r} there and {right.get(name)!r} here"
    return None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
