"""Several methods, several seeds, one recipe: train them all, then say what each is worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filtersmith.common.options import bad_option
from filtersmith.lab.data import Data
from filtersmith.lab.recipe.arms import arm_name, slug, split_arm
from filtersmith.lab.recipe.config import (
    CompareConfig,
    RunConfig,
    check,
    first_difference,
    read_recipe,
    to_yaml,
    written_by_0_1,
)
from filtersmith.lab.results.document import FILE_NAME, Comparison, Run, save, write_atomically
from filtersmith.lab.results.numbers import percent
from filtersmith.lab.training import learning_rate
from filtersmith.lab.training.errors import Interrupted, RunFailed
from filtersmith.lab.training.folder import RunFolder, make_folder
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.run import train
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.stopping import StopRequest
from filtersmith.methods import BASELINE
from filtersmith.methods.composition import Composition, compose
from filtersmith.methods.spelling import same


@dataclass(frozen=True)
class Planned:
    """One run of a comparison: its configuration, its folder, and the row of the table to which it belongs."""

    config: RunConfig
    folder: RunFolder
    arm: str

    def result(self) -> Run | None:
        """The run as it stands, under the name of its row; ``None`` before it has begun."""
        found = self.folder.result()
        return None if found is None else found.model_copy(update={"method": self.arm})


def plan(config: CompareConfig, out: Path) -> list[Planned]:
    """Every run, seed by seed, so that the methods of one seed are trained close together in time."""
    return [
        Planned(_config_of(config, arm, seed), RunFolder(out / "runs" / slug(arm) / f"seed-{seed}"), arm)
        for seed in config.seeds
        for arm in config.methods
    ]


def normalised(config: CompareConfig) -> CompareConfig:
    """Methods in their one spelling, without ``@`` where the network is the comparison's own.

    ``ValueError`` for an unknown or repeated one, or without a baseline.
    """
    arms = [_read_arm(text, config.model.name) for text in config.methods]
    methods = tuple(arm_name(str(composed), network) for composed, network in arms)
    for number, (composed, network) in enumerate(arms):
        for other in range(number):
            name, before = methods[number], methods[other]
            if arms[other][1] == network and same(composed.spelled, arms[other][0].spelled):
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
    if len(set(config.seeds)) < len(config.seeds):
        raise ValueError(f"seeds must be different, got {list(config.seeds)}")
    return config.model_copy(update={"methods": methods})


def _read_arm(text: str, own: str) -> tuple[Composition, str | None]:
    """Method and network of a row; no network where it is the comparison's ``own``."""
    method, network = split_arm(text)
    if network == "":
        raise bad_option("method", text, "a method, or METHOD@NETWORK with a network of `list models`")
    try:
        composed = compose(method)
    except ValueError as error:
        named = method in str(error)
        raise ValueError(str(error) if named else f"{text}: {error}") from error
    return composed, None if network == own else network


def _config_of(config: CompareConfig, arm: str, seed: int) -> RunConfig:
    method, network = split_arm(arm)
    return config.run_config(method, seed, network)


def title(config: CompareConfig, data: Data) -> str:
    """Data, network, schedule and seeds, as every table of results must say."""
    train, seeds = config.train, len(config.seeds)
    parts = [
        data.title,
        config.model.name,
        *(
            [f"{len(data.train):,} training images"]
            if data.held_out is not None or config.data.limit is not None
            else []
        ),
        *(["no augmentation"] if data.augment is not None and not config.data.augment else []),
        f"{train.epochs} epoch{'s' * (train.epochs > 1)}",
        f"{train.optimizer} {train.lr:g}, {learning_rate.describe(train)}",
        *([train.precision] if train.precision != "fp32" else []),
        f"{seeds} seed{'s' * (seeds > 1)}",
    ]
    return " · ".join(parts)


def check_methods(config: CompareConfig, data: Data) -> list[str]:
    """Build every method once without training, so that a bad option does not show after an hour.

    Returns warnings: what will run, but hardly as it was meant.
    """
    Session(config.run_config(BASELINE, config.seeds[0]), data)
    warnings = []
    for arm in config.methods:
        if arm != BASELINE:
            try:
                session = Session(_config_of(config, arm, config.seeds[0]), data)
            except ValueError as error:
                raise ValueError(f"{arm}: {error}") from error
            warnings += [f"warning: {arm}: {warning}" for warning in session.composition.warnings]
    return warnings


def compare(config: CompareConfig, out: Path, data: Data, live: Live) -> Comparison:
    """Train every run that is not finished yet; the results so far are saved after each.

    Args:
        config: as `normalised` returns it.
        out: its folder: ``config.yaml``, ``results.json`` and ``runs/METHOD/seed-S``.
        data: the loaded data set.
        live: shows progress.

    Raises:
        ValueError: ``out`` holds another comparison or cannot be written to, or an option does not fit.
        Interrupted: SIGTERM or Ctrl-C; results so far and a checkpoint are written.
    """
    for warning in check_methods(config, data):
        live.note(warning)
    prepare_folder(config, out)
    planned = plan(config, out)
    with StopRequest() as stop:  # one for all runs: a signal between two of them counts, too
        for number, one in enumerate(planned):
            live.begin(f"{one.arm}, seed {one.config.seed}")
            skipped = one.folder.finished()
            try:
                folder = one.folder.path
                result = train(one.config, folder, data, resume=True, progress=live, stop=stop, label=one.arm)
                ending = f"test {percent(result.epochs[-1].test_accuracy)} %"
                live.end(f"{ending} (finished before)" if skipped else ending)
            except RunFailed as error:
                live.end(f"failed: {error}")
            except Interrupted:
                _publish(config, planned, out, data)
                raise
            comparison = _publish(config, planned, out, data)
            if stop.signal and number + 1 < len(planned):
                raise Interrupted(stop.signal, f"stopped after run {number + 1} of {len(planned)}")
    return comparison


def prepare_folder(config: CompareConfig, out: Path) -> None:
    """Make the folder, or see that it holds the same comparison; methods and seeds may have been added."""
    recipe = out / "config.yaml"
    if recipe.is_file():
        values = read_recipe(str(recipe))
        if written_by_0_1(values) and (decay := values["train"]["ema"]) is not None:
            raise ValueError(
                f"--out {out} holds a comparison of filtersmith 0.1 with train.ema={decay}, which averaged the "
                "baseline, too: it can be read, but not gone on with; choose another --out and "
                f"METHOD+ema({decay},warmup=False)"
            )
        old = check(CompareConfig, values)
        again = config.model_copy(update={"methods": old.methods, "seeds": old.seeds})
        difference = first_difference(old, again)
        if difference:
            raise ValueError(f"--out {out} holds a comparison of another recipe: {difference}; choose another --out")
    make_folder(out)
    write_atomically(recipe, to_yaml(config))


def _common(environments: list[dict[str, Any]]) -> dict[str, Any]:
    """What the runs were made with; where they differ (another machine, other threads), all of it."""
    common: dict[str, Any] = {}
    for key in {key: None for one in environments for key in one}:
        values = list(dict.fromkeys(one[key] for one in environments if key in one))
        common[key] = values[0] if len(values) == 1 else " | ".join(map(str, values))
    return common


def _publish(config: CompareConfig, planned: list[Planned], out: Path, data: Data) -> Comparison:
    results: list[Run] = [result for one in planned if (result := one.result()) is not None]
    comparison = Comparison(
        title=title(config, data),
        data=config.data.name,
        data_title=data.title,
        model=config.model.name,
        epochs=config.train.epochs,
        seeds=config.seeds,
        config=config.model_dump(mode="json", exclude={"methods", "seeds"}),
        environment=_common([one.folder.read_manifest().get("environment", {}) for one in planned]),
        methods=config.methods,
        runs=tuple(results),
    )
    save(comparison, out / FILE_NAME)
    return comparison
