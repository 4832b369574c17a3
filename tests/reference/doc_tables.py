"""The tables of a page of the documentation, to be run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import filtersmith as fs
from filtersmith import zoo

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"`([^`]+)`")


def rows(page: str, *heads: str) -> Iterator[dict[str, str]]:
    """Each row of all tables of docs/PAGE that have these columns, as column -> cell."""
    columns: list[str] = []
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("|") else []
        if not cells:
            columns = []
        elif not columns:
            columns = cells
        elif set(heads) <= set(columns) and set(line) - set("|-: "):
            assert len(cells) == len(columns), line
            yield dict(zip(columns, cells, strict=True))


def code_in(cell: str) -> list[str]:
    """What stands as code in a cell."""
    return CODE.findall(cell)


def network() -> nn.Sequential:
    """Three convolutions of 8 filters, named ``"0"``, ``"3"`` and ``"6"``, and a classifier for 4 classes."""
    blocks = [(nn.Conv2d(n, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for n in (3, 8, 8)]
    return nn.Sequential(
        *(part for block in blocks for part in block), *(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(8, 4)
    )


def names(**more: Any) -> Mapping[str, Any]:
    """What the calls of a page take for granted, made anew."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images, labels = torch.randn(8, 3, 8, 8), torch.randint(4, (8,))
    torch.save(network().state_dict(), "plain.pt")
    return {
        "fs": fs,
        "torch": torch,
        "nn": nn,
        "zoo": zoo,
        "model": model,
        "optimizer": optimizer,
        "images": images,
        "labels": labels,
        "held_out": [(images, labels)],
        "teacher": network(),
        "state_dict_1": network().state_dict(),
        "state_dict_2": network().state_dict(),
        "make_scheduler": lambda one: torch.optim.lr_scheduler.StepLR(one, 1),
        **more,
    }
