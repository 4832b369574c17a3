"""Computing in the precision that tensors have, whatever autocast is on around it."""

from __future__ import annotations

import torch
from torch import Tensor


def without_autocast(like: Tensor) -> torch.autocast:
    """A context without autocast for computations on the device of ``like``."""
    device = like.device.type
    return torch.autocast(device if torch.amp.is_autocast_available(device) else "cpu", enabled=False)
