"""Distillation's loss in plain Python numbers, image by image, for comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence


def softmax(logits: Sequence[float], temperature: float) -> list[float]:
    exponentials = [math.exp(logit / temperature) for logit in logits]
    return [one / sum(exponentials) for one in exponentials]


def distilled_loss(
    outputs: Sequence[Sequence[float]],
    targets: Sequence[Sequence[float]],
    labels: Sequence[int],
    temperature: float,
    weight: float,
) -> float:
    """The mean over images of ``(1 - weight) * CE + weight * T^2 * KL``."""
    total = 0.0
    for ours, theirs, label in zip(outputs, targets, labels, strict=True):
        cross_entropy = -math.log(softmax(ours, 1.0)[label])
        pairs = zip(softmax(theirs, temperature), softmax(ours, temperature), strict=True)
        divergence = sum(p * math.log(p / q) for p, q in pairs)
        total += (1 - weight) * cross_entropy + weight * temperature**2 * divergence
    return total / len(labels)
