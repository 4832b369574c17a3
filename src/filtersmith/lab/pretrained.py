"""Networks of timm and torchvision with the weights that these libraries have for them."""

from __future__ import annotations

from typing import Any

from torch import nn

from filtersmith.common.options import first_line
from filtersmith.zoo.info import not_installed


def pretrained(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network that ``timm:NAME`` or ``torchvision:NAME`` stands for, and the facts of its images that are known.

    Returns:
        The network, and of ``mean``, ``std`` (a number a channel), ``image_size`` (pixels) what its library says.

    Raises:
        ValueError: the library is not installed, or has no such weights here.
    """
    library, _, own = name.partition(":")
    try:
        return (_of_timm if library == "timm" else _of_torchvision)(own)
    except ImportError:
        raise ValueError(not_installed(library)) from None
    except Exception as error:  # no such name, no weights, no network to fetch them from
        raise ValueError(f"{library} has no pretrained {own} here: {first_line(error)}") from error


def _of_timm(name: str) -> tuple[nn.Module, dict[str, Any]]:
    import timm

    network: nn.Module = timm.create_model(name, pretrained=True)
    known = getattr(network, "pretrained_cfg", {})
    facts: dict[str, Any] = {fact: list(known[fact]) for fact in ("mean", "std") if fact in known}
    if size := known.get("input_size"):
        facts["image_size"] = size[-1]
    return network, facts


def _of_torchvision(name: str) -> tuple[nn.Module, dict[str, Any]]:
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    how = weights.transforms()
    facts = {"mean": list(how.mean), "std": list(how.std), "image_size": int(how.crop_size[0])}
    return models.get_model(name, weights=weights), facts
