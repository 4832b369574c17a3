"""The rows of a comparison by name: ``METHOD``, or ``METHOD@NETWORK`` for one on another network of the zoo."""

from __future__ import annotations

import re
from hashlib import sha256

from filtersmith.common.options import bad_option
from filtersmith.methods.spelling import split_outside_brackets


def split_arm(text: str) -> tuple[str, str | None]:
    """Method and network of a row; the network is ``None`` without an ``@`` outside of brackets.

    >>> split_arm("wau(layers=['a@b'])@resnet20")
    ("wau(layers=['a@b'])", 'resnet20')
    """
    method, *network = split_outside_brackets(text, "@")
    return (method.strip(), "@".join(network).strip()) if network else (text, None)


def split_arms(text: str) -> list[str]:
    """The rows that a text names, separated by commas.

    >>> split_arms("baseline, wau(rate=0.5,seed=1)@resnet20")
    ['baseline', 'wau(rate=0.5,seed=1)@resnet20']
    """
    return [arm.strip() for arm in split_outside_brackets(text, ",")]


def arm_name(method: str, network: str | None) -> str:
    """The inverse of `split_arm`."""
    return method if network is None else f"{method}@{network}"


LONGEST_FOLDER, SHORTENED = 140, 64
"""Characters of a folder's name that all file systems take; what is left of a longer one before its digest."""


def slug(arm: str) -> str:
    """A folder name: ``wau(rate=0.3)`` -> ``wau-rate-0.3``, ``wau@timm:resnet18`` -> ``wau@timm-resnet18``.

    The name of a long arm is cut and has a digest of the arm at its end.
    """
    method, network = split_arm(arm)
    # A minus stays: seed=-1 is not seed=1. So does what parts two lists.
    method = re.sub(r"[^A-Za-z0-9.-]+", "-", re.sub(r"\]\s*,\s*\[", "--", method)).strip("-")
    network = None if network is None else re.sub(r"[^\w.-]+", "-", network, flags=re.ASCII).strip("-")
    name = arm_name(method, network)
    if len(name) <= LONGEST_FOLDER:
        return name
    return f"{name[:SHORTENED].rstrip('-.@')}-{sha256(arm.encode()).hexdigest()[:12]}"


def method_alone(text: str) -> str:
    """The method of a row that names no network; ``ValueError`` where it does."""
    bare, network = split_arm(text)
    if network is not None:
        raise bad_option("method", text, f"a method alone ({bare!r}; --model names its network)")
    return bare
