"""The runs of a comparison: which there are, in what order, in which folders, and which were there before."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filtersmith.common.options import bad_option
from filtersmith.common.words import noun, plural
from filtersmith.lab.generations import (
    TEACHER,
    generation_name,
    lacks_teacher,
    seed_of,
    taught,
    with_teacher,
)
from filtersmith.lab.recipe.arms import arm_name, slug, split_arm
from filtersmith.lab.recipe.config import (
    CompareConfig,
    ModelOptions,
    RunConfig,
    check,
    first_difference,
    read_recipe,
)
from filtersmith.lab.recipe.earlier import written_by_0_1
from filtersmith.lab.recipe.origin import OptionError
from filtersmith.lab.results.document import FILE_NAME, Run
from filtersmith.lab.tasks.names import info_of, task_named
from filtersmith.lab.tasks.task import TaskData
from filtersmith.lab.teachers.names import unread
from filtersmith.lab.training import learning_rate
from filtersmith.lab.training.folder import MODEL, RunFolder, check_writable
from filtersmith.lab.training.locking import refuse_locked
from filtersmith.lab.training.standing import Standing, admit, examine, one_data
from filtersmith.methods import BASELINE
from filtersmith.methods.composition import compose
from filtersmith.methods.spelling import Spelled, read, same, write


@dataclass(frozen=True)
class Planned:
    """One run of a comparison: its configuration, its folder, and the row of the table to which it belongs."""

    config: RunConfig
    folder: RunFolder
    arm: str
    seed: int
    """Of the row; a later generation is drawn by another one, see `seed_of`."""
    stage: int = 1
    """Those of the first stage are trained before those of the second."""
    needs: tuple[RunFolder, ...] = ()
    """Runs that have to be finished before: a teacher's, or those of networks with which it begins."""

    @property
    def label(self) -> str:
        return f"{self.arm}, seed {self.seed}"

    def result(self) -> Run | None:
        """The run as it stands, under the name and the seed of its row; ``None`` before it has begun."""
        found = self.folder.result()
        return None if found is None else found.model_copy(update={"method": self.arm, "seed": self.seed})


def plan(config: CompareConfig, out: Path) -> list[Planned]:
    """Every run, seed by seed, so that the methods of one seed are trained close together in time.

    Those that teach others come first: nobody is taught by a run that is not finished.
    """
    planned = [
        one
        for generation in range(1, config.generations + 1)
        for seed in config.seeds
        for arm in config.methods
        for one in _planned(config, arm, seed, generation, out)
    ]
    return sorted({one.label: one for one in planned}.values(), key=lambda one: one.stage)


def _planned(config: CompareConfig, arm: str, seed: int, generation: int, out: Path) -> Iterator[Planned]:
    """The run of a row, and that of its teacher where it is nobody's row."""

    def folder(name: str) -> RunFolder:
        return RunFolder(out / "runs" / slug(name) / f"seed-{seed}")

    own, name, network = config_of(config, arm, seed), generation_name(arm, generation), split_arm(arm)[1]
    if generation > 1:
        teacher = folder(generation_name(arm, generation - 1))
        learned = {"method": taught(own.method, str(teacher.path)), "seed": seed_of(seed, generation)}
        yield Planned(own.model_copy(update=learned), folder(name), name, seed, generation, (teacher,))
    elif lacks_teacher(own.method):
        teaches = config.run_config(BASELINE, seed_of(seed, 2), network)
        one = Planned(teaches, folder(arm_name(TEACHER, network)), arm_name(TEACHER, network), seed)
        learned = {"method": with_teacher(own.method, str(one.folder.path))}
        yield from (one, Planned(own.model_copy(update=learned), folder(name), name, seed, 2, (one.folder,)))
    else:
        yield Planned(own, folder(name), name, seed)


def config_of(config: CompareConfig, arm: str, seed: int) -> RunConfig:
    """The configuration of one run, of the first generation."""
    method, network = split_arm(arm)
    return config.run_config(method, seed, network)


def rows(config: CompareConfig) -> tuple[str, ...]:
    """The rows of the table: each method with its generations."""
    return tuple(generation_name(arm, g) for arm in config.methods for g in range(1, config.generations + 1))


def normalised(config: CompareConfig) -> CompareConfig:
    """Methods in their one spelling, without ``@`` where the network is the comparison's own.

    ``ValueError`` for an unknown or repeated one, or without a baseline.
    """
    arms = [_read_arm(text, config.model.name) for text in config.methods]
    methods = tuple(arm_name(write(spelled), network) for spelled, network in arms)
    for number, (spelled, network) in enumerate(arms):
        for other in range(number):
            name, before = methods[number], methods[other]
            if arms[other][1] == network and same(spelled, arms[other][0]):
                again = "twice" if before == name else f"and {name}, which is the same"
                raise ValueError(f"methods must be different, got {before} {again}")
            if slug(before) == slug(name):
                raise ValueError(
                    f"methods must have folders of different names, got {before} and {name}: {slug(name)}"
                )
    if BASELINE not in methods:
        raise ValueError(
            f"methods must include {BASELINE!r}, which the others are compared with, got {','.join(methods)}"
        )
    if config.generations > 1:
        for spelled, _ in arms:
            try:
                compose(taught(with_teacher(write(spelled), TEACHER), "the generation before"), resolve=unread)
            except ValueError as error:
                raise OptionError("generations", f"generations={config.generations}: {error}") from error
    if len(set(config.seeds)) < len(config.seeds):
        raise ValueError(f"seeds must be different, got {list(config.seeds)}")
    return config.model_copy(update={"methods": methods})


def _read_arm(text: str, own: str) -> tuple[tuple[Spelled, ...], str | None]:
    """Methods and network of a row; no network where it is the comparison's ``own``."""
    method, network = split_arm(text)
    if method.count("(") > method.count(")"):
        raise bad_option("method", text, "a method; in a list of a recipe, one with commas needs quotes")
    if network == "":
        raise bad_option("method", text, "a method, or METHOD@NETWORK with a network of `list models`")
    try:
        compose(with_teacher(method, TEACHER), resolve=unread)
    except ValueError as error:
        named = method in str(error)
        raise ValueError(str(error) if named else f"{text}: {error}") from error
    return read(method), None if network == own else network


def title(config: CompareConfig, data: TaskData) -> str:
    """Data, network, schedule and seeds, as every table of results must say."""
    train, seeds = config.train, len(config.seeds)
    samples = info_of(config.task).samples
    augmented = config.data.augment is not True and task_named(config.task).augments(data)
    parts = [
        data.title,
        network_title(config.model),
        *(
            [f"{len(data.train):,} training {samples}"]
            if data.held_out is not None or config.data.limit is not None
            else []
        ),
        *([_AUGMENTED[config.data.augment]] if augmented else []),
        plural(train.epochs, "epoch"),
        f"{train.optimizer} {train.lr:g}, {learning_rate.describe(train)}",
        *([train.precision] if train.precision != "fp32" else []),
        plural(seeds, "seed"),
    ]
    return " · ".join(parts)


_AUGMENTED: dict[Any, str] = {
    False: "no augmentation",
    "mirror": "mirror images",
    "reflect": "reflected crops",
    "color": "changed colours",
}


def network_title(options: ModelOptions) -> str:
    """The network, and the file of weights, or the folder of the run, that it begins with."""
    if options.weights is None:
        return options.name
    file = Path(options.weights)
    begun = file.parent if file.name == MODEL else file
    return f"{options.name} from {begun.name}" + (", frozen" if options.frozen else "")


def with_earlier(config: CompareConfig, out: Path) -> tuple[CompareConfig, CompareConfig]:
    """What is asked for, in the words of earlier calls on ``out``; and it together with their methods and seeds.

    These come first, as they stood.

    Raises:
        ValueError: ``out`` holds a comparison of another recipe, or one that can't be gone on with.
    """
    old = _earlier(config, out)
    if old is None:
        return config, config
    try:
        old = normalised(old)
        asked = config.model_copy(update={"methods": tuple(_in_words_of(old, arm) for arm in config.methods)})
        methods, seeds = dict.fromkeys(old.methods + asked.methods), dict.fromkeys(old.seeds + asked.seeds)
        most = max(old.generations, asked.generations)
        together = {"methods": tuple(methods), "seeds": tuple(seeds), "generations": most}
        return asked, normalised(asked.model_copy(update=together))
    except ValueError as error:
        raise ValueError(
            f"--out {out} holds methods of an earlier call that don't go with these: {error}; choose another --out"
        ) from error


def _earlier(config: CompareConfig, out: Path) -> CompareConfig | None:
    """This comparison with the methods and seeds of the earlier calls; ``None`` where there was none."""
    recipe = out / "config.yaml"
    if not recipe.is_file():
        if os.path.lexists(out / FILE_NAME):
            raise ValueError(
                f"--out {out} holds {FILE_NAME} without {recipe.name}, so that nobody knows of which recipe it is, "
                "and it would be overwritten; choose another --out"
            )
        return None
    values = read_recipe(str(recipe))
    if written_by_0_1(values) and (decay := values["train"]["ema"]) is not None:
        raise ValueError(
            f"--out {out} holds a comparison of filtersmith 0.1 with train.ema={decay}, which averaged the "
            f"baseline, too: it can be read, but not gone on with; choose another --out and METHOD+ema({decay},"
            "warmup=False)"
        )
    old = check(CompareConfig, values)
    again = config.model_copy(update={name: getattr(old, name) for name in ("methods", "seeds", "generations")})
    difference = first_difference(old, again)
    if difference:
        raise ValueError(f"--out {out} holds a comparison of another recipe: {difference}; choose another --out")
    return again


def _in_words_of(old: CompareConfig, arm: str) -> str:
    """``arm`` as an earlier call spelled it: ``wau(rate=0.5)`` is ``wau``, and has its folder."""
    spelled, network = _read_arm(arm, old.model.name)
    for name in old.methods:
        other, its = _read_arm(name, old.model.name)
        if its == network and same(spelled, other):
            return name
    return arm


def kept(asked: CompareConfig, whole: CompareConfig) -> str | None:
    """The line that says what of earlier calls stays in the results without being asked for; ``None``: nothing."""
    methods = [name for name in rows(whole) if name not in rows(asked)]
    seeds = [str(seed) for seed in whole.seeds if seed not in asked.seeds]
    named = [*methods, *([f"{noun(len(seeds), 'seed')} {_and(seeds)}"] if seeds else [])]
    return f"kept: {', '.join(named)} of an earlier call" if named else None


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def check_folders(asked: CompareConfig, whole: CompareConfig, out: Path, seen: Mapping[str, Any]) -> list[Standing]:
    """What each run that is asked for stands at; ``ValueError`` for all that the real call refuses of the folders.

    ``whole`` has the methods and seeds of earlier calls, too (`with_earlier`); ``seen`` is the fingerprint of the
    data, which all of them must have. Nothing is written.
    """
    check_writable(out)
    refuse_locked(out)
    planned = plan(asked, out)
    for one in planned:
        refuse_locked(one.folder.path)
    standings = [admit(one.folder, one.config, seen, resume=True) for one in planned]
    for one in _kept_runs(asked, whole, out):
        if one.folder.config.is_file():
            one.folder.check_same(one.config)  # of what is kept, too: it stands in the same table
    one_data((one.folder for one in plan(whole, out)), seen)
    return standings


def kept_damaged(asked: CompareConfig, whole: CompareConfig, out: Path) -> list[str]:
    """A line for each run of an earlier call that is not asked for and not whole any more."""
    looked_at = [(one.label, examine(one.folder)) for one in _kept_runs(asked, whole, out)]
    return [
        f"warning: {label} of an earlier call is damaged ({'; '.join(standing.wrong)}): ask for it to mend it"
        for label, standing in looked_at
        if standing.status == "damaged"
    ]


def _kept_runs(asked: CompareConfig, whole: CompareConfig, out: Path) -> list[Planned]:
    labels = {one.label for one in plan(asked, out)}
    return [one for one in plan(whole, out) if one.label not in labels]
