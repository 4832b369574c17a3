"""What each filter is worth, measured by leaving it out, and how well criteria without data agree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import filtersmith as fs
from filtersmith import measure
from filtersmith.measure.oracle_agreement import Agreement, OracleSummary

CHEAP = 0.005
"""A filter that costs less accuracy than that can be dropped."""
CRITERIA = ("ortho", "l1", "l2")


@dataclass(frozen=True)
class Worth:
    """The Oracle of a network.

    Attributes:
        images: how many it was measured on.
        accuracy: of the whole network on them.
        guess: of the answer that is right most often, whatever the image.
        drops: layer -> the accuracy that each filter costs.
        layers: the same as histograms.
        agreement: criterion of the weights -> how well it agrees with the drops.
    """

    images: int
    accuracy: float
    guess: float
    drops: dict[str, Tensor]
    layers: dict[str, OracleSummary]
    agreement: dict[str, Agreement]

    def cheap(self, layer: str) -> float:
        """The share of a layer's filters that can be dropped, each alone."""
        return float((self.drops[layer] < CHEAP).double().mean())


def worth_of(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Worth:
    """Leave out one filter after the other. ``ValueError`` for a network without scores of the labels' classes."""
    held = list(batches)
    drops = fs.rank(network, "oracle", data=held)
    right = sum(_right(network, images, labels) for images, labels in held)
    answers = torch.cat([labels for _, labels in held])
    count, most = len(answers), int(answers.bincount().max())
    layers = list(drops)
    agreement = {name: measure.oracle_correlation(fs.rank(network, name, layers=layers), drops) for name in CRITERIA}
    return Worth(count, right / count, most / count, drops, measure.oracle_histogram(drops), agreement)


def _right(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    with torch.no_grad():
        return int((network(images).argmax(1) == labels).sum())
