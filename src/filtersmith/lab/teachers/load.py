"""The network that the name of a teacher stands for, ready for the images of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from filtersmith.common.options import first_line
from filtersmith.lab.data import Data
from filtersmith.lab.data.fingerprint import difference, fingerprint
from filtersmith.lab.deployed import finished_run, load_network
from filtersmith.lab.network import network_of
from filtersmith.lab.pretrained import pretrained
from filtersmith.lab.recipe.config import ModelOptions, RunConfig
from filtersmith.lab.teachers.names import Source, source
from filtersmith.lab.training.folder import RunFolder
from filtersmith.methods.lifecycle import of_class
from filtersmith.methods.outside import names_in
from filtersmith.methods.spelling import read
from filtersmith.zoo import checkpoints, fitting, importing
from filtersmith.zoo.places import refuse_own_code

_SAME = {"in_channels": "channels", "image_size": "pixels a side"}
"""What a teacher's data must have in common with the student's."""
_CLASSES = ("format", "classes", "class_names", "class_digest")
"""What a fingerprint says of them."""


class Renormalise:
    """A forward pre-hook for a network whose images were normalised with another mean and deviation than its own.

    A hook, not a module around it: the network stays of its class, with its keys, and can give its kernels, too.

    Args:
        given: mean and std, one number a channel, of the images that it will be given.
        own: its own: it takes ``(x - its mean) / its std``.
    """

    def __init__(self, given: tuple[list[float], list[float]], own: tuple[list[float], list[float]]) -> None:
        (mean, std), (own_mean, own_std) = (
            [torch.tensor(one, dtype=torch.float64) for one in pair] for pair in (given, own)
        )
        self.scale: Tensor = (std / own_std).view(1, -1, 1, 1)
        self.shift: Tensor = ((mean - own_mean) / own_std).view(1, -1, 1, 1)

    def __call__(self, network: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        images, *rest = given
        return images * self.scale.to(images) + self.shift.to(images), *rest


def resolver(facts: Mapping[str, Any]) -> Callable[[str], nn.Module]:
    """What makes teachers of names for a run on data with these facts (`Task.facts`)."""
    return lambda name: teacher(name, facts)


def teacher(name: str, facts: Mapping[str, Any]) -> nn.Module:
    """The network that ``name`` stands for, in evaluation mode; torch's generator is left alone.

    Args:
        name: the folder of a finished run, ``NETWORK@FILE`` with a network of the zoo and a file of weights, a file
            of safetensors that names its network (`filtersmith export` writes one), or ``timm:NAME``, pretrained.
        facts: of the student's data: classes, channels, image size, and what its images are normalised with.

    Raises:
        ValueError: a name that means nothing, a run that is not finished, weights that do not all fit, a network for
            images of other channels or sizes, or one that cannot take them.
    """
    try:
        with torch.random.fork_rng():
            network, own = _found(name, facts)
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith("teacher") else f"teacher {name}: {error}") from error
    for fact, what in _SAME.items():
        if own.get(fact, facts[fact]) != facts[fact]:
            raise ValueError(f"teacher {name} is for {own[fact]} {what}, and the data has {facts[fact]}")
    given, kept = ((one.get("mean", facts["mean"]), one.get("std", facts["std"])) for one in (facts, own))
    if given != kept:
        network.register_forward_pre_hook(Renormalise(given, kept))
    _check(name, network.eval(), facts)
    return network.to(memory_format=torch.channels_last)


def check_classes(method: str, data: Data) -> None:
    """``ValueError`` where what a run teaches is other classes than those of the data, though as many."""
    for one in read(method):
        if not of_class(one.record.cls, "plain_loss", False):
            continue
        for name in names_in(str(one)):
            there = _run_of(source(name)).get("data") or {}
            if not there:
                continue  # nothing is known of its classes
            old, new = ({key: of.get(key) for key in _CLASSES} for of in (there, fingerprint(data)))
            if (found := difference(old, new)) is not None:
                raise ValueError(f"teacher {name} was trained on other classes: {found}")


def _run_of(where: Source) -> dict[str, Any]:
    """The manifest of the run that made the weights; empty where they stand in no run's folder."""
    if where.file is None or RunFolder(where.file.parent).model != where.file:
        return {}
    return dict(RunFolder(where.file.parent).manifest_or_nothing())


def _found(name: str, facts: Mapping[str, Any]) -> tuple[nn.Module, Mapping[str, Any]]:
    """A network, and what is known of the data that it was trained on."""
    where = source(name)
    if where.run is not None:
        folder = finished_run(where.run)
        manifest = folder.read_manifest()
        own = manifest.get("network") or facts
        with importing.searched_first((manifest.get("model") or {}).get("folder")):
            return load_network(folder.read_config(), dict(own), folder.model), own
    if where.network is None:
        assert where.file is not None
        return _of_file(where.file, facts)
    if where.file is None:
        network, own = pretrained(where.network)
        return network, {fact: own[fact] for fact in ("mean", "std") if fact in own}  # the size is tried
    network = network_of(ModelOptions(name=where.network), facts)
    fit = fitting.load(network, checkpoints.read(where.file), facts["num_classes"])
    if fit.missing or fit.other_shape:
        raise ValueError(f"all weights of {where.network} must be in {where.file}: {fit}")
    return network, _own(_metadata(where.file)) if where.file.suffix == ".safetensors" else {}


def _own(known: Mapping[str, str]) -> dict[str, Any]:
    """What a file says of the data of its network."""
    return {name: json.loads(known[name]) for name in (*_SAME, "num_classes", "mean", "std") if name in known}


def _metadata(file: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), "pt") as opened:
            return opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"it cannot be read as safetensors: {first_line(error)}") from error


def _of_file(file: Path, facts: Mapping[str, Any]) -> tuple[nn.Module, Mapping[str, Any]]:
    known = _metadata(file)
    own = _own(known)
    if "model" not in known:
        raise ValueError(f"nothing in the file names its network: write NETWORK@{file}")
    refuse_own_code(known["model"], file, f"write NETWORK@{file}")
    model = ModelOptions(name=known["model"], small_images=json.loads(known.get("small_images", "false")))
    config = RunConfig(model=model, method=known.get("method", "baseline"))
    return load_network(config, {**facts, **own}, file), own


def _check(name: str, network: nn.Module, facts: Mapping[str, Any]) -> None:
    """``ValueError`` unless the network takes images of the data; whether its classes fit shows in the first loss."""
    size = facts["image_size"]
    try:
        with torch.no_grad():
            network(torch.zeros(2, facts["in_channels"], size, size))
    except Exception as error:
        raise ValueError(f"teacher {name} cannot take images of {size}x{size}: {first_line(error)}") from error
