"""What each operation between convolutions does to channels: one table.

`OPERATIONS` has all that is known; a new operation is one line there. What follows for the channels is decided by the
operation's kind, an `Operation`, in `filtersmith.graph.rules`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules import padding
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from filtersmith.graph.classes import original_class as original_class
from filtersmith.graph.classes import tampered


class Operation(Enum):
    """What becomes of the channels that an operation reads: in dimension 1, if nothing else is said."""

    KEEPS_ZERO = auto()
    """Elementwise or in space, each channel by itself; zeros stay zero."""
    MOVES_ZERO = auto()
    """Likewise; zeros become something else."""
    PER_CHANNEL = auto()
    """In their places, but all have to be there: parameters of each, or statistics over several."""
    BATCH_NORM = auto()
    """Parameters and statistics of each channel by itself."""
    CONVOLUTION = auto()
    """A depthwise convolution is per channel; any other consumes its input and makes channels of its own."""
    LINEAR = auto()
    """Consumes its input; where channels stand last, it makes channels of its own."""
    FLAT = auto()
    """As blocks of features, ``(batch, channels * positions)``."""
    VIEW = auto()
    """As features ``(n, m)``: of each example all, if the call says so."""
    PART = auto()
    """Some of the channels, side by side; or one of `CHUNKS`."""
    CHUNKS = auto()
    """All of them, as several tensors."""
    PERMUTATION = auto()
    """Channels come to stand behind the positions, ``(batch, *positions, channels)``, or before them again."""
    LAYER_NORM = auto()
    """Of channels that stand last."""
    ONE_LESS = auto()
    """Each channel by itself, with one dimension less; zeros stay zero."""
    SUM = auto()
    PRODUCT = auto()
    DIVISION = auto()
    CONCATENATION = auto()
    NORM_FUNCTION = auto()
    """A norm that is no module."""
    SIZE = auto()
    """Only the shape is read, and not the number of channels."""
    WIDTH = auto()
    """The number of channels is read."""


KEEPS_ZERO, MOVES_ZERO, PER_CHANNEL = Operation.KEEPS_ZERO, Operation.MOVES_ZERO, Operation.PER_CHANNEL
PERMUTES = ("permute", torch.permute)
LAYER_NORMS = (F.layer_norm, torch.layer_norm, torch.native_layer_norm, F.rms_norm, torch.rms_norm)
ELEMENTWISE = (KEEPS_ZERO, MOVES_ZERO)
LAYERS = (Operation.CONVOLUTION, Operation.BATCH_NORM, Operation.LINEAR)


class Call(NamedTuple):
    """A call of a function or method, for what depends on its arguments."""

    node: fx.Node
    spatial: int

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument behind the first one, by its place among those or by its name."""
        arguments = self.node.args[1:]
        return arguments[place] if len(arguments) > place else self.node.kwargs.get(name, default)


# --- what depends on the module, or on the arguments of a call -----------------------------------------------


def _prelu(module: nn.PReLU) -> Operation:
    return KEEPS_ZERO if module.num_parameters == 1 else PER_CHANNEL


def _hardtanh(module: nn.Hardtanh) -> Operation:
    return KEEPS_ZERO if module.min_val <= 0 <= module.max_val else MOVES_ZERO


def _flatten_module(module: nn.Flatten) -> Operation | None:
    return Operation.FLAT if (module.start_dim, module.end_dim) == (1, -1) else None


def _padding_module(module: Any) -> Operation:
    return KEEPS_ZERO if getattr(module, "value", 0) == 0 else MOVES_ZERO


def _concatenation(call: Call) -> Operation | None:
    return Operation.CONCATENATION if call.argument(0, "dim", 0) == 1 else None


def _flatten(call: Call) -> Operation | None:
    ends = call.argument(0, "start_dim", 0), call.argument(1, "end_dim", -1)
    return Operation.FLAT if ends == (1, -1) else None


def _view(call: Call) -> Operation | None:
    return Operation.VIEW if len(shape_of(call.node)) == 2 else None


def shape_of(node: fx.Node) -> tuple[Any, ...]:
    """The shape that a view is given: ``f(1, 2)`` and ``f((1, 2))`` mean the same."""
    arguments: Any = node.args[1:] or (node.kwargs.get("shape", node.kwargs.get("size", ())),)
    if len(arguments) == 1 and isinstance(arguments[0], (tuple, list)):
        return tuple(arguments[0])
    return tuple(arguments)


def _permutation(call: Call) -> Operation | None:
    return Operation.PERMUTATION if call.spatial and permuted(call.node, call.spatial, 1, -1) else None


def permuted(node: fx.Node, spatial: int, start: int, end: int) -> bool:
    """Whether a call of ``permute`` moves the channels from dimension ``start`` to ``end``, and leaves the rest."""
    dims: Any = node.args[1:] or (node.kwargs.get("dims", ()),)
    if len(dims) == 1 and isinstance(dims[0], (tuple, list)):
        dims = tuple(dims[0])
    order = [*range(spatial + 2)]
    order.insert(end % len(order), order.pop(start))
    return [dim % len(order) if isinstance(dim, int) else dim for dim in dims] == order


def _mean(call: Call) -> Operation | None:
    return _fewer(call.argument(0, "dim"), call.spatial, kept=call.argument(1, "keepdim") is True)


def _fewer(dims: Any, spatial: int, *, kept: bool) -> Operation | None:
    """Without some dimensions, or with one place left of each (``kept``)."""
    listed = [dims] if isinstance(dims, int) else list(dims) if isinstance(dims, (tuple, list)) else []
    if not listed or not all(isinstance(dim, int) for dim in listed):
        return None
    gone = {dim % (spatial + 2) for dim in listed}
    if gone & {0, 1}:
        return None
    if kept:
        return KEEPS_ZERO
    if len(gone) == spatial:
        return Operation.FLAT
    return Operation.ONE_LESS if len(gone) == 1 else None


def _item(call: Call) -> Operation | None:
    """Channels of all examples, and some positions."""
    places: Any = call.node.args[1]
    slices = isinstance(places, tuple) and all(isinstance(place, slice) for place in places)
    if not slices or len(places) < 2 or places[0] != slice(None):
        return None
    if places[1] == slice(None):
        return KEEPS_ZERO
    ends = (places[1].start, places[1].stop)
    known = all(isinstance(end, (int, type(None))) for end in ends) and places[1].step in (None, 1)
    return Operation.PART if known else None


def _pad(call: Call) -> Operation | None:
    amounts = call.argument(0, "pad", ())
    if not isinstance(amounts, (tuple, list)) or not all(isinstance(amount, int) for amount in amounts):
        return None
    if len(amounts) > 2 * call.spatial:
        return None  # channels are padded
    return KEEPS_ZERO if not call.argument(2, "value", 0) else MOVES_ZERO


def _size(call: Call) -> Operation | None:
    """``x.size(0)``, ``x.shape``, ``x.device``: whether the number of channels is read."""
    node, spatial = call
    if node.target is getattr:
        if node.args[1] != "shape":
            return Operation.SIZE if node.args[1] in ("device", "dtype", "ndim") else None
    elif len(node.args) > 1:
        return Operation.WIDTH if _reads_width(node.args[1], spatial) else Operation.SIZE
    for user in node.users:
        if user.users and (user.target is not operator.getitem or _reads_width(user.args[1], spatial)):
            return Operation.WIDTH
    return Operation.SIZE


def _reads_width(place: Any, spatial: int) -> bool:
    """Whether ``shape[place]`` has the number of channels in it."""
    sizes = range(spatial + 2)
    try:
        found: Any = sizes[place]
    except (TypeError, IndexError):  # computed by the code
        return True
    return 1 in ([found] if isinstance(found, int) else found)


# --- the table -----------------------------------------------------------------------------------------------

Entry = Operation | Callable[[Any], Operation | None]
"""What a call does, or a function that says it: of the module, or of the `Call` of a function or method."""

ACTIVATIONS: dict[Any, Entry] = {
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU), KEEPS_ZERO),
    **dict.fromkeys((nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.Tanhshrink, nn.Softshrink), KEEPS_ZERO),
    **dict.fromkeys((nn.Hardshrink, nn.Softsign), KEEPS_ZERO),
    **dict.fromkeys((nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid, nn.Threshold), MOVES_ZERO),
    nn.PReLU: _prelu,
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, F.leaky_relu, F.leaky_relu_), KEEPS_ZERO),
    **dict.fromkeys((F.elu, F.elu_, F.selu, F.celu, F.gelu, F.silu, F.mish, F.hardswish, F.rrelu), KEEPS_ZERO),
    **dict.fromkeys((F.tanh, torch.tanh, F.softshrink, F.softsign, F.tanhshrink), KEEPS_ZERO),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, F.hardsigmoid, F.softplus, F.logsigmoid), MOVES_ZERO),
    **dict.fromkeys(("relu", "relu_", "tanh", "tanh_"), KEEPS_ZERO),
    **dict.fromkeys(("sigmoid", "sigmoid_"), MOVES_ZERO),
}

OPERATIONS: dict[Any, Entry] = {
    **ACTIVATIONS,
    # modules
    _ConvNd: Operation.CONVOLUTION,
    _BatchNorm: Operation.BATCH_NORM,
    nn.Linear: Operation.LINEAR,
    **dict.fromkeys((nn.GroupNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d, _InstanceNorm), PER_CHANNEL),
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Upsample), KEEPS_ZERO),
    **dict.fromkeys((nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.LPPool1d, nn.LPPool2d), KEEPS_ZERO),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), KEEPS_ZERO),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), KEEPS_ZERO),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), KEEPS_ZERO),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), KEEPS_ZERO),
    **dict.fromkeys((nn.AlphaDropout, nn.FeatureAlphaDropout), MOVES_ZERO),
    **{getattr(padding, name): _padding_module for name in dir(padding) if re.search(r"Pad[123]d$", name)},
    nn.Hardtanh: _hardtanh,
    nn.Flatten: _flatten_module,
    # functions, and methods of tensors by name
    **dict.fromkeys((operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub), Operation.SUM),
    **dict.fromkeys(("add", "add_", "sub", "sub_", "__add__", "__radd__"), Operation.SUM),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), Operation.PRODUCT),
    **dict.fromkeys((operator.truediv, torch.div, "div", "div_"), Operation.DIVISION),
    **dict.fromkeys((torch.cat, torch.concat), _concatenation),
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.interpolate, torch.neg), KEEPS_ZERO),
    **dict.fromkeys((torch.abs, torch.clone, F.lp_pool1d, F.lp_pool2d, torch.dropout), KEEPS_ZERO),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), KEEPS_ZERO),
    **dict.fromkeys((torch.max_pool1d, torch.max_pool2d, torch.max_pool3d), KEEPS_ZERO),
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d), KEEPS_ZERO),
    **dict.fromkeys((F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d), KEEPS_ZERO),
    **dict.fromkeys(("contiguous", "clone", "detach", "float", "half", "bfloat16", "double", "to"), KEEPS_ZERO),
    **dict.fromkeys(("type", "abs", "neg", "requires_grad_"), KEEPS_ZERO),
    **dict.fromkeys((torch.exp, "exp", F.alpha_dropout, F.feature_alpha_dropout), MOVES_ZERO),
    **dict.fromkeys((F.batch_norm, F.group_norm, F.instance_norm, F.layer_norm, F.rms_norm), Operation.NORM_FUNCTION),
    **dict.fromkeys((torch.batch_norm, torch.group_norm, torch.instance_norm), Operation.NORM_FUNCTION),
    **dict.fromkeys((torch.layer_norm, torch.rms_norm, torch.native_batch_norm), Operation.NORM_FUNCTION),
    **dict.fromkeys((torch.native_group_norm, torch.native_layer_norm), Operation.NORM_FUNCTION),
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys(("view", "reshape", torch.reshape), _view),
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "tensor_split"), Operation.CHUNKS),
    **dict.fromkeys((torch.chunk, torch.split, torch.functional.split, torch.tensor_split), Operation.CHUNKS),
    **dict.fromkeys(PERMUTES, _permutation),
    **dict.fromkeys(("mean", torch.mean), _mean),
    **dict.fromkeys(("size", getattr), _size),
    **dict.fromkeys(("dim", "ndimension", len), Operation.SIZE),
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"), Operation.SIZE),
    operator.getitem: _item,
    F.pad: _pad,
    # functions of packages that are not imported here, by their full name
    "torchvision.ops.stochastic_depth.stochastic_depth": KEEPS_ZERO,
}

FAMILIES = (
    _ConvNd,
    _BatchNorm,
    nn.Linear,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.CrossMapLRN2d,
    _InstanceNorm,
    nn.PReLU,
)
"""The classes whose subclasses are of their kind, see `filtersmith.graph.classes` for what they do besides."""


def operation(node: fx.Node, module: nn.Module | None, spatial: int) -> Operation | None:
    """What a call does to the channels of the tensors that it reads; ``None``: unknown, or it mixes them.

    Args:
        node: a call of ``module``, or of a function or method.
        module: for a call of one.
        spatial: how many dimensions stand behind the channels; 0: they are flat.
    """
    target: Any = node.target
    if module is not None:
        known, name = of_module(module), type(module).__name__
        if known in LAYERS:
            return known
    else:
        entry = OPERATIONS.get(target) or OPERATIONS.get(_full_name(target))
        known = entry(Call(node, spatial)) if callable(entry) else entry
        name = getattr(target, "__name__", "")
    # Of tensors with one dimension less, a pool or pad takes the channels for one in space.
    meant = re.search(r"(?<!Dropout)(?<!dropout)([123])d$", name)
    return None if meant is not None and int(meant[1]) != spatial else known


def of_module(module: nn.Module) -> Operation | None:
    """What a module does to channels; of an activation that hooks may change nothing is known, for instance."""
    if getattr(module, "return_indices", False):
        return None
    kind = original_class(module)
    entry = next((OPERATIONS[c] for c in kind.__mro__ if c in FAMILIES or (c is kind and c in OPERATIONS)), None)
    known = entry(module) if callable(entry) else entry
    return known if known in LAYERS or tampered(module) is None else None


def in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a call writes its result into what it reads first."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return (name.endswith("_") and not name.endswith("__")) or node.kwargs.get("inplace") is True


_ACTIVATION_CLASSES = tuple(key for key in ACTIVATIONS if isinstance(key, type))


def is_activation(node: fx.Node, module: nn.Module | None = None) -> bool:
    """Whether a call is an activation function."""
    return isinstance(module, _ACTIVATION_CLASSES) if module is not None else node.target in ACTIVATIONS


def _full_name(target: Any) -> str:
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}"
