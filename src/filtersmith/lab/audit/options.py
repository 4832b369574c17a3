"""The options of ``filtersmith audit``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Of a call.

    Attributes:
        target: what is audited.
        weights: a file, ``pretrained``, or ``None``.
        data: the name of a data set, or ``None``: that of the run, or none.
        against: another target, in the other triangle.
        against_weights: of it.
        images: how many test images.
        oracle: on how many of them filters are left out one by one; 0: not at all.
        out: the folder of page and JSON.
        format: ``text`` or ``json``.
        trust: whether a pickle's code may run.
        settings: options of the data, ``data.image_size=64``.
    """

    target: str
    weights: str | None = None
    data: str | None = None
    against: str | None = None
    against_weights: str | None = None
    images: int = 2000
    oracle: int = 0
    out: Path | None = None
    format: str = "text"
    trust: bool = False
    settings: tuple[str, ...] = ()
