"""Zeros on their way where channels cannot be told apart any more.

Behind a view, a permutation or a chunk zeros in full width still stand for what is left out, in whole slices of the
tensor. That is right for as long as zeros stay what they are, up to what adds up over several of them: a convolution,
a linear layer, a sum with something else. Whatever else they meet may make something of them (``z / z.std()`` makes
NaN, a norm or a depthwise convolution with a bias what is no zero): the filters that they stand for have to stay.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.rnn import RNNBase

from filtersmith.graph.classes import is_torchs, tampered
from filtersmith.graph.flow import producers_of
from filtersmith.graph.ops import ELEMENTWISE, KEEPS_ZERO, OPERATIONS, Operation, of_module
from filtersmith.graph.sites import is_depthwise
from filtersmith.graph.step import Note, Step

Carried = frozenset[str]
"""The producers whose filters, left out, may stand in a tensor as whole slices of zeros."""
NOTHING: Carried = frozenset()


def _named(names: str) -> Iterator[Any]:
    """Functions of torch, and methods of tensors, by name."""
    for name in names.split():
        yield from (name, f"{name}_")
        for home in (torch, F, operator):
            if hasattr(home, name):
                yield getattr(home, name)


MOVES_DATA = frozenset(
    _named(
        "view reshape permute transpose swapaxes swapdims movedim moveaxis t adjoint unsqueeze squeeze expand "
        "expand_as view_as reshape_as type_as repeat repeat_interleave tile flatten unflatten ravel chunk split "
        "split_with_sizes tensor_split hsplit vsplit dsplit unbind stack hstack vstack dstack cat concat concatenate "
        "getitem narrow select index_select gather take_along_dim diagonal roll flip fliplr flipud rot90 unfold fold "
        "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle broadcast_to"
    )
)
"""They put numbers elsewhere, and zeros."""
MOVING_MODULES = (nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Unfold, nn.Fold, nn.Flatten, nn.Unflatten)
ADDS_UP = frozenset(
    _named(
        "matmul mm bmm einsum baddbmm addmm addbmm linear bilinear tensordot conv1d conv2d conv3d conv_transpose1d "
        "conv_transpose2d conv_transpose3d scaled_dot_product_attention multi_head_attention_forward __matmul__"
    )
)
"""Zeros in it are as good as nothing there, and what it gives is a sum."""
ADDING_MODULES = (nn.Linear, nn.Bilinear, nn.MultiheadAttention, RNNBase)
KEEPING_MODULES = (nn.PReLU, nn.LocalResponseNorm, nn.CrossMapLRN2d)
FEWER = frozenset(
    _named("mean sum amax amin max min aminmax std var norm any all argmax argmin topk sort cumsum count_nonzero")
)
"""Of slices of zeros they make zeros, or places."""
MEASURES = frozenset(
    (
        *(len, "size", "dim", "ndimension", "numel", "stride", "is_contiguous"),
        *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
    )
)
"""They read no number of the tensor."""
_MEASURED = ("shape", "dtype", "device", "ndim")
NORMALISES = frozenset(_named("normalize"))


def measures(node: fx.Node) -> bool:
    """Whether a call asks for a tensor's size, type or place, and for none of its numbers."""
    return node.target in MEASURES or (node.target is getattr and node.args[1] in _MEASURED)


def mixes(step: Step) -> bool | None:
    """Whether a call that does not keep channels apart carries zeros on; ``None`` where it is not known to do either.

    It gets zeros for the channels that are left out.
    """
    module, target = step.module, step.node.target
    if module is not None:
        if isinstance(module, MOVING_MODULES):
            return True
        return False if isinstance(module, ADDING_MODULES) else None
    if target in MOVES_DATA or (target is F.pad and _pads_zeros(step.node)) or target in NORMALISES:
        return True
    return False if target in ADDS_UP else None


def carried(step: Step, begun: Carried, zeros: Mapping[fx.Node, Carried]) -> tuple[Carried, tuple[Note, ...]]:
    """What zeros a call hands on, and whose filters have to stay.

    Args:
        step: the call.
        begun: those that begin here, see `mixes`.
        zeros: of each value so far.
    """
    node = step.node
    met = NOTHING.union(*(zeros[source] for source in node.all_input_nodes))
    if not met or node.op in ("placeholder", "get_attr") or (node.op == "output" and step.network):
        return begun, ()
    if node.op == "output":
        return NOTHING, _stay(met, "zeros in its place leave the part of the network that torch.fx can trace")
    passed = _of_module(step, met) if step.module is not None else _of_function(step, met, zeros)
    if passed is None:
        return begun, _stay(met, f"zeros in its place meet {step.name}, which may make something else of them")
    return passed | begun, ()


def _stay(producers: Carried, why: str) -> tuple[Note, ...]:
    return tuple(Note(producer, "stays", why) for producer in sorted(producers))


def _of_module(step: Step, met: Carried) -> Carried | None:
    module: Any = step.module
    if tampered(module) is not None:
        return None
    if isinstance(module, _ConvNd):
        if not step.answers.loses_filters(module):
            return None
        if not is_depthwise(module):
            return NOTHING
        return met if module.bias is None else None  # each channel by itself: nothing adds up
    if is_torchs(module):
        if isinstance(module, ADDING_MODULES):
            return NOTHING
        if isinstance(module, (*MOVING_MODULES, *KEEPING_MODULES)):
            return met
    if (known := of_module(module)) in ELEMENTWISE:
        return met if known is KEEPS_ZERO else None
    return met if step.answers.keeps_zero(step.node, module) else None


def _of_function(step: Step, met: Carried, zeros: Mapping[fx.Node, Carried]) -> Carried | None:
    node, target = step.node, step.node.target
    known = OPERATIONS.get(target)
    if known is Operation.SUM:
        return _of_sum(step, zeros)
    if known is Operation.DIVISION:
        return _of_division(step, met, zeros)
    if target is getattr:
        return met if node.args[1] in ("data", "real", "T", "mT", "H", "mH") else NOTHING
    if target in MEASURES or target in ADDS_UP:
        return NOTHING
    if target is F.pad:
        return met if _pads_zeros(node) else None
    if known in (KEEPS_ZERO, Operation.PRODUCT) or target in MOVES_DATA or target in FEWER or target in NORMALISES:
        return met
    return met if step.answers.keeps_zero(node, None) else None


def _of_sum(step: Step, zeros: Mapping[fx.Node, Carried]) -> Carried | None:
    """Zeros are left where all operands have them; a number or a parameter would move them."""
    operands = step.operands
    if len(operands) < 2 and not any(isinstance(arg, (int, float)) and arg == 0 for arg in step.node.args):
        return None
    if not all(step.ancestors[operand] for operand in operands):
        return None
    sides = [zeros[operand] | _made(step, operand) for operand in operands]
    return frozenset.intersection(*sides)


def _of_division(step: Step, met: Carried, zeros: Mapping[fx.Node, Carried]) -> Carried | None:
    """Zeros may be divided, and by nothing that may be zero."""
    below = step.node.args[1] if len(step.node.args) > 1 else step.node.kwargs.get("other")
    if isinstance(below, fx.Node) and (zeros[below] or _made(step, below)):
        return None
    return met


def _made(step: Step, value: fx.Node) -> Carried:
    flow = step.flows[value]
    return frozenset(producers_of(flow.origins)) - flow.moved if flow is not None else NOTHING


def _pads_zeros(node: fx.Node) -> bool:
    value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
    return not value
