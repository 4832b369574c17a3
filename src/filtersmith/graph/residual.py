"""Where the residual branches and the sections of a network end, read off its graph."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from filtersmith.graph.ops import Operation, in_place, is_activation, operation
from filtersmith.graph.resolution import Resolution, resolutions, spatial
from filtersmith.graph.trace import Part, kept_elsewhere

_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm)
_BY_CHANNEL = (Operation.KEEPS_ZERO, Operation.MOVES_ZERO, Operation.PER_CHANNEL)
_PARTS_OF_CHANNELS = (torch.split, torch.chunk, torch.unbind, torch.tensor_split, "split", "chunk", "unbind")


@dataclass(frozen=True)
class Place:
    """The last module of a residual branch, or of a section.

    Attributes:
        name: of a convolution, a normalisation or an activation.
        channels: that it gives.
        dims: dimensions of space.
        like: a kernel nearby, whose type, device and memory format new layers should have.
        overwritten: whether what comes behind may write into what it gives, or into what shares its memory.
    """

    name: str
    channels: int
    dims: int
    like: Tensor
    overwritten: bool


def places(part: Part) -> tuple[dict[int, list[Place]], dict[str, str]]:
    """The ends of the residual branches, by section; in a network without residual sums the ends of its sections.

    A section is what works at one resolution; they are numbered from 1, in the order of their first places.

    Returns:
        Section -> places, and block -> why the branch of a sum in it has none.
    """
    sizes = resolutions(part)
    sums = [node for node in part.graph.nodes if _is_residual(part, node)]
    found: list[tuple[fx.Node, fx.Node]] = []  # a section's node, and the end
    reasons: dict[str, str] = {}
    for node in sums:
        end = _branch_end(part, node, sizes)
        if isinstance(end, str):
            reasons.setdefault(_block(node), end)
        else:
            found.append((node, end))
    if not sums:
        found = [(end, end) for end in _section_ends(part, sizes)]
    elsewhere = kept_elsewhere(part.module)
    sections: dict[Resolution | None, list[Place]] = {}
    for node, end in found:
        if _calls(part, end) > 1:
            reasons.setdefault(_block(node), f"{part.name(end)} is called more than once")
        elif id(part.called(end)) in elsewhere:
            reasons.setdefault(_block(node), f"{part.name(end)} is also kept in a plain list or attribute")
        else:
            sections.setdefault(sizes[node], []).append(_place(part, end))
    return dict(enumerate(sections.values(), 1)), reasons


def _place(part: Part, end: fx.Node) -> Place:
    above = _above(end)
    convolution = next(_module(part, n) for n in reversed(part.graph.nodes) if n in above and _convolves(part, n))
    assert isinstance(convolution, _ConvNd), "asked for"
    wide: Any = next(m for n in _chain(end) if isinstance(m := _module(part, n), (_ConvNd, *_NORMS)))
    channels = next(getattr(wide, n) for n in ("out_channels", "num_features", "num_channels") if hasattr(wide, n))
    return Place(part.name(end), channels, len(convolution.kernel_size), convolution.weight, _overwritten(part, end))


# --- residual branches -----------------------------------------------------------------------------------


def _is_residual(part: Part, node: fx.Node) -> bool:
    """Whether a value is the sum of two others, and one of them has convolutions behind it that the other has not."""
    sides = _sides(node)
    return len(sides) == 2 and any(_own_convolutions(part, *pair) for pair in (sides, sides[::-1]))


def _sides(node: fx.Node) -> list[fx.Node]:
    """The operands of a sum that depend on the network's input; none where it is no sum."""
    if node.op == "call_module" or operation(node, None, 0) is not Operation.SUM:
        return []
    return [n for n in node.all_input_nodes if _computed(n)]


def _computed(node: fx.Node) -> bool:
    """Whether a value depends on the network's input; not on parameters and constants alone."""
    return any(n.op == "placeholder" for n in _above(node))


def _own_convolutions(part: Part, one: fx.Node, other: fx.Node) -> int:
    """How many convolutions are behind ``one`` and not behind ``other``."""
    return sum(_convolves(part, n) for n in _above(one) - _above(other))


def _branch_end(part: Part, node: fx.Node, sizes: dict[fx.Node, Resolution | None]) -> fx.Node | str:
    """For the sum of a shortcut and a branch the branch's last normalisation or convolution, or why there is none.

    The branch has more convolutions of its own. What comes after its last normalisation stays behind the regulator:
    what drops whole branches, scales or shifts them, or a gate (squeeze and excitation).
    """
    one, other = _sides(node)
    own, others = _own_convolutions(part, one, other), _own_convolutions(part, other, one)
    if own == others:
        return "its two branches have the same number of convolutions"
    end, shortcut = (one, other) if own > others else (other, one)
    if shortcut.target is operator.getitem and shortcut.all_input_nodes[0].target in _PARTS_OF_CHANNELS:
        return "its shortcut is a part of the channels"
    while not (_convolves(part, end) or isinstance(_module(part, end), _NORMS)):
        sources = [n for n in end.all_input_nodes if _computed(n)]
        kind = operation(end, _module(part, end), spatial(part))
        # Of a product with a gate, which is made of it, the value itself.
        gated = [n for n in sources if all(n in _above(another) for another in sources)]
        by_channel = kind in (*_BY_CHANNEL, Operation.SUM) and len(sources) == 1
        if not gated or not (by_channel or (kind is Operation.PRODUCT and len(gated) == 1)):
            return f"its branch ends in {_described(part, end)}"
        (end,) = gated
    if sizes[end] != sizes[node]:
        return "its branch changes the resolution behind its last convolution"
    return end


# --- sections --------------------------------------------------------------------------------------------


def _section_ends(part: Part, sizes: dict[fx.Node, Resolution | None]) -> list[fx.Node]:
    """The last convolution at each resolution, followed through its normalisation and activation; in their order."""
    last = {sizes[node]: node for node in part.graph.nodes if _convolves(part, node)}
    order = {node: number for number, node in enumerate(part.graph.nodes)}
    return [_followed(part, node, sizes) for node in sorted(last.values(), key=order.__getitem__)]


def _followed(part: Part, node: fx.Node, sizes: dict[fx.Node, Resolution | None]) -> fx.Node:
    while len(node.users) == 1:
        (user,) = node.users
        module = _module(part, user)
        follows = module is not None and (
            isinstance(module, _NORMS) or operation(user, module, spatial(part)) is Operation.KEEPS_ZERO
        )
        if not follows or sizes[user] != sizes[node]:
            break  # a pooling, for instance
        node = user
    return node


# --- the graph -------------------------------------------------------------------------------------------


def _above(node: fx.Node) -> set[fx.Node]:
    """A value and everything that it is made of."""
    found, left = set(), [node]
    while left:
        if (current := left.pop()) not in found:
            found.add(current)
            left += current.all_input_nodes
    return found


def _chain(node: fx.Node) -> Iterator[fx.Node]:
    """A value, what it is made of, and so on, while that is one other value."""
    yield node
    while len(node.all_input_nodes) == 1:
        (node,) = node.all_input_nodes
        yield node


def _module(part: Part, node: fx.Node) -> nn.Module | None:
    return part.called(node) if node.op == "call_module" else None


def _convolves(part: Part, node: fx.Node) -> bool:
    return isinstance(_module(part, node), _ConvNd)


def _calls(part: Part, node: fx.Node) -> int:
    """How often the module that a node calls is called."""
    return sum(n.op == "call_module" and n.target == node.target for n in part.graph.nodes)


def _block(node: fx.Node) -> str:
    """The innermost module whose code a call stands in."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack and stack[-1][0] else node.name


def _described(part: Part, node: fx.Node) -> str:
    module = _module(part, node)
    target: Any = node.target
    return type(module).__name__ if module is not None else str(getattr(target, "__name__", target))


def _overwritten(part: Part, node: fx.Node) -> bool:
    """Whether what reads a value may write into it, or into what shares its memory: views, what returns it as it is.

    torch.fx does not tell ``x += y`` from ``x + y``. Of a call that is not known here the worst is believed.
    """
    return any(user.op != "output" and not _only_reads(part, node, user) for user in node.users)


def _only_reads(part: Part, node: fx.Node, user: fx.Node) -> bool:
    """Whether a call surely leaves a value alone, and gives one of its own."""
    module = _module(part, user)
    if in_place(user, module):
        return False
    if isinstance(module, (_ConvNd, nn.Linear, *_NORMS)):
        return True
    if is_activation(user, module):
        return not any(argument is True for argument in user.args)  # inplace
    if user.target in (torch.add, torch.sub, torch.mul, torch.cat, torch.concat):
        return "out" not in user.kwargs
    kind = operation(user, module, spatial(part))
    if kind in (Operation.SUM, Operation.PRODUCT):
        return user.args[0] is not node
    name = type(module).__name__ if module is not None else getattr(user.target, "__name__", "")
    return "pool" in name.lower() and kind is Operation.KEEPS_ZERO
