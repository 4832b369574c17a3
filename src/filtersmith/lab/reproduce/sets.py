"""The data sets of a call: which stands for which, what tables know them by, the last one kept for the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from filtersmith.lab.data import Data
from filtersmith.lab.recipe.config import DataOptions, RunConfig
from filtersmith.lab.reproduce.arms import IMAGE_SIZE
from filtersmith.lab.reproduce.ledger import data_digest
from filtersmith.lab.reproduce.plan import Place
from filtersmith.lab.training.run import fingerprint, load_data


class Identity(NamedTuple):
    """By what a table knows its data, and how many training images there are."""

    title: str
    digest: str
    images: int

    @classmethod
    def of(cls, config: RunConfig, data: Any) -> Identity:
        return cls(data.title, data_digest(fingerprint(config, data)), len(data.train))


class Sets:
    """The data of a call.

    Args:
        place: where runs stand, and what stands in place of which set; ``self.place`` knows its images, too.
        left_out: told which set cannot be loaded and why, where rows on it are left out; ``None``: it is an error.
    """

    def __init__(self, place: Place, left_out: Callable[[str, ValueError], None] | None = None) -> None:
        self._left_out = left_out
        self._last: tuple[DataOptions, Data] | None = None
        self._found: dict[str, Identity | None] = {}
        instead = None if place.data is None else self._identity(place.data)
        self.place = place if instead is None else replace(place, images=instead.images)

    def load(self, config: RunConfig) -> Data:
        """The data of a configuration, augmented or not; loaded anew only where the last one is another."""
        options = config.data.model_copy(update={"augment": True})
        if self._last is None or self._last[0] != options:
            self._last = options, load_data(config)
        return self._last[1]

    def identity(self, papers: str) -> Identity | None:
        """What stands for a paper's set; ``None`` where it is not there and its rows are left out.

        Raises:
            ValueError: it cannot be loaded.
        """
        return self._identity(self.place.name(papers))

    def _identity(self, name: str) -> Identity | None:
        if name not in self._found:
            self._found[name] = self._load_identity(name)
        return self._found[name]

    def _load_identity(self, name: str) -> Identity | None:
        try:
            config = RunConfig(data=DataOptions(name=name, image_size=IMAGE_SIZE))
            return Identity.of(config, self.load(config))
        except ValueError as error:
            if self._left_out is None:
                raise
            self._left_out(name, error)
            return None
