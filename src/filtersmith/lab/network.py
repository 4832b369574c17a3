"""The network of a recipe: made by its name, begun from its weights, and known again by its code and its weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from filtersmith import zoo
from filtersmith.common.words import plural
from filtersmith.lab.recipe.config import ModelOptions
from filtersmith.lab.recipe.origin import about
from filtersmith.lab.training.random_states import random_states, restore_random_states
from filtersmith.zoo import checkpoints, fitting, importing
from filtersmith.zoo.places import place_of


class Fitted(Protocol):
    """What became of the weights that a network began with; printed, it says so in words."""

    @property
    def whole(self) -> bool:
        """Whether all fitted that could."""
        ...

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...


@dataclass(frozen=True)
class Made:
    """What is known of a network that was made.

    Attributes:
        options: what it was asked for with.
        known: its `fingerprint`.
        fit: which weights of the file it has, if there is one.
        spare: logits beyond the number of classes.
    """

    options: ModelOptions
    known: Mapping[str, Any]
    fit: Fitted | None
    spare: int = 0

    def notes(self) -> list[str]:
        """Lines that a person should see before it is trained."""
        lines = []
        if self.fit is not None:
            kind = "note" if self.fit.whole else "warning"
            lines.append(f"{kind}: {self.options.name} from {Path(str(self.options.weights)).name}: {self.fit}")
        if self.spare:
            lines.append(
                f"warning: {self.options.name} gives {plural(self.spare, 'logit')} more than there are classes"
            )
        return lines

    def record(self) -> dict[str, Any]:
        """What the manifest says of it; empty for one of our own that was drawn."""
        record = dict(self.known)
        if self.fit is not None:
            record["weights"] = {**record["weights"], **self.fit.record()}
        return {"name": self.options.name, **record} if record else {}


def network_of(options: ModelOptions, task: Mapping[str, Any]) -> nn.Module:
    """The network, drawn from torch's generator; ``task`` has the number of classes and channels and the size."""
    with about("model.name"):
        return zoo.build(
            options.name,
            task["num_classes"],
            task["in_channels"],
            image_size=task["image_size"],
            small_images=options.small_images,
        )


def make(options: ModelOptions, task: Mapping[str, Any]) -> tuple[nn.Module, Made]:
    """The network of a recipe with its weights; ``ValueError`` in one line for what cannot be."""
    network, fit = network_of(options, task), None
    if options.weights is not None:
        with about("model.weights"):
            found = checkpoints.read(options.weights)
            try:
                fit = fitting.load(network, found, task["num_classes"])
            except ValueError as error:
                raise ValueError(f"weights {options.weights} for {options.name}: {error}") from error
    with about("model.name"):
        _check_training(network, options, task)
    return network, Made(options, fingerprint(options), fit)


def logits_of(outputs: Any, options: ModelOptions, num_classes: int) -> int:
    """How many logits an image has; ``ValueError`` unless two images gave a row each, with one for every class."""
    if not isinstance(outputs, Tensor):
        found = f"a {type(outputs).__name__}"
    elif outputs.ndim != 2 or len(outputs) != 2:
        found = f"a tensor ({', '.join(map(str, outputs.shape))}) for 2 images"
    elif outputs.shape[1] < num_classes:
        found = plural(outputs.shape[1], "logit")
    else:
        return outputs.shape[1]
    way = "; a function that takes num_classes is told of them" if place_of(options.name) else ""
    raise ValueError(f"model {options.name!r} must give {num_classes:,} logits for each image, got {found}{way}")


def _check_training(network: nn.Module, options: ModelOptions, task: Mapping[str, Any]) -> None:
    """``ValueError`` for a user's network that gives more than logits in training mode (auxiliary classifiers)."""
    if place_of(options.name) is None:
        return
    cpu, size = torch.device("cpu"), task["image_size"]
    states = random_states(cpu)
    try:
        with torch.no_grad():
            outputs = copy.deepcopy(network).train()(torch.zeros(2, task["in_channels"], size, size))
    except Exception:  # said of evaluation mode, or where it is trained
        return
    finally:
        restore_random_states(states, cpu)
    if not isinstance(outputs, Tensor):
        raise ValueError(f"model {options.name!r} must give logits in training mode, got a {type(outputs).__name__}")


def fingerprint(options: ModelOptions) -> dict[str, Any]:
    """What beside the recipe decides about a network: a user's code and the file of weights. Empty for our own.

    ``folder`` is where the code was found; ``sources`` and ``weights`` have names and SHA-256 digests.
    """
    found: dict[str, Any] = {}
    if place := place_of(options.name):
        with about("model.name"):
            found = {"folder": str(importing.home(place)), "sources": sources_of(options)}
    if options.weights is not None:
        with about("model.weights"):
            digest = checkpoints.digest(options.weights)
        found["weights"] = {"file": Path(options.weights).name, "sha256": digest}
    return found


def sources_of(options: ModelOptions) -> dict[str, str]:
    """The digests of the files in which a user's network is written; none for the others."""
    place = place_of(options.name)
    return {} if place is None else importing.sources(place)


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """The first thing that tells two fingerprints, or records, apart; ``None`` where there is none."""
    if files := importing.changed(there.get("sources", {}), here.get("sources", {})):
        return f"{files[0]} has changed since"
    old, new = (one.get("weights", {}).get("sha256") for one in (there, here))
    if old != new and old is not None and new is not None:
        return f"{here['weights']['file']} holds other weights now"
    return None
