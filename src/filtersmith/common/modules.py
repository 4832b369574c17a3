"""Modules as such: what is inside their wrappers, what they are called, how their tensors lie in memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own network inside ``torch.compile``, DistributedDataParallel and DataParallel."""
    while True:
        if isinstance(model, (DistributedDataParallel, DataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def plain_name(name: str) -> str:
    """The name that a module has where no part of the network is compiled."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def memory_format(tensor: Tensor) -> torch.memory_format:
    """``channels_last`` (or its version for three dimensions) where a tensor lies so, else ``contiguous_format``."""
    for ndim, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        # One input channel or a window of one position is contiguous both ways: the strides decide.
        if tensor.ndim != ndim or math.prod(tensor.shape[1:]) == 1 or not tensor.is_contiguous(memory_format=layout):
            continue
        if tensor.stride(1) == 1 and tensor.stride(-1) == tensor.shape[1]:
            return layout
    return torch.contiguous_format
