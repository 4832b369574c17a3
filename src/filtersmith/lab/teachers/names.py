"""What the name of a teacher means, and how one is known again. No network is made here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from filtersmith.common.options import bad_option
from filtersmith.lab.training.folder import RunFolder
from filtersmith.methods.outside import names_in
from filtersmith.zoo import checkpoints

TIMM = "timm:"
FORMS = "the folder of a finished run, NETWORK@FILE, a safetensors file that names its network, or timm:NAME"


@dataclass(frozen=True)
class Source:
    """Where a teacher comes from.

    Attributes:
        run: the folder of a run.
        network: a name of the zoo; ``timm:NAME`` without a file: with its pretrained weights.
        file: its weights.
    """

    run: Path | None = None
    network: str | None = None
    file: Path | None = None


def source(name: str) -> Source:
    """What a name means; ``ValueError`` where it means nothing.

    >>> source("resnet110@teacher.safetensors")
    Source(run=None, network='resnet110', file=PosixPath('teacher.safetensors'))
    """
    path = Path(name).expanduser()
    if not name:
        raise bad_option("teacher", name, FORMS)
    if path.is_dir():
        return Source(run=path, file=RunFolder(path).model)
    if path.is_file():
        return Source(file=path)
    network, at, file = name.rpartition("@")
    if at and network and file:
        return Source(network=network, file=Path(file).expanduser())
    if name.startswith(TIMM):
        return Source(network=name)
    raise bad_option("teacher", name, FORMS)


def unread(name: str) -> nn.Module:
    """Stands for a teacher where only the text of a method is looked at."""
    return nn.Identity()


def fingerprint(method: str) -> dict[str, dict[str, Any]]:
    """Name -> the file of weights of each teacher in a text and its SHA-256, as far as it is there."""
    found: dict[str, dict[str, Any]] = {}
    for name in names_in(method):
        try:
            file = source(name).file
        except ValueError:  # it is gone, which a finished run does not mind
            continue
        if file is not None and file.is_file():
            found[name] = {"weights": {"file": file.name, "sha256": checkpoints.digest(file)}}
    return found
