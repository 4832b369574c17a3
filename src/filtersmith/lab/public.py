"""What a run's configuration says, without where things lie on the machine that trained it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from filtersmith.lab.data.defaults import title_of
from filtersmith.lab.recipe.arms import arm_name, split_arm
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.results.document import Comparison
from filtersmith.methods.outside import names_in, unnamed
from filtersmith.zoo.places import place_of


def data_name(name: str) -> str:
    """The name of a data set, of a folder its last part alone.

    >>> data_name("imagefolder:/home/me/photos"), data_name("hf:owner/set"), data_name("digits")
    ('imagefolder:photos', 'hf:owner/set', 'digits')
    """
    form, colon, place = name.partition(":")
    return f"{form}:{Path(place).name}" if colon and is_path(form, place) else name


def is_path(form: str, place: str) -> bool:
    """Whether it is a place on this machine; what looks like ``OWNER/NAME`` is on the hub where it isn't here."""
    return form != "hf" or not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", place) or Path(place).exists()


def data_title(name: str) -> str:
    """What a data set is called where people read: ``CIFAR-10 (JPEG)``."""
    return title_of(name.rpartition(":")[2])


def model_name(name: str) -> str:
    """The name of a network; a user's own file without its folder, unless that lies in the current one.

    >>> model_name("/home/me/net.py:make"), model_name("nets/net.py:make"), model_name("timm:resnet18")
    ('net.py:make', 'nets/net.py:make', 'timm:resnet18')
    """
    place = place_of(name)
    if place is None or not (Path(place).is_absolute() or place.startswith("~") or ".." in Path(place).parts):
        return name
    return name.replace(place, Path(place).name, 1)


def method(text: str) -> str:
    """A text of methods; where it names teachers, without them: they trained the network, and are no part of it."""
    return unnamed(text) if any(names_in(text)) else text


def comparison(whole: Comparison) -> Comparison:
    """A comparison whose rows name no folders: those of teachers are left out, those of networks shortened."""
    names: dict[str, str] = {}
    for arm in whole.methods:
        text, network = split_arm(arm)
        name = arm_name(method(text), None if network is None else model_name(network))
        same = sum(other == name or other.startswith(f"{name} #") for other in names.values())
        names[arm] = name if not same else f"{name} #{same + 1}"
    return whole.model_copy(
        update={
            "title": whole.title.replace(whole.model, model_name(whole.model)),
            "methods": tuple(names[arm] for arm in whole.methods),
            "runs": tuple(run.model_copy(update={"method": names[run.method]}) for run in whole.runs),
            "ensembles": tuple(one.model_copy(update={"method": names[one.method]}) for one in whole.ensembles),
            "not_together": {},
        }
    )


def recipe(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain values, to be read by people and to train again."""
    found: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    found["data"]["name"] = data_name(config.data.name)
    found["data"].pop("root", None)
    found["model"]["name"] = model_name(config.model.name)
    if config.model.weights is not None:
        found["model"]["weights"] = Path(config.model.weights).name
    found["method"] = method(config.method)
    return found
