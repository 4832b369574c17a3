"""Expanding: what a network trains is replaced, in place, and what it computes is deployed.

A weight is computed from other parameters by ``torch.nn.utils.parametrize`` (KFLO, DO-Conv), or a convolution and the
batch norm behind it become a block of branches (ACNet, DBB). Expand, then make the optimizer (`param_groups`), then
wrap in DDP; train; `collapse` gives the plain network back as a new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from filtersmith.common.modules import bare, plain_name
from filtersmith.common.options import bad_option, layer_names, unknown_name
from filtersmith.common.snapshot import snapshot
from filtersmith.filters import OF_ALL, Need, Surroundings, able, has_filters, reason_against
from filtersmith.reparam.branches import Branches
from filtersmith.reparam.pairs import swap
from filtersmith.reparam.places import Places, places_for_branches, places_for_weights

NEED = Need(linear="always", deployed=True, plain=True, own=True, own_bias=True)
"""What every method needs of a layer that it expands."""


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
    """Expand the layers of a network, in place: train more than is deployed.

    Make the optimizer (`filtersmith.param_groups`) and wrap in DDP afterwards; `filtersmith.collapse` gives the plain
    network back.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 10))
        >>> images = torch.randn(4, 3, 8, 8)
        >>> before = model(images)
        >>> model = fs.expand(model, fs.KFLO(width=4), layers=["0"])
        >>> sum(p.numel() for p in model.parameters()), torch.allclose(model(images), before, atol=1e-6)
        (4042, True)

    Args:
        model: a plain network, or one whose other layers are expanded already.
        method: ``fs.KFLO()``, ``fs.DOConv()``, ``fs.ACNet()`` or ``fs.DBB()``.
        layers: names of the layers; by default those that the method's paper expands, but for those that it cannot
            (the log says which and why).

    Returns:
        ``model`` itself.

    Raises:
        ValueError: a named layer that is unknown, has no weight, cannot be expanded with this method, is parametrized
            already or shares its kernel; one that is expanded already; a network that is wrapped already, or without
            any layer to expand. The model is as it was. `filtersmith.why_not` lists the layers and reasons.

    Source: the methods' own papers, for example KFLO's, https://arxiv.org/abs/2207.05532
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
    places, around = _places(network, method), Surroundings.of(network)
    if layers is None:
        modules = ((plain_name(name), module) for name, module in network.named_modules())
        wanted = {name: module for name, module in modules if has_filters(module) and method.wants(module)}
        chosen = {name: m for name, m in wanted.items() if _is_meant(name, m, method, places, around)}
        if not chosen:
            raise _nothing(network, method, places)
    else:
        chosen = _named(network, layers)
    reasons = {name: _reason(name, module, method, places, around) for name, module in chosen.items()}
    names = able(reasons, f"be expanded with {method!r}", named=layers is not None)
    return [Target(name, chosen[name], places.behind.get(chosen[name])) for name in names]


def _nothing(network: nn.Module, method: WeightMethod | BranchMethod, places: Places) -> ValueError:
    where = ""
    if isinstance(method, BranchMethod):
        where = " (a convolution with a bias, or with a batch norm directly behind it)"
    for name, module in network.named_modules():
        if has_filters(module) and method.wants(module):
            where = f": of layer {plain_name(name)!r}, {_place_against(method, module, places)}"
            break
    return ValueError(f"{type(network).__name__} has no layer that {method!r} expands{where}")


def _is_meant(
    name: str, module: nn.Module, method: WeightMethod | BranchMethod, places: Places, around: Surroundings
) -> bool:
    """Whether a layer that is wanted is expanded, or refused: one without a place is neither, but for `OF_ALL`."""
    if _place_against(method, module, places) is None:
        return True
    against = reason_against(name, module, NEED, around) or ""
    return against.startswith(OF_ALL) and id(module) not in around.inside


def layers_not_expanded(model: nn.Module, method: WeightMethod | BranchMethod) -> dict[str, str]:
    """Layer -> why `expand` leaves it plain, of all layers with filters; where `expand` refuses, that reason."""
    try:
        network = bare(model, "expand")
    except ValueError as refusal:
        return dict.fromkeys(Surroundings.of(model).layers, str(refusal))
    places, around = _places(network, method), Surroundings.of(network)
    reasons = {}
    for name, module in around.layers.items():
        reason = _reason(name, module, method, places, around)
        if reason is None and not (has_filters(module) and method.wants(module)):
            reason = "the paper does not expand its kind (layers= may name it)"
        if reason is not None:
            reasons[name] = reason
    return reasons


def _places(network: nn.Module, method: WeightMethod | BranchMethod) -> Places:
    return places_for_branches(network) if isinstance(method, BranchMethod) else places_for_weights(network, method)


def _reason(
    name: str, module: nn.Module, method: WeightMethod | BranchMethod, places: Places, around: Surroundings
) -> str | None:
    """Why a method cannot expand a layer, or ``None``."""
    against = reason_against(name, module, NEED, around) or method.refuses(module)
    return against or _place_against(method, module, places)


def _place_against(method: WeightMethod | BranchMethod, module: nn.Module, places: Places) -> str | None:
    """What about a layer's place in the network is against expanding it; ``None``: nothing."""
    if (reason := places.reasons.get(module)) is not None:
        return reason
    has_place = module in places.behind or module._parameters.get("bias") is not None
    if not isinstance(method, BranchMethod) or has_place:
        return None
    reason = "it has no bias and no batch norm directly behind it that could take the folded one"
    return f"{reason}: {places.without[module]}" if module in places.without else reason


def _named(network: nn.Module, layers: Iterable[str]) -> dict[str, nn.Module]:
    names = layer_names(layers)
    # A module may have several names.
    modules = {plain_name(name): module for name, module in network.named_modules(remove_duplicate=False)}
    for name in names:
        if name not in modules:
            raise unknown_name("layer", name, [n for n, module in modules.items() if has_filters(module)])
    first = {id(modules[name]): name for name in reversed(names)}
    return {name: modules[name] for name in first.values()}
