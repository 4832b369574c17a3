"""Which layers of a network take part in a method, and why the others cannot.

`reason_against` alone decides it: a method says what it needs of a layer (`Need`), the answer is a sentence.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.common.modules import plain_name, unwrap
from filtersmith.common.options import bad_option, layer_names, unknown_name
from filtersmith.filters.layer import (
    FilterLayer,
    has_filters,
    is_expansion,
    sums_branches,
    underlying_filters,
    weight_of,
)

LAZY = "it is lazy and has no shape yet (run one forward pass first)"
EXPANDED = (
    "it is expanded already, and its parameters are not the kernel that is deployed "
    "(fs.collapse(model) gives the plain network)"
)
FLATTENED = (
    "FullyShardedDataParallel flattens the weights, so that filters cannot be told apart "
    "(use torch.distributed.fsdp.fully_shard or DistributedDataParallel)"
)
SHARDED = "its weight is sharded, and no process rank has all of it (use DistributedDataParallel)"
META = "its weight is on the meta device and has no values yet (load them first)"
SHARES = "it shares its kernel with another layer"
OF_ALL = (EXPANDED, FLATTENED, SHARDED, LAZY, SHARES)
"""How reasons begin that are not one layer's own: the network as a whole was made so, or is not ready."""

_log = logging.getLogger("filtersmith")


@dataclass(frozen=True)
class Need:
    """What a method needs of a layer.

    Attributes:
        linear: whether linear layers take part, too: ``"always"``, where they are ``"named"``, or ``"never"``.
        rows: its filters are rows or columns of a parameter; KFLO's underlying ones will do.
        deployed: it is not expanded: what is trained is what is deployed.
        plain: none of its tensors is computed from others, and its weight is of numbers that can be trained.
        whole: this process rank has all of its weight, with values.
        own: no other layer has its kernel.
        own_bias: no other layer has its bias.
        trained: its weight is not frozen.
    """

    linear: Literal["always", "named", "never"] = "named"
    rows: bool = True
    deployed: bool = False
    plain: bool = False
    whole: bool = False
    own: bool = False
    own_bias: bool = False
    trained: bool = False


@dataclass(frozen=True)
class Surroundings:
    """What of a network bears on each of its layers.

    Attributes:
        layers: those with filters, by name; a block of branches counts as the convolution that it stands for.
        inside: the modules, by id, that are parts of such blocks.
        holders: parameter, by id -> the names of the modules that hold it.
        flattened: whether FSDP1 has the weights.
    """

    layers: Mapping[str, nn.Module] = field(default_factory=dict)
    inside: AbstractSet[int] = frozenset()
    holders: Mapping[int, list[str]] = field(default_factory=dict)
    flattened: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> Surroundings:
        """Those of the layers of a network, also of one that is wrapped."""
        if not isinstance(model, nn.Module):
            raise bad_option("model", type(model).__name__, "a torch.nn.Module")
        modules = {plain_name(name): module for name, module in unwrap(model).named_modules()}
        blocks = [module for module in modules.values() if sums_branches(module)]
        inside = {id(part) for block in blocks for part in block.modules() if part is not block}
        candidates = ((name, m) for name, m in modules.items() if has_filters(m) or sums_branches(m))
        layers = {name: module for name, module in candidates if id(module) not in inside}
        holders: dict[int, list[str]] = {}
        for name, module in modules.items():
            for parameter in module._parameters.values():
                holders.setdefault(id(parameter), []).append(name)
        flattened = any(type(module).__name__ == "FullyShardedDataParallel" for module in modules.values())
        return cls(layers, inside, holders, flattened)


NEED, ALONE, NOTHING = Need(), Surroundings(), MappingProxyType[str, str]({})


def reason_against(
    name: str,
    module: nn.Module,
    need: Need = NEED,
    around: Surroundings = ALONE,
    graph: Mapping[str, str] = NOTHING,
) -> str | None:
    """Why a layer cannot take part in a method, as a sentence about "it"; ``None`` if it can.

    Args:
        name: of the layer in its network.
        module: the layer, or a block of branches that stands in its place.
        need: what the method needs of a layer.
        around: the layer's surroundings in its network.
        graph: what the network's graph tells: name of a layer -> why it can't take part.
    """
    if not has_filters(module) and not sums_branches(module):
        return EXPANDED if id(module) in around.inside else f"it is a {type(module).__name__}, which has no filters"
    if around.flattened and (need.rows or need.whole):
        return SHARDED if need.whole else FLATTENED
    weight, bias = weight_of(module), module._parameters.get("bias")
    expanded = sums_branches(module) or id(module) in around.inside or is_expansion(module)
    if expanded and (need.deployed or (need.rows and underlying_filters(module) is None)):
        return EXPANDED
    if need.linear == "never" and isinstance(module, nn.Linear):
        return "it is a linear layer"
    computed = "weight" if need.rows and weight is None else _computed(module) if need.plain else None
    if computed is not None:
        return (
            f"its {computed} is not a parameter but computed from others (a parametrization, weight or spectral norm)"
        )
    if weight is not None and is_lazy(weight):
        return LAZY
    if need.plain and weight is not None and weight.numel() == 0:
        return "its weight is empty"
    if need.plain and weight is not None and not weight.is_floating_point():
        return f"its weight has the type {weight.dtype}"
    trained = [weight] if weight is not None else module.parameters()  # or what the weight is computed from
    if need.whole and any(isinstance(parameter, DTensor) for parameter in trained):
        return SHARDED
    if need.whole and need.deployed and any(parameter.is_meta for parameter in trained):
        return META
    for tensor, parameter, asked in (("kernel", weight, need.own), ("bias", bias, need.own_bias)):
        if asked and parameter is not None and len(holders := around.holders.get(id(parameter), [])) > 1:
            other = next(holder for holder in holders if holder != name)
            shares = SHARES.replace("kernel", tensor)
            return f"{shares}, {other!r} (use a network in which each has its own)"
    if need.trained and weight is not None and not weight.requires_grad:
        return "its weight is frozen"
    return graph.get(name)


def cannot(name: str, doing: str, reason: str, way_out: str = "leave it out with layers=") -> ValueError:
    """The error for a layer that cannot take part, with what `reason_against` says of it."""
    return ValueError(f"layer {name!r} cannot {doing}: {reason}" + f"; {way_out}" * bool(way_out))


def _computed(module: nn.Module) -> str | None:
    """The name of a tensor of a layer that is computed from others, without computing a weight."""
    if is_parametrized(module):
        return str(next(iter(module.parametrizations)))  # type: ignore[arg-type]
    if module._parameters.get("weight") is None:
        return "weight"
    return "bias" if getattr(module, "bias", None) is not module._parameters.get("bias") else None


def filter_layers(
    model: nn.Module, layers: Iterable[str] | None = None, need: Need = NEED, doing: str = "take part"
) -> tuple[FilterLayer, ...]:
    """The layers of a network that take part in a method, in the order of ``named_modules``.

    Without ``layers`` these are all convolutions that can; the log says which cannot. ``layers`` names the wanted
    ones, linear layers allowed. Two layers that share one weight tensor count as one, under the first name.

    Raises ``ValueError`` where there is no such layer, a name is unknown, a layer that is named cannot take part, or
    the network as a whole cannot (`OF_ALL`).
    """
    around = Surroundings.of(model)
    chosen = _chosen(model, layers, need, around)
    reasons = {name: reason_against(name, module, need, around) for name, module in chosen.items()}
    found: dict[int, FilterLayer] = {}
    for name in able(reasons, doing, named=layers is not None):
        layer = FilterLayer(name, chosen[name])
        found.setdefault(id(layer.weight), layer)
    return tuple(found.values())


def able(reasons: Mapping[str, str | None], doing: str, *, named: bool) -> list[str]:
    """The names of the layers that nothing speaks against; the log says what of the others does.

    Args:
        reasons: layer -> why it cannot, or ``None``; at least one.
        doing: what.
        named: whether the user named the layers. Then all of them have to be able.

    Raises:
        ValueError: one that was named cannot, the network as a whole cannot (`OF_ALL`), or none can.
    """
    against = {name: reason for name, reason in reasons.items() if reason is not None}
    for name, reason in against.items():
        if named or reason.startswith(OF_ALL):
            raise cannot(name, doing, reason, "leave it out with layers=" * (len(against) < len(reasons)))
    if len(against) == len(reasons):
        name, reason = next(iter(against.items()))
        raise cannot(name, doing, reason, "nor can any other layer" * (len(against) > 1))
    for name, reason in against.items():
        _log.info("layer %r cannot %s: %s", name, doing, reason)
    return [name for name in reasons if name not in against]


def layers_left_out(model: nn.Module, layers: Iterable[str] | None = None, need: Need = NEED) -> dict[str, str]:
    """Layer -> why it takes no part, of all layers with filters; where `filter_layers` refuses, that reason."""
    around = Surroundings.of(model)
    reasons = {name: reason_against(name, module, need, around) for name, module in around.layers.items()}
    if layers is not None and not around.flattened:
        chosen = _chosen(model, layers, need, around)
        reasons |= dict.fromkeys(reasons.keys() - chosen.keys(), "layers= does not name it")
    elif need.linear == "named":
        linear = (name for name, module in around.layers.items() if isinstance(module, nn.Linear))
        reasons |= dict.fromkeys(linear, "it is a linear layer, which takes part where layers= names it")
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _chosen(model: nn.Module, layers: Iterable[str] | None, need: Need, around: Surroundings) -> dict[str, nn.Module]:
    """The layers that are meant, by name: those named, else all of the kinds that take part unnamed."""
    if around.flattened:
        raise ValueError(FLATTENED)  # before names are looked at, which it changes
    if layers is not None:
        parts = {plain_name(name): m for name, m in unwrap(model).named_modules() if id(m) in around.inside}
        known = {**around.layers, **{name: m for name, m in parts.items() if has_filters(m)}}
        chosen = layer_names(layers)
        for name in chosen:
            if name not in known:
                raise unknown_name("layer", name, known)
        return {name: known[name] for name in chosen}
    linear = need.linear == "always"
    found = {name: module for name, module in around.layers.items() if linear or not isinstance(module, nn.Linear)}
    if not found:
        what = "no convolution and no linear layer" if linear else "no convolution"
        way_out = ": name the layers that are meant with layers=" * (need.linear == "named")
        raise ValueError(f"{type(unwrap(model)).__name__} has {what}{way_out}")
    return found
