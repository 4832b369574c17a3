"""What the target of an audit names: a run, or a network with weights from somewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from filtersmith import zoo
from filtersmith.common.options import bad_option
from filtersmith.common.words import plural
from filtersmith.lab.deployed import build_network, finished_run, load_network
from filtersmith.lab.network import network_of
from filtersmith.lab.pretrained import pretrained
from filtersmith.lab.recipe.config import ModelOptions, RunConfig
from filtersmith.lab.training.folder import RunFolder
from filtersmith.zoo import checkpoints, fitting, importing
from filtersmith.zoo.info import ModelInfo, Task
from filtersmith.zoo.places import place_of

PRETRAINED = "pretrained"
FORMS = (
    "the folder of a run, or a network: one of `filtersmith list models`, timm:NAME, torchvision:NAME, FILE.py:NAME"
)
LARGE = Task(1000, 3, 224)
"""What networks of timm and torchvision are made for."""


@dataclass(frozen=True)
class Target:
    """A network that is audited.

    Attributes:
        title: how tables and pictures call it.
        network: in evaluation mode, as it is deployed.
        weights: where they are from, in words.
        drawn: the same network with random weights, from a seed: the null beside it.
        facts: classes, channels and size of its images, and what they are normalised with, as far as that is known.
        random: whether its own weights are random.
        run: the folder of the run that it is of.
    """

    title: str
    network: nn.Module
    weights: str
    drawn: Callable[[int], nn.Module]
    facts: Mapping[str, Any]
    random: bool = False
    run: RunFolder | None = None


def open_target(
    name: str, weights: str | None = None, data: Mapping[str, Any] | None = None, *, trust: bool = False
) -> Target:
    """The network that a target names.

    Args:
        name: the folder of a finished run, or what `zoo.build` takes.
        weights: a file, ``"pretrained"``, or ``None``: those of the run, else random ones.
        data: facts of the data, which a network that is no run is made for; by default what it is listed for.
        trust: read a pickle that holds more than tensors, which may run any code.

    Raises:
        ValueError: a target that names nothing, a run that is not finished, weights that do not fit (with the names
            of those), one that cannot take the data.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if weights is not None:
            raise bad_option("weights", weights, "left out where the target is a run, which has its own")
        return _of_run(path)
    info = next((info for info in zoo.MODELS if re.fullmatch(info.regex, name)), None)
    if info is None:
        raise _unknown(name)
    importing.refresh()
    if weights == PRETRAINED:
        return _pretrained(name, info)
    options, facts = ModelOptions(name=name), dict(data or _listed(info))
    network = _drawn(options, facts, 0)
    said = "random"
    if weights is not None:
        try:
            found = checkpoints.read(weights, trust=trust)
        except ValueError as error:
            way = "; --trust reads it, and runs the code that it names" if "holds objects" in str(error) else ""
            raise ValueError(f"{error}{way}") from error
        try:
            fit = fitting.load(network, found, facts["num_classes"], finite=False)
        except ValueError as error:
            raise ValueError(f"weights {weights} for {name}: {error}") from error
        if not fit.whole:
            way = "" if data else "; --data tells how many channels and classes its images have"
            raise ValueError(f"weights {weights} must fit all of {name}: {fit}{way}")
        said = f"{Path(weights).name}, {fit}"
    return Target(
        name, network.eval(), said, lambda seed: _drawn(options, facts, seed), facts, random=weights is None
    )


def _of_run(path: Path) -> Target:
    folder = finished_run(path)
    manifest, config = folder.read_manifest(), folder.read_config()
    facts = dict(manifest["network"])
    code = (manifest.get("model") or {}).get("folder")
    with importing.searched_first(code):
        network = load_network(config, facts, folder.model)

    def drawn(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]), importing.searched_first(code):
            torch.manual_seed(seed)
            return build_network(_without_weights(config), facts)

    said = f"of the run: {config.method}, seed {config.seed}, {plural(config.train.epochs, 'epoch')}"
    return Target(f"{config.method}@{config.model.name}", network, said, drawn, facts, run=folder)


def _without_weights(config: RunConfig) -> RunConfig:
    """The configuration of a run that begins with random weights."""
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": None})})


def _drawn(options: ModelOptions, facts: Mapping[str, Any], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network_of(options, facts).eval()


def _listed(info: ModelInfo) -> dict[str, Any]:
    task = LARGE if info.library else info.listed_for
    return {"num_classes": task.num_classes, "in_channels": task.in_channels, "image_size": task.image_size}


def _pretrained(name: str, info: ModelInfo) -> Target:
    """A network of timm or torchvision with the weights that its library has for it."""
    if info.library not in ("timm", "torchvision") or place_of(name):
        raise bad_option(
            "weights", PRETRAINED, f"a file with {name}: pretrained are networks of timm and torchvision"
        )
    network, own = pretrained(name)
    facts = _listed(info) | own
    options = ModelOptions(name=name)
    return Target(name, network.eval(), PRETRAINED, lambda seed: _drawn(options, facts, seed), facts)


def _unknown(name: str) -> ValueError:
    if Path(name).expanduser().is_file():
        return bad_option("TARGET", name, f"{FORMS}; a file of weights goes behind --weights")
    try:
        zoo.build(name)  # which says what is near
    except ValueError as error:
        if "did you mean" in str(error):
            return error
    return bad_option("TARGET", name, FORMS)
