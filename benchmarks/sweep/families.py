"""One network of each family of torchvision and timm, as `families.json` lists them (see `choosing`)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from benchmarks.sweep.subject import Subject

FILE = Path(__file__).with_name("families.json")
BATCH = 3
FRAMES = 8
CLASSES = 5


def every(device: str) -> Iterator[Subject]:
    """Those that are not left out."""
    for row in listed():
        if "left out" not in row:
            yield subject(row, device)


def listed() -> list[dict[str, Any]]:
    """All families, with a network and the size of its images, or the reason why it is left out."""
    rows: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["rows"]
    return rows


def subject(row: Mapping[str, Any], device: str) -> Subject:
    def build() -> nn.Module:
        return made(row["library"], row["name"], row.get("options", {}))

    def inputs(training: bool) -> tuple[Any, ...]:
        return images(row["family"] if row["library"] == "torchvision" else "", row["size"], training)

    return Subject(row["library"], row["name"], build, inputs, device)


def made(library: str, name: str, options: Mapping[str, Any]) -> nn.Module:
    """The network by its name, with weights as they are drawn."""
    if library == "timm":
        import timm

        network: nn.Module = timm.create_model(name, pretrained=False, **{"num_classes": CLASSES, **options})
        return network
    import torchvision

    takes = inspect.signature(torchvision.models.get_model_builder(name)).parameters
    options = {"weights_backbone": None, **options} if "weights_backbone" in takes else options
    return torchvision.models.get_model(name, weights=None, **options)  # type: ignore[no-any-return]


def images(family: str, size: int, training: bool) -> tuple[Any, ...]:
    """What a network of a family of torchvision, or any of timm, is called with."""
    generator = Generator().manual_seed(2 + training)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    if family.startswith("video"):
        return (random(BATCH, 3, FRAMES, size, size),)
    if family.startswith("optical_flow"):
        return random(2, 3, size, size), random(2, 3, size, size)
    if family.startswith("detection"):
        pictures = [random(3, size, size) for _ in range(2)]
        return (pictures, [_target(size) for _ in pictures]) if training else (pictures,)
    return (random(BATCH, 3, size, size),)


def _target(size: int) -> dict[str, Tensor]:
    boxes = torch.tensor([[0.1, 0.2, 0.7, 0.8], [0.3, 0.1, 0.9, 0.6]], dtype=torch.float64) * size
    masks = torch.zeros(2, size, size, dtype=torch.uint8)
    masks[:, size // 4 : size // 2, size // 4 : size // 2] = 1
    points = torch.full((2, 17, 3), size / 2, dtype=torch.float64)
    return {"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks, "keypoints": points}
