"""Every generator goes on where it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from filtersmith.lab.training.random_states import random_states, restore_random_states

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def drawn(device: torch.device) -> list[float]:
    numpy = [np.random.standard_normal(), np.random.rand()]
    python = [random.random(), random.gauss(0, 1)]
    return [*python, *numpy, float(torch.rand(())), float(torch.rand((), device=device))]


@pytest.mark.parametrize("kind", DEVICES)
def test_draws_repeat(kind: str) -> None:
    device = torch.device(kind)
    random.seed(1)
    np.random.seed(2)
    drawn(device)  # half of a pair of normal numbers is kept by NumPy and by Python
    states = random_states(device)
    first = [drawn(device) for _ in range(700)]  # NumPy's twister twists again after 624
    restore_random_states(states, device)
    assert [drawn(device) for _ in range(700)] == first
    assert drawn(device) != first[0]
