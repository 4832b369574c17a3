"""Holding test images out of a set that comes without any."""

from __future__ import annotations

import torch
from torch import Tensor

HELD_OUT = 0.2
"""Share of the images that is held out, of each class alike."""


def held_out(labels: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """A fixed stratified 80/20 split: the numbers of the training and of the test images, in order.

    Raises:
        ValueError: A class has too few images to be split; ``what`` names the set.
    """
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(
            range(len(labels)), test_size=HELD_OUT, random_state=0, stratify=labels.tolist()
        )
    except ValueError as error:
        raise ValueError(f"{what} has no test split, and none can be held out: {error}") from error
    return torch.tensor(sorted(train)), torch.tensor(sorted(test))
