"""Regulators: small layers of its own for a block whose kernels are shared (DACNN, Fig. 3), and putting them in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from filtersmith.common.modules import memory_format
from filtersmith.graph.residual import Place
from filtersmith.sharing.saving import declare
from filtersmith.sharing.ties import ties


class Regulator(nn.Sequential):
    """1x1 convolution, batch norm, ReLU; as many channels out as in. Of the dimensions and the place of ``like``."""

    def __init__(self, channels: int, dims: int, like: torch.Tensor) -> None:
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1]
        placed: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        super().__init__(
            OrderedDict(
                conv=conv(channels, channels, 1, bias=False, **placed),
                bn=norm(channels, **placed),
                relu=nn.ReLU(inplace=True),
            )
        )
        self.to(memory_format=memory_format(like))


class Copy(nn.Module):
    """A copy of the regulator's output, where the next operation writes into it: ReLU's gradient is made of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


class Regulated(nn.Sequential):
    """What stood at the end of a branch (``inner``), and the regulator behind it."""


def is_regulated(network: nn.Module, place: Place) -> bool:
    """Whether a place has a regulator already: behind it, or it is one itself."""
    return isinstance(network.get_submodule(place.name.rpartition(".")[0]), (Regulator, Regulated))


def regulate(network: nn.Module, found: Mapping[int, Sequence[Place]]) -> dict[int, tuple[str, ...]]:
    """Put a regulator behind each of the places of the sections, in place; section -> the regulators' names."""
    regulators = {section: tuple(_put_in(network, place) for place in places) for section, places in found.items()}
    declare(network, ties(network))  # by their new names
    return regulators


def _put_in(network: nn.Module, place: Place) -> str:
    """Put one regulator behind a module, by whatever names it is called; the regulator's name."""
    inner = network.get_submodule(place.name)
    holders = [(m, name) for m in network.modules() for name, child in m._modules.items() if child is inner]
    regulated = Regulated(OrderedDict(inner=inner, regulator=Regulator(place.channels, place.dims, place.like)))
    if place.overwritten:
        regulated.add_module("copy", Copy())
    regulated.train(inner.training)
    for holder, name in holders:
        setattr(holder, name, regulated)
    return f"{place.name}.regulator"
