"""``results.json`` of a comparison, written anew after every run that ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from filtersmith.lab.data import Data
from filtersmith.lab.generations import ensemble, generation_name
from filtersmith.lab.recipe.config import CompareConfig
from filtersmith.lab.results.document import FILE_NAME, Comparison, Ensemble, Run, load, save
from filtersmith.lab.runs import Planned, plan, rows, title
from filtersmith.lab.tasks.task import TaskData
from filtersmith.lab.training.standing import one_data, one_network


class Results:
    """What the runs of a comparison say so far, in the order of methods and seeds, whoever finished first.

    A run's folder is read when the run has ended: not again after each of the others, of which there may be hundreds.

    Args:
        config: with the methods and seeds of earlier calls.
        out: the folder of the comparison.
        data: the loaded data set.
        seen: its fingerprint.
        not_together: pairs that were asked for and do not go together -> why; those of earlier calls stay.

    Raises:
        ValueError: a run was on other data, or on a network of other code or weights.
    """

    def __init__(
        self,
        config: CompareConfig,
        out: Path,
        data: TaskData,
        seen: Mapping[str, Any],
        not_together: Mapping[str, str] | None = None,
    ) -> None:
        self._config, self._out, self._data, self._seen = config, out, data, seen
        self._runs: dict[str, Run | None] = {}
        self._environments: dict[str, dict[str, Any]] = {}
        self._networks: dict[str, dict[str, Any]] = {}
        self._not_together = {**_said_before(out), **(not_together or {})}
        self._together: dict[tuple[str, int], Ensemble] = {}
        self._read(plan(config, out))

    def publish(self, ended: Iterable[Planned]) -> Comparison:
        """Read these runs again, and write the results. ``ValueError`` as of the class."""
        self._read(ended)
        config, data = self._config, self._data
        comparison = Comparison(
            title=title(config, data),
            task=config.task,
            data=config.data.name,
            data_title=data.title,
            model=config.model.name,
            epochs=config.train.epochs,
            test_images=len(data.test),
            seeds=config.seeds,
            config=config.model_dump(mode="json", exclude={"methods", "seeds", "generations"}),
            environment=common(self._environments.values()),
            fingerprint=dict(self._seen),
            networks={name: self._networks[name] for name in sorted(self._networks)},
            methods=rows(config),
            runs=tuple(run for run in self._runs.values() if run is not None and run.method in rows(config)),
            ensembles=tuple(self._ensembles()),
            not_together=self._not_together,
        )
        save(comparison, self._out / FILE_NAME)
        return comparison

    def _ensembles(self) -> Iterator[Ensemble]:
        """Of each method and seed whose generations are all there; worked out once."""
        config = self._config
        by_label = {one.label: one for one in plan(config, self._out)}
        for arm, seed in product(config.methods, config.seeds) if config.generations > 1 else ():
            members = [by_label[f"{generation_name(arm, g)}, seed {seed}"] for g in range(1, config.generations + 1)]
            found = [self._runs.get(one.label) for one in members]
            if all(run is not None and run.status == "finished" for run in found):
                if (arm, seed) not in self._together:
                    assert isinstance(self._data, Data)  # generations are taught, and others than classes cannot be
                    self._together[arm, seed] = ensemble(arm, seed, [one.folder for one in members], self._data)
                yield self._together[arm, seed]

    def _read(self, runs: Iterable[Planned]) -> None:
        for one in runs:
            one_data([one.folder], self._seen)
            self._runs[one.label] = one.result()
            manifest = one.folder.manifest_or_nothing()
            self._environments[one.label] = manifest.get("environment", {})
            self._note_network(one, manifest.get("model") or {})
            for name, found in (manifest.get("teachers") or {}).items():
                if name in one.arm:  # not one that the comparison trained itself
                    self._note_network(one, {"name": name, **found})

    def _note_network(self, one: Planned, found: Mapping[str, Any]) -> None:
        """What is known of a network of a user, a teacher, or weights; the folder of the code stays behind."""
        if found:
            record = {name: value for name, value in found.items() if name not in ("name", "folder")}
            one_network(one.folder, found, self._networks.setdefault(found["name"], record))


def _said_before(out: Path) -> dict[str, str]:
    try:
        return load(out).not_together
    except ValueError:  # there are no results yet
        return {}


def common(environments: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the runs were made with; where they differ (another machine, other threads), all of it.

    >>> common([{"cpu": "A", "threads": 1}, {"cpu": "A", "threads": 2}, {}])
    {'cpu': 'A', 'threads': '1 | 2'}
    """
    every = list(environments)
    found: dict[str, Any] = {}
    for key in {key: None for one in every for key in one}:
        values = list(dict.fromkeys(one[key] for one in every if key in one))
        found[key] = values[0] if len(values) == 1 else " | ".join(map(str, values))
    return found
