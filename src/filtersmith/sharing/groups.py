"""Which convolutions share a kernel: those whose kernels fit each other, or those that somebody names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from filtersmith.common.modules import bare, plain_name
from filtersmith.common.options import bad_option, unknown_name
from filtersmith.filters import Need, Surroundings, cannot, reason_against
from filtersmith.graph.resolution import resolutions
from filtersmith.graph.trace import parts
from filtersmith.sharing.regulators import Regulator
from filtersmith.sharing.whole import unready

Scope = Literal["network", "stage"]

KERNEL = Need(linear="never")
"""What a layer needs to share its kernel with another; `plain` has looked at the network as a whole."""


def check_scope(option: str, value: Any) -> str | list[list[str]]:
    """``"network"``, ``"stage"`` or lists of layer names, as lists; ``ValueError`` for anything else."""
    allowed = "'network', 'stage' or lists of layer names"
    if isinstance(value, str) and value in ("network", "stage"):
        return value
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise bad_option(option, value, allowed)
    groups = [list(names) if isinstance(names, Iterable) and not isinstance(names, str) else names for names in value]
    if not groups or not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in groups):
        raise bad_option(option, value, allowed)
    return groups


def groups_to_share(network: nn.Module, scope: Scope | Sequence[Sequence[str]]) -> list[list[str]]:
    """The groups of layers that ``scope`` means. ``ValueError`` where it means none, or what cannot be shared."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, _ConvNd)}
    wanted = check_scope("scope", scope)
    if isinstance(wanted, str):
        groups = [names for names in _fitting(network, layers, wanted) if len(names) > 1]
        if not groups:
            where = " at the same resolution" if wanted == "stage" else ""
            raise ValueError(
                f"scope={scope!r} matches nothing: {type(network).__name__} has no two convolutions of equal shape"
                + where
            )
    else:
        groups = _named(network, layers, wanted)
        for name in (name for group in groups for name in group):
            if (reason := reason_against(name, layers[name], KERNEL)) is not None:
                raise cannot(name, "share its kernel", reason, way_out="share kernels before it is computed")
    return groups


def layers_not_shared(model: nn.Module, scope: Scope | Sequence[Sequence[str]]) -> dict[str, str]:
    """Layer -> why its kernel stays its own, of all layers with filters; where sharing is refused, that reason."""
    around = Surroundings.of(model)
    try:
        network = bare(model, "share kernels")
    except ValueError as refusal:
        return dict.fromkeys(around.layers, str(refusal))
    if reasons := unready(network):
        return reasons
    layers = {name: module for name, module in network.named_modules() if isinstance(module, _ConvNd)}
    by_name = not isinstance(scope, str)
    groups = list(_fitting(network, layers, scope)) if isinstance(scope, str) else [list(names) for names in scope]
    shared = {plain_name(name) for names in groups for name in names if len(names) > 1}
    alone = {plain_name(name) for names in groups for name in names} - shared
    regulators = _of_regulators(network)
    for name, module in around.layers.items():
        reason = reason_against(name, module, KERNEL, around)
        if reason is None and name in alone:
            reason = "no other convolution has a kernel of its shape" + " at its resolution" * (scope == "stage")
        elif reason is None and name not in shared:
            reason = "scope does not name it" if by_name else "its resolution cannot be told from the graph"
            reason = "it is a regulator's, which is free" if id(module) in regulators else reason
        if reason is not None:
            reasons[name] = reason
    return reasons


def _of_regulators(network: nn.Module) -> set[int]:
    """The parts of regulators, by id, whose kernels stay their own."""
    return {id(part) for module in network.modules() if isinstance(module, Regulator) for part in module.modules()}


def _fitting(network: nn.Module, layers: dict[str, _ConvNd], scope: str) -> Iterator[list[str]]:
    """The layers whose kernels fit each other, in the order of the network; also one alone. No computed kernels."""
    left_out = _of_regulators(network)
    left_out |= {id(layer) for name, layer in layers.items() if reason_against(name, layer, KERNEL) is not None}
    stages = _stages(network) if scope == "stage" else dict.fromkeys(map(id, layers.values()))
    groups: dict[Any, list[str]] = {}
    for name, module in layers.items():
        if id(module) in stages and id(module) not in left_out:
            groups.setdefault((_kernel_type(module), stages[id(module)]), []).append(name)
    yield from groups.values()


def _named(network: nn.Module, layers: dict[str, _ConvNd], groups: list[list[str]]) -> list[list[str]]:
    """The user's groups, checked; a layer by its first name."""
    every = dict(network.named_modules(remove_duplicate=False))
    first = {id(module): name for name, module in layers.items()}
    seen: set[str] = set()
    chosen = []
    for names in groups:
        group = []
        for name in names:
            if name not in every:
                raise unknown_name("layer", name, layers)
            if id(every[name]) not in first:
                reason = reason_against(name, every[name], KERNEL)
                raise cannot(name, "share its kernel", str(reason), way_out="")
            group.append(first[id(every[name])])
        if len(set(group)) < 2:
            raise bad_option("scope", names, "groups of at least two different layers")
        if repeated := sorted(seen & set(group)):
            raise ValueError(f"scope names the layer {repeated[0]!r} in two groups")
        seen |= set(group)
        one = _kernel_type(layers[group[0]])
        for name in group[1:]:
            if (other := _kernel_type(layers[name])) != one:
                kernels = f"{_described(one)} and {_described(other)}"
                raise ValueError(f"layers {group[0]!r} and {name!r} cannot share a kernel: {kernels}")
        chosen.append(group)
    return chosen


def _kernel_type(module: Any) -> tuple[Any, ...]:
    """What two layers must have in common to use one kernel.

    A weight that is computed from others is not read, which may change those (spectral norm).
    """
    transposed = isinstance(module, _ConvTransposeNd)
    channels = (module.out_channels, module.in_channels)
    rows, columns = channels[::-1] if transposed else channels
    weight = module._parameters.get("weight")
    kind = next(module.parameters()) if weight is None else weight
    shape = (rows, columns // module.groups, *module.kernel_size)
    return shape, kind.dtype, kind.device, module.groups, transposed, kind.requires_grad


def _described(kernel: tuple[Any, ...]) -> str:
    shape, dtype, device, groups, transposed, trained = kernel
    size = "x".join(map(str, shape))
    grouped = f" in {groups} groups" if groups > 1 else ""
    frozen = "" if trained else ", frozen"
    return f"{size}{grouped}{' transposed' * transposed} ({str(dtype).removeprefix('torch.')}, {device}{frozen})"


def _stages(network: nn.Module) -> dict[int, Any]:
    """Module, by id -> the part of the network that it is in, and the resolution of what it gives, where known."""
    found: dict[int, Any] = {}
    for part in parts(network, network.training):
        sizes = resolutions(part)
        for node in part.graph.nodes:
            if node.op == "call_module" and sizes[node] is not None:
                found.setdefault(id(part.called(node)), (part.prefix, sizes[node]))
    return found
