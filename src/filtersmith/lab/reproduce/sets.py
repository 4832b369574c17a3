"""The data sets of a call: which stands for which, what tables know them by, the last ones kept for the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from filtersmith.lab.data import ImageSet
from filtersmith.lab.papers.sets import SETS, needed
from filtersmith.lab.recipe.config import DataOptions, RunConfig
from filtersmith.lab.reproduce.arms import Arm, digest
from filtersmith.lab.reproduce.instead import resized
from filtersmith.lab.reproduce.ledger import data_digest
from filtersmith.lab.reproduce.plan import Place
from filtersmith.lab.tasks.names import CLASSIFICATION, TASKS
from filtersmith.lab.training.run import fingerprint, load_data

_KEPT = 2
"""Sets that are kept: that of a row, and that on which its backbone is trained before."""
_TASKS = {form: task for task, info in TASKS.items() for form in info.forms}
"""How the name of data begins -> the task that reads it."""


class Identity(NamedTuple):
    """By what a table knows its data, how many training images there are, and whether they are held in memory."""

    title: str
    digest: str
    images: int
    in_memory: bool

    @classmethod
    def of(cls, config: RunConfig, data: Any) -> Identity:
        held = isinstance(data.train, ImageSet)
        return cls(data.title, data_digest(fingerprint(config, data)), len(data.train), held)


class Sets:
    """The data of a call.

    Args:
        place: where runs stand, and what stands in place of which set; ``self.place`` knows their images, too.
        left_out: told which set cannot be loaded and why, where rows on it are left out; ``None``: it is an error.
    """

    def __init__(self, place: Place, left_out: Callable[[str, ValueError], None] | None = None) -> None:
        self._left_out = left_out
        self._last: dict[str, Any] = {}
        self._found: dict[tuple[str, str, int], Identity | None] = {}
        self.place: Place = place
        asked = {name: self.identity(name) for name in place.instead.all_sets()}
        found = {name: one for name, one in asked.items() if one is not None}
        self.place = replace(
            place,
            images={name: one.images for name, one in found.items()},
            in_memory=frozenset(name for name, one in found.items() if one.in_memory),
        )

    def load(self, config: RunConfig) -> Any:
        """The data of a configuration, augmented or not; loaded anew only where it is none of the last ones."""
        options = config.data.model_copy(update={"augment": True})
        key = f"{config.task} {options.model_dump_json()}"
        if key not in self._last:
            while len(self._last) >= _KEPT:  # before the next one takes its memory
                del self._last[next(iter(self._last))]
            self._last[key] = load_data(config)
        return self._last[key]

    def identity(self, papers: str) -> Identity | None:
        """What stands for a paper's set; ``None`` where it is not there and its rows are left out.

        Raises:
            ValueError: it cannot be loaded.
        """
        one, name, pixels = SETS[papers], self.place.name(papers), self.place.instead.image_size
        key = name, one.task, pixels or one.image_size
        if key not in self._found:
            self._found[key] = self._load_identity(papers, *key)
        found = self._found[key]
        if found is None or pixels is None:
            return found
        return found._replace(title=resized(found.title, pixels), digest=digest([found.digest, pixels]))

    def identity_of(self, arm: Arm) -> Identity | None:
        """The data of an arm as it is run, with that on which its backbone was trained before, or that it was not.

        Raises:
            ValueError: it cannot be loaded.
        """
        found = self.identity(arm.data)
        if found is None or (arm.pretrained is None and not arm.scratch):
            return found
        if arm.pretrained is None:
            return found._replace(title=f"{found.title} from scratch", digest=digest([found.digest, "from scratch"]))
        first = self.identity_of(arm.pretrained)
        if first is None:
            return None
        other = first.title != SETS[arm.pretrained.data].title
        title = f"{found.title} after {first.title}" if other else found.title
        return found._replace(title=title, digest=digest([found.digest, first.digest]))

    def _load_identity(self, papers: str, name: str, task: str, pixels: int) -> Identity | None:
        try:
            _check_there(papers, name, task)
            config = RunConfig(task=task, data=DataOptions(name=name, image_size=pixels))
            data = self.load(config)
            found = Identity.of(config, data)
        except ValueError as error:
            if self._left_out is None:
                raise
            self._left_out(name, error)
            return None
        one = SETS[papers]
        whole = bool(one.form) and one.holds(len(data.train), len(data.test), data.num_classes)
        return found._replace(title=one.title) if whole else found


def _check_there(papers: str, name: str, task: str) -> None:
    """``ValueError`` for a set that nobody can download, and for data of another task."""
    if name == papers and SETS[papers].form:
        raise ValueError(f"{papers} is not downloaded: it needs {needed(papers)}")
    other = _TASKS.get(name.partition(":")[0], CLASSIFICATION)
    if other != task:
        raise ValueError(
            f"{name} is data of the task {other}, and rows on {papers} need data of the task {task}, such as "
            f"{SETS[papers].form or papers}"
        )
