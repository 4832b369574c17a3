"""Re-parametrization: train an expanded network, deploy the plain one.

`expand` replaces what a network trains, in place: a weight is computed from other parameters by
``torch.nn.utils.parametrize`` (KFLO, DO-Conv), or a convolution and the batch norm behind it become a block of
branches (ACNet, DBB). `collapse` gives the plain network back as a new one. Expand, then make the optimizer
(`param_groups`), then wrap in DDP; train; collapse.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.common.modules import plain_name
from filtersmith.common.options import bad_option, number, unknown_name
from filtersmith.common.precision import without_autocast
from filtersmith.common.snapshot import snapshot
from filtersmith.filters import has_filters, layer_names
from filtersmith.reparam.pairs import Branches, batch_norms_behind, fold, swap
from filtersmith.reparam.parametrization import Expansion, Role, originals


class _Method(Protocol):
    def wants(self, layer: Any) -> bool: ...
    def refuses(self, layer: Any) -> str | None: ...


@runtime_checkable
class WeightMethod(_Method, Protocol):
    """A method that computes a layer's weight from other parameters."""

    def register(self, layer: Any) -> None:
        """Register the parametrizations of one layer that has been checked."""


@runtime_checkable
class BranchMethod(_Method, Protocol):
    """A method that makes branches of a convolution and the batch norm behind it."""

    def block(self, conv: Any, bn: Any) -> Branches:
        """What takes the place of the pair."""


def expand(
    model: nn.Module, method: WeightMethod | BranchMethod, *, layers: Iterable[str] | None = None
) -> nn.Module:
    """Expand the layers of a network, in place. Make the optimizer and wrap in DDP afterwards.

    Args:
        model: a plain network, or one whose other layers are expanded already.
        method: ``fs.KFLO()``, ``fs.DOConv()``, ``fs.ACNet()`` or ``fs.DBB()``.
        layers: names of the layers; by default those that the method's paper expands.

    Returns:
        ``model`` itself.

    Raises:
        ValueError: a layer that is unknown, has no weight or cannot be expanded with this method; one that is
            expanded or parametrized already; a kernel that layers share; a network that is wrapped already, or
            without any layer to expand. The model is as it was.
    """
    targets = select(model, method, layers)
    restore = snapshot(model)
    try:
        for target in targets:
            if isinstance(method, BranchMethod):
                swap(model, target.layer, target.bn, method.block)
            else:
                method.register(target.layer)
                target.layer.parametrizations.train(target.layer.training)  # type: ignore[union-attr]
    except BaseException:  # out of memory, for instance
        restore()
        raise
    return model


def collapse(model: nn.Module) -> nn.Module:
    """The plain network that an expanded one computes, as a new network; ``model`` trains on unharmed.

    It has the class and the ``state_dict`` keys that ``model`` had before `expand`, and the same outputs in
    evaluation mode. A plain network gives an equal copy.

    Args:
        model: also a compiled network or an ``AveragedModel``; not one wrapped in DDP.

    Raises:
        ValueError: a network inside DistributedDataParallel or DataParallel, with sharded weights, or with another
            parametrization on top of ours.
    """
    network = bare(model, "collapse")
    # deepcopy puts these in the place of what they stand for, wherever that is referred to. All of them are made
    # before any is filled, because layers may refer to each other.
    plain: dict[int, Any] = {}
    for module in network.modules():
        if isinstance(module, Branches):
            plain[id(module)] = plain[id(module.conv)] = _shell(type(module.conv))
            for absorbed in module.absorbed:
                plain[id(absorbed)] = plain[id(module.bn)] = _shell(type(module.bn))
        elif _expanded(module):
            plain[id(module)] = _shell(type(module).__mro__[1])  # torch injected the class before it
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, Branches):
                _fill(plain[id(module)], module.conv, plain)
                if module.absorbed:
                    _fill(plain[id(module.bn)], module.bn, plain)
                fold(module, plain[id(module)], plain[id(module.bn)] if module.absorbed else None)
            elif _expanded(module):
                _fill(plain[id(module)], module, plain, _computed(name, module))
        return copy.deepcopy(network, plain)


def param_groups(
    model: nn.Module,
    weight_decay: float,
    inner_weight_decay: float = 1e-9,
    *,
    decay_factor: float = 0.5,
    scaler: GradScaler | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, with KFLO's rule of weight decay (paper Sec. 4).

    The decay that a kernel would have is put on the *generated* kernel W' (in its backward pass, no term in the loss
    is needed; it shows in the gradients and is clipped with them), none on the filtered kernels W_1 and their
    biases, and ``inner_weight_decay`` on the pointwise kernels W_2 to W_B. Everything else gets ``weight_decay``, as
    do all parameters of a network that KFLO has not expanded. Call it again to change the decay.

    Args:
        model: expanded or plain; wrapped in DDP as well.
        weight_decay: as an optimizer takes it.
        inner_weight_decay: of the pointwise kernels.
        decay_factor: the penalty whose gradient is applied is ``decay_factor * weight_decay * ||W'||^2``: 0.5 gives
            what an optimizer's decay of a plain kernel does, 1.0 the authors' code.
        scaler: the gradient scaler, if the loss is scaled (float16); the decay is scaled with it.

    Returns:
        One to three groups; every parameter is in one of them.

    Raises:
        ValueError: an option out of range.
    """
    options = {"weight_decay": weight_decay, "inner_weight_decay": inner_weight_decay, "decay_factor": decay_factor}
    for option, value in options.items():
        number(option, value, lambda x: 0 <= x < math.inf, "a number of at least 0")
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    if scaler is not None and not isinstance(scaler, GradScaler):
        raise bad_option("scaler", type(scaler).__name__, "None or a torch.amp.GradScaler")
    roles: dict[int, Role] = {}
    for module in model.modules():
        for tensor in getattr(module, "parametrizations", {}).values() if is_parametrized(module) else ():
            if isinstance(how := tensor[0], Expansion):
                roles |= {id(p): role for p, role in zip(originals(tensor), how.roles, strict=True)}
                if "inner" in how.roles:
                    how.set_decay(2 * decay_factor * weight_decay, scaler)
    decays: dict[Role, float] = {"plain": weight_decay, "filtered": 0.0, "inner": inner_weight_decay}
    groups = [
        {"params": [p for p in model.parameters() if roles.get(id(p), "plain") == role], "weight_decay": decay}
        for role, decay in decays.items()
    ]
    return [group for group in groups if group["params"]]


@dataclass(frozen=True)
class Target:
    """A layer to expand, its name, and the batch norm directly behind it where the method looks for one."""

    name: str
    layer: nn.Module
    bn: nn.Module | None


def select(model: nn.Module, method: WeightMethod | BranchMethod, layers: Iterable[str] | None) -> list[Target]:
    """What `expand` would expand; raises what it raises."""
    if isinstance(method, type) or not isinstance(method, (WeightMethod, BranchMethod)):
        shown = method.__name__ + " (a class: call it)" if isinstance(method, type) else type(method).__name__
        raise bad_option("method", shown, "KFLO(), DOConv(), ACNet() or DBB()")
    network = bare(model, "expand")
    modules = {plain_name(name): module for name, module in network.named_modules()}
    named = None if layers is None else _named(network, layers)
    branches = isinstance(method, BranchMethod)
    behind = batch_norms_behind(network) if branches else {}
    if named is None:
        chosen = {
            name: module
            for name, module in modules.items()
            if has_filters(module) and method.wants(module) and (not branches or _takes_a_bias(module, behind))
        }
        if not chosen:
            where = " (a convolution with a bias, or with a plain batch norm directly behind it)" if branches else ""
            raise ValueError(f"{type(network).__name__} has no layer that {method!r} expands{where}")
    else:
        chosen = named
    blocks = [module for module in modules.values() if isinstance(module, Branches)]
    inside = {id(part) for block in blocks for part in block.modules()}
    owners = _owners(network)
    for name, module in chosen.items():
        reason = _refusal(module, id(module) in inside, owners) or method.refuses(module)
        if reason is None and branches and module is network:
            reason = "it is the whole network and has no place in one"
        if reason is None and branches and not _takes_a_bias(module, behind):
            reason = "it has no bias and no batch norm directly behind it that could take the folded one"
        if reason is not None:
            raise ValueError(f"layer {name!r} cannot be expanded with {method!r}: {reason}")
    return [Target(name, module, behind.get(module)) for name, module in chosen.items()]


def _named(network: nn.Module, layers: Iterable[str]) -> dict[str, nn.Module]:
    names = layer_names(layers)
    # A module may have several names.
    modules = {plain_name(name): module for name, module in network.named_modules(remove_duplicate=False)}
    for name in names:
        if name not in modules:
            raise unknown_name("layer", name, [n for n, module in modules.items() if has_filters(module)])
    first = {id(modules[name]): name for name in reversed(names)}
    return {name: modules[name] for name in first.values()}


def _takes_a_bias(module: nn.Module, behind: Mapping[nn.Module, nn.Module]) -> bool:
    """Whether the plain network has a place for the bias that branches fold into."""
    return module in behind or module._parameters.get("bias") is not None


def bare(model: nn.Module, doing: str) -> nn.Module:
    """The network inside ``torch.compile``; refuses wrappers that know a network's parameters by themselves."""
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
    if any(isinstance(p, DTensor) for p in model.parameters()):
        when = "a network that holds the gathered state_dict" if doing == "collapse" else "before fully_shard"
        raise ValueError(f"cannot {doing} sharded weights (DTensor): {doing} {when}")
    return model


def expanded_layer(name: str, module: nn.Module) -> str | None:
    """The layer that a module of this name expands; ``None`` if it is no part of an expansion."""
    if not isinstance(module, (Branches, Expansion)):
        return None
    return plain_name(name).partition(".parametrizations.")[0]


def _expanded(module: nn.Module) -> bool:
    return is_parametrized(module, "weight") and isinstance(module.parametrizations["weight"][0], Expansion)  # type: ignore[index]


def _owners(network: nn.Module) -> dict[int, int]:
    """How many modules hold each parameter, by its id."""
    owners: dict[int, int] = {}
    for module in network.modules():
        for parameter in module._parameters.values():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return owners


def _refusal(module: nn.Module, inside: bool, owners: dict[int, int]) -> str | None:
    """Why no method can expand this module, or ``None``."""
    if not has_filters(module):
        if inside or isinstance(module, Branches):
            return "it is expanded already"
        return f"it is a {type(module).__name__}, which has no filters"
    if inside or _expanded(module):
        return "it is expanded already"
    if is_parametrized(module):
        return "it has a parametrization already"
    weight, bias = module._parameters.get("weight"), module._parameters.get("bias")
    if weight is None:
        return "its weight is not a parameter but computed from others"
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return "it is lazy and has no weight yet: run one forward pass first"
    if getattr(module, "bias", None) is not bias:
        return "its bias is not a parameter"
    if weight.numel() == 0:
        return "its weight is empty"
    if not weight.is_floating_point():
        return f"its weight has the type {weight.dtype}"
    for tensor, parameter in (("kernel", weight), ("bias", bias)):
        if parameter is not None and owners[id(parameter)] > 1:
            return f"it shares its {tensor} with another layer: leave it out with layers="
    return None


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
