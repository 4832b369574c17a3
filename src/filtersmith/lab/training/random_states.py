"""The random states of a process, as plain values: of Python, NumPy, torch, and of the GPU that it trains on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import torch


def random_states(device: torch.device) -> dict[str, Any]:
    """The states as they are now."""
    import numpy as np

    numpy = np.random.get_state(legacy=False)
    assert isinstance(numpy, dict)
    return {
        "python": random.getstate(),
        "numpy": {**numpy, "state": {**numpy["state"], "key": numpy["state"]["key"].tolist()}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Go on from `random_states`; on another kind of device the GPU's own stays as it is."""
    import numpy as np

    key = np.array(states["numpy"]["state"]["key"], dtype=np.uint32)
    random.setstate(states["python"])
    np.random.set_state({**states["numpy"], "state": {**states["numpy"]["state"], "key": key}})
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
