"""Kernels that several layers share: tied for good, remembered, and guarded against what unties them silently.

A tie is one Parameter in several layers. It survives whatever keeps objects the same: ``deepcopy``, moving between
devices, DDP, ``torch.compile``, an average of weights made afterwards. What would give a layer a Parameter of its
own is refused where it happens (``load_state_dict``) or at the next forward pass (FSDP2 in separate groups,
``to_empty``, a new ``weight``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from filtersmith.errors import bad_option

_TIED = "_tied_layers"
"""Attribute of the network that was tied: a tuple of `_Tied`, one for each kernel."""


@dataclass(frozen=True, eq=False)
class _Tied:
    """The layers that share a kernel.

    An object of its own, since modules in a plain list or tuple may be called from there (`filtersmith.pairs`).
    """

    layers: tuple[tuple[str, nn.Module], ...]


def tie(network: nn.Module, groups: Sequence[Sequence[str]]) -> None:
    """Give the layers of each group the kernel of its first layer; groups of before with common layers join in."""
    known = ties(network)
    for names in groups:
        joined = [group for group in known if set(group) & set(names)]
        # The order of the layers in the network decides whose kernel stays, not the order of calls.
        together = {name for group in joined for name in group} | set(names)
        known = [group for group in known if group not in joined]
        known.append(tuple(name for name, _ in network.named_modules() if name in together))
    if not hasattr(network, _TIED):
        network.register_load_state_dict_pre_hook(_check_state)
        network.register_forward_pre_hook(_check_forward)
    # Modules, for their names may change (`add_regulators`); names, for modules may be replaced.
    layers = (tuple((name, network.get_submodule(name)) for name in group) for group in known)
    setattr(network, _TIED, tuple(map(_Tied, layers)))
    for first, *others in known:
        kernel = network.get_submodule(first).weight
        for name in others:
            network.get_submodule(name).weight = kernel


def ties(network: nn.Module) -> list[tuple[str, ...]]:
    """The groups of layers that were tied in this network itself, by their present names; empty where none were."""
    if not hasattr(network, _TIED):
        return []
    present = {id(module): name for name, module in network.named_modules()}
    return [tuple(present.get(id(module), name) for name, module in tied.layers) for tied in getattr(network, _TIED)]


def check_ties(model: nn.Module) -> list[str]:
    """The names of the layers that were tied by ``share_kernels`` and are tied no more; empty if all are well.

    Args:
        model: the network, also inside DDP, ``torch.compile``, an ``AveragedModel`` or a larger network.

    Raises:
        ValueError: not a network.
    """
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, network in model.named_modules()
        for group in ties(network)
        for name in _strays(network, group)
    ]


def _strays(network: nn.Module, group: Sequence[str]) -> Iterator[str]:
    """The layers of a group that do not hold the Parameter that most of it, or its first layer, holds."""
    kernels = [_kernel(network, name) for name in group]
    shared = Counter(map(id, kernels)).most_common(1)[0][0]
    return (name for name, kernel in zip(group, kernels, strict=True) if id(kernel) != shared)


def _kernel(network: nn.Module, name: str) -> object:
    """A layer's kernel; an object of its own where it has none or computes it from others (a parametrization)."""
    try:
        return network.get_submodule(name)._parameters.get("weight", object())
    except AttributeError:  # the layer is no longer there
        return object()


def _check_forward(network: nn.Module, args: Any) -> None:
    """Before each forward pass. Not while it is compiled or exported, which put other objects in place of tensors."""
    if torch.compiler.is_compiling():
        return
    if stray := next((name for group in ties(network) for name in _strays(network, group)), None):
        raise ValueError(
            f"layer {stray!r} no longer shares its kernel: it was given a weight of its own (a new Parameter, "
            "a parametrization, to_empty(), fully_shard in a group of its own); shard or expand the network as a "
            "whole, or share the kernels again"
        )


def _check_state(
    network: nn.Module, state: Mapping[str, Any], prefix: str, metadata: Mapping[str, Any], *_: Any
) -> None:
    """Before ``load_state_dict``: one kernel for all, loaded into the one that there is."""
    for group in ties(network):
        found = [(name, state[key]) for name in group if (key := f"{prefix}{name}.weight") in state]
        if metadata.get("assign_to_params_buffers") and not _one_parameter([value for _, value in found]):
            raise ValueError(
                f"load_state_dict(assign=True) would give {found[0][0]!r} and {len(found) - 1} other layers that "
                "share a kernel one each: load without assign, or share the kernels after loading"
            )
        for name, value in found[1:]:
            if not _equal(found[0][1], value):
                raise ValueError(
                    f"the state_dict has different kernels for {found[0][0]!r} and {name!r}, which share one here: "
                    "it is that of a network whose kernels are not shared"
                )


def _one_parameter(values: Sequence[Any]) -> bool:
    return len(values) < 2 or (isinstance(values[0], nn.Parameter) and all(value is values[0] for value in values))


def _equal(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one is other:
        return True  # what is no tensor is refused by load_state_dict itself
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    # A tied network's own state: nothing to compare. Not by the address alone, which meta tensors do not have.
    if one.device.type == "meta" or (one.data_ptr() == other.data_ptr() and one.stride() == other.stride()):
        return True
    return torch.equal(one, other.to(one.device))
