"""Collapsing: the plain network that an expanded one computes, built of plain modules."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.common.modules import bare, detached
from filtersmith.common.precision import without_autocast
from filtersmith.reparam.branches import Branches
from filtersmith.reparam.pairs import fold
from filtersmith.reparam.parametrization import Expansion, originals


def collapse(model: nn.Module) -> nn.Module:
    """The plain network that an expanded one computes, as a new network; ``model`` trains on unharmed.

    It has the class and the ``state_dict`` keys that ``model`` had before `filtersmith.expand`, and the same outputs
    in evaluation mode. A plain network gives an equal copy.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = fs.expand(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), fs.KFLO(width=4))
        >>> deployed = fs.collapse(model)  # after training
        >>> list(deployed.state_dict()), tuple(deployed[0].weight.shape)
        (['0.weight', '0.bias'], (8, 3, 3, 3))

    Args:
        model: also a compiled network or an ``AveragedModel``; not one wrapped in DDP.

    Returns:
        A new network in the mode, on the device and of the type of ``model``.

    Raises:
        ValueError: a network inside DistributedDataParallel or DataParallel, with sharded weights, or with another
            parametrization on top of ours.

    Source: the methods' own papers, for example ACNet's, https://arxiv.org/abs/1908.03930
    """
    network = bare(model, "collapse")
    # deepcopy puts these in the place of what they stand for, wherever that is referred to. All of them are made
    # before any is filled, because layers may refer to each other.
    plain: dict[int, Any] = detached(network)
    for module in network.modules():
        if isinstance(module, Branches):
            plain[id(module)] = plain[id(module.conv)] = _shell(type(module.conv))
            for absorbed in module.absorbed:
                plain[id(absorbed)] = plain[id(module.bn)] = _shell(absorbed.kind or type(module.bn))
        elif _expanded(module):
            plain[id(module)] = _shell(type(module).__mro__[1])  # torch injected the class before it
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, Branches):
                _fill(plain[id(module)], module.conv, plain)
                for absorbed in module.absorbed:
                    _fill(plain[id(module.bn)], module.bn, plain)
                    vars(plain[id(module.bn)])["_modules"] = copy.deepcopy(dict(absorbed._modules), plain)
                fold(module, plain[id(module)], plain[id(module.bn)] if module.absorbed else None)
            elif _expanded(module):
                _fill(plain[id(module)], module, plain, _computed(name, module))
        return copy.deepcopy(network, plain)


def _expanded(module: nn.Module) -> bool:
    return is_parametrized(module, "weight") and isinstance(module.parametrizations["weight"][0], Expansion)  # type: ignore[index]


def _shell(cls: type[nn.Module]) -> nn.Module:
    """A module without anything in it."""
    return cls.__new__(cls)


def _fill(
    shell: nn.Module, module: nn.Module, copies: dict[int, Any], computed: dict[str, nn.Parameter] | None = None
) -> None:
    """Make ``shell`` a copy of a module, with computed tensors as parameters in the place of its parametrizations.

    Not by ``remove_parametrizations`` on a copy: copies share the class that torch injected, and the live layer
    would lose its computed weight with them.
    """
    own = {k: v for k, v in vars(module).items() if k not in ("_parameters", "_modules", "_compiled_call_impl")}
    vars(shell).update(copy.deepcopy(own, copies))
    children = {k: v for k, v in module._modules.items() if not (computed and k == "parametrizations")}
    vars(shell)["_modules"] = copy.deepcopy(children, copies)
    parameters = copy.deepcopy(dict(module._parameters), copies) | (computed or {})
    first = {k: parameters[k] for k in ("weight", "bias") if k in parameters}  # as torch's layers have them
    vars(shell)["_parameters"] = first | parameters


def _computed(name: str, module: nn.Module) -> dict[str, nn.Parameter]:
    """The tensors of one expanded layer as plain parameters."""
    computed = {}
    for tensor, how in module.parametrizations.items():  # type: ignore[union-attr, operator]
        if len(how) != 1 or not isinstance(how[0], Expansion):
            raise ValueError(f"layer {name!r} has a parametrization of its {tensor} that collapse does not know")
        trained = any(p.requires_grad for p in originals(how))
        with without_autocast(originals(how)[0]):
            # Called itself and not by the attribute, which torch may have cached.
            computed[tensor] = nn.Parameter(how().detach().clone(), requires_grad=trained)
    return computed
