"""Modules as such: what is inside their wrappers, what they are called, how their tensors lie in memory."""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils._pytree import tree_leaves

from filtersmith.common.options import bad_option
from filtersmith.common.subphase import refuse_sub_phase

M = TypeVar("M", bound=nn.Module)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own network inside ``torch.compile``, DistributedDataParallel, DataParallel, Lightning's Fabric."""
    while True:
        if isinstance(model, (DistributedDataParallel, DataParallel)):
            model = model.module
        elif type(model).__name__ == "_FabricModule":
            model = model.get_submodule("_original_module")
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def bare(model: nn.Module, doing: str) -> nn.Module:
    """The network inside ``torch.compile``; ``ValueError`` for wrappers that know its parameters.

    And in a sub-phase, in which filters are left out of it (`filtersmith.common.subphase`).
    """
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    while isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
        model = inner
    for module in model.modules():
        kind = type(module).__name__
        if isinstance(module, (DistributedDataParallel, DataParallel)) or kind == "FullyShardedDataParallel":
            how = "collapse(model.module) does it" if doing == "collapse" else f"{doing} before it is wrapped"
            raise ValueError(
                f"cannot {doing} under {kind}: it synchronises the gradients of the parameters that it was made for, "
                f"and would silently leave out others; {how}"
            )
    if is_sharded(model):
        when = "a network that holds the gathered state_dict" if doing == "collapse" else "before fully_shard"
        raise ValueError(f"cannot {doing} sharded weights (DTensor): {doing} {when}")
    if doing != "collapse":  # which makes another network
        refuse_sub_phase(model.modules(), doing, copies=True)
    return model


def detached(model: nn.Module) -> dict[int, Any]:
    """A memo for `copy.deepcopy`, which refuses computed tensors: copies of those that modules keep, by id.

    Old weight norm keeps its weight so, and code of one's own what it saw last.
    """
    kept = (tensor for module in model.modules() for value in vars(module).values() for tensor in tree_leaves(value))
    return {id(one): one.detach().clone() for one in kept if isinstance(one, Tensor) and not one.is_leaf}


def deep_copy(module: M) -> M:
    """``copy.deepcopy``, also of a module that keeps computed tensors."""
    return copy.deepcopy(module, detached(module))


def is_sharded(model: nn.Module) -> bool:
    """Whether some parameters of a network are spread over process ranks: by FSDP1, FSDP2, or otherwise DTensors."""
    flattened = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    return flattened or any(isinstance(parameter, DTensor) for parameter in model.parameters())


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
