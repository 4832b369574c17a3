"""Kernels that several layers share: tied for good, remembered, and guarded against what unties them silently.

A tie is one Parameter in several layers. It survives whatever keeps objects the same: ``deepcopy``, moving between
devices, DDP, ``torch.compile``, an average of weights made afterwards. What would give a layer a Parameter of its
own is refused where it happens (``load_state_dict``) or at the next forward pass (FSDP2 in separate groups,
``to_empty``, a new ``weight``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.options import bad_option
from filtersmith.sharing.saving import declare, name_kernels, saved_apart

_TIED = "_tied_layers"
"""Attribute of the network that was tied: a tuple of `_Tied`, one for each kernel."""


_Layers = tuple[tuple[str, nn.Module], ...]
"""Layers by name."""


@dataclass(frozen=True, eq=False)
class _Tied:
    """The layers that share a kernel.

    An object of its own, since modules in a plain list or tuple may be called from there
    (`filtersmith.graph.trace.kept_elsewhere`).
    """

    layers: _Layers


def tie(network: nn.Module, groups: Sequence[Sequence[str]]) -> None:
    """Give the layers of each group one kernel, and whatever else holds one of their kernels, tied before or not.

    The kernel that stays is that of the first layer in the order of the network, not of the calls.
    """
    kernels: list[Tensor | None] = [_shared(group) for group in _present(network)]
    for names in groups:
        replaced = {id(network.get_submodule(name).weight) for name in names}
        holders = [
            (module, name)
            for module in network.modules()
            for name, parameter in module._parameters.items()
            if id(parameter) in replaced
        ]
        kernel = next(m._parameters[name] for m, name in holders if isinstance(m, _ConvNd) and name == "weight")
        kernels.append(kernel)
        for module, name in holders:
            module._parameters[name] = kernel
    if _TIED not in vars(network):
        network.register_load_state_dict_pre_hook(_check_state)
        network.register_forward_pre_hook(_check_forward)
    # Modules, for their names may change (`add_regulators`); names, for modules may be replaced.
    sharing: dict[int, list[tuple[str, nn.Module]]] = {id(kernel): [] for kernel in kernels if kernel is not None}
    for name, module in network.named_modules():
        if isinstance(module, _ConvNd) and (layers := sharing.get(id(module._parameters.get("weight")))) is not None:
            layers.append((name, module))
    setattr(network, _TIED, tuple(_Tied(tuple(layers)) for layers in sharing.values() if len(layers) > 1))
    name_kernels(network)
    declare(network, ties(network))


def ties(network: nn.Module) -> list[tuple[str, ...]]:
    """The groups of layers that were tied in this network itself, by their present names; empty where none were."""
    return [tuple(name for name, _ in group) for group in _present(network)]


def check_ties(model: nn.Module) -> list[str]:
    """The names of the layers that were tied by `filtersmith.share_kernels` and are tied no more.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(*(torch.nn.Conv2d(8, 8, 3) for _ in range(3)))
        >>> report = fs.share_kernels(model)
        >>> model[2].weight = torch.nn.Parameter(torch.zeros(8, 8, 3, 3))
        >>> fs.check_ties(model)
        ['2']

    Args:
        model: the network, also inside DDP, ``torch.compile``, an ``AveragedModel`` or a larger network.

    Returns:
        Names of layers, as ``model.named_modules`` has them; empty if all are well.

    Raises:
        ValueError: not a network.

    Source: own work, for https://arxiv.org/abs/1904.09764
    """
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, network in model.named_modules()
        for group in _present(network)
        for name in _strays(group)
    ]


def _present(network: nn.Module) -> list[_Layers]:
    """The groups of layers that were tied in this network itself, and what stands in their places now.

    Without layers that are gone: there is nothing in their place, or nothing that has parameters.
    """
    # Not by getattr: what `torch.compile` gives hands on the attributes of the network in it.
    if not (tied := vars(network).get(_TIED)):
        return []
    modules = dict(network.named_modules())
    names = {id(module): name for name, module in modules.items()}
    groups = []
    for one in tied:
        group = []
        for before, layer in one.layers:
            name = names.get(id(layer), before)
            now = modules.get(name)
            if now is layer or (now is not None and any(True for _ in now.parameters())):
                group.append((name, now))
        if len(group) > 1:
            groups.append(tuple(group))
    return groups


def _strays(group: _Layers, *, offloaded: bool = False) -> Iterator[str]:
    """The layers of a group that do not hold its kernel.

    ``offloaded``: but for those whose kernel is elsewhere (accelerate) and comes, the same for all, when they run.
    """
    shared = _shared(group)
    for name, layer in group:
        own = layer._parameters.get("weight")
        if shared is None or not (own is shared or (offloaded and own is not None and own.is_meta)):
            yield name


def _shared(group: _Layers) -> Tensor | None:
    """The Parameter that most layers of a group hold; of equally many the first one's.

    ``None`` where no layer has one: all of them compute it from others (a parametrization).
    """
    kernels = [kernel for _, layer in group if (kernel := layer._parameters.get("weight")) is not None]
    if not kernels:
        return None
    most = Counter(map(id, kernels)).most_common(1)[0][0]
    return next(kernel for kernel in kernels if id(kernel) == most)


def _check_forward(network: nn.Module, args: Any) -> None:
    """Before each forward pass.

    Not while it is compiled or exported, nor in `DataParallel`'s copies: other objects are in place of Parameters.
    """
    if torch.compiler.is_compiling() or getattr(network, "_is_replica", False):
        return
    if stray := next((name for group in _present(network) for name in _strays(group, offloaded=True)), None):
        raise ValueError(
            f"layer {stray!r} no longer shares its kernel: it was given a weight of its own (a new Parameter, "
            "a parametrization, to_empty(), fully_shard in a group of its own); shard or expand the network as a "
            "whole, or share the kernels again"
        )


def _check_state(
    network: nn.Module, state: MutableMapping[str, Any], prefix: str, metadata: Mapping[str, Any], *_: Any
) -> None:
    """Before ``load_state_dict``: one kernel for all, loaded into the one that there is."""
    for group in _present(network):
        keys = {f"{prefix}{name}.weight": name for name, _ in group}
        found = [(name, state[key]) for key, name in keys.items() if key in state]
        whole = len(found) == len(group) and _one_parameter([value for _, value in found])
        if metadata.get("assign_to_params_buffers") and found and not whole:
            raise ValueError(
                f"load_state_dict(assign=True) would give {found[0][0]!r} another kernel than some of the "
                f"{len(group) - 1} layers that share one with it: load without assign, or share the kernels after "
                "loading"
            )
        # Where a file holds the kernel once, torch.distributed.checkpoint puts in what the other layers have now.
        kernel = _shared(group)
        new = [(name, value) for name, value in found if value is not kernel]
        for name, value in new[1:]:
            if not _equal(new[0][1], value):
                raise ValueError(
                    f"the state_dict has different kernels for {new[0][0]!r} and {name!r}, which share one here: "
                    "it is that of a network whose kernels are not shared"
                )
        if new and saved_apart(network, prefix):
            state.update({key: state.get(key, new[0][1]) for key in keys})


def _one_parameter(values: Sequence[Any]) -> bool:
    return isinstance(values[0], nn.Parameter) and all(value is values[0] for value in values)


def _equal(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one is other:
        return True  # what is no tensor is refused by load_state_dict itself
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    # A tied network's own state: nothing to compare. Not by the address alone, which meta tensors do not have.
    if one.device.type == "meta" or (one.data_ptr() == other.data_ptr() and one.stride() == other.stride()):
        return True
    other = other.to(one.device)
    return bool(((one == other) | (one.isnan() & other.isnan())).all())  # a run that diverged is a run
