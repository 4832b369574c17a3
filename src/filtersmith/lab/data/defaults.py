"""What is assumed of a set that does not say: its title from its name, its augmentation from both."""

from __future__ import annotations

from pathlib import Path

from filtersmith.lab.data.records import Augment

_TITLES = {"cifar10-jpeg": "CIFAR-10 (JPEG)", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN"}
_MIRROR_MATTERS = ("mnist", "svhn", "digits")  # a mirrored digit is another digit


def title_of(place: str) -> str:
    """The title of a set read from a path or hub id: its last part, or the name the world knows it by."""
    last = Path(place).name or Path(place).expanduser().resolve().name
    return _TITLES.get(last, last)


def augment_for(place: str, side: int) -> Augment:
    """Padding by an eighth of the shorter side (4 pixels at 32), and mirror images unless these are digits."""
    return Augment(pad=max(1, side // 8), flip=not any(word in Path(place).name.lower() for word in _MIRROR_MATTERS))
