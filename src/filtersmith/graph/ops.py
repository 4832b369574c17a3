"""What the operations between convolutions do to channels: which keep them apart, which keep their zeros."""

from __future__ import annotations

import operator
import re
from enum import Enum, auto
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules import padding
from torch.nn.modules.instancenorm import _InstanceNorm


class Operation(Enum):
    """What becomes of the channels, dimension 1, that an operation reads."""

    KEEPS_ZERO = auto()
    """Each channel by itself; zeros stay zero."""
    MOVES_ZERO = auto()
    """Each channel by itself; zeros become something else."""
    PER_CHANNEL = auto()
    """In their places, but all have to be there: parameters of each, or statistics over several."""
    FLAT = auto()
    """As blocks of features, ``(batch, channels * positions)``."""
    FLAT_OF_KNOWN_SIZE = auto()
    """Likewise, where all channels have to be there: the code says how many features there are, for instance."""
    ONE_LESS = auto()
    """Each channel by itself, with one dimension less; zeros stay zero."""
    SUM = auto()
    PRODUCT = auto()
    CONCATENATION = auto()
    SIZE = auto()
    """Only the shape is read, and not the number of channels."""
    WIDTH = auto()
    """The number of channels is read."""


KEEPS_ZERO, MOVES_ZERO = Operation.KEEPS_ZERO, Operation.MOVES_ZERO

_ACTIVATION_MODULES: dict[type[nn.Module], Operation] = {
    **dict.fromkeys(
        (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish), KEEPS_ZERO
    ),
    **dict.fromkeys((nn.Hardswish, nn.Tanh, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Softsign), KEEPS_ZERO),
    **dict.fromkeys((nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid, nn.Threshold), MOVES_ZERO),
}
_OTHER_MODULES: dict[type[nn.Module], Operation] = {
    **dict.fromkeys(
        (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Upsample, nn.UpsamplingNearest2d),
        KEEPS_ZERO,
    ),
    **dict.fromkeys((nn.UpsamplingBilinear2d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), KEEPS_ZERO),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.LPPool1d, nn.LPPool2d), KEEPS_ZERO),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), KEEPS_ZERO),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), KEEPS_ZERO),
    **dict.fromkeys((nn.AlphaDropout, nn.FeatureAlphaDropout), MOVES_ZERO),
}
_PADDING = tuple(getattr(padding, name) for name in dir(padding) if name.endswith(("Pad1d", "Pad2d", "Pad3d")))
_PER_CHANNEL = (nn.GroupNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d, _InstanceNorm)

_ACTIVATIONS: dict[Any, Operation] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, F.leaky_relu, F.leaky_relu_), KEEPS_ZERO),
    **dict.fromkeys((F.elu, F.elu_, F.selu, F.celu, F.gelu, F.silu, F.mish, F.hardswish, F.rrelu), KEEPS_ZERO),
    **dict.fromkeys((F.tanh, torch.tanh, F.softshrink, F.softsign, F.tanhshrink), KEEPS_ZERO),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, F.hardsigmoid, F.softplus, F.logsigmoid), MOVES_ZERO),
    **dict.fromkeys(("relu", "relu_", "tanh", "tanh_"), KEEPS_ZERO),
    **dict.fromkeys(("sigmoid", "sigmoid_"), MOVES_ZERO),
}
_OTHERS: dict[Any, Operation] = {
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.interpolate, torch.neg), KEEPS_ZERO),
    **dict.fromkeys((torch.abs, torch.clone, F.lp_pool1d, F.lp_pool2d, torch.dropout), KEEPS_ZERO),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), KEEPS_ZERO),
    **dict.fromkeys((torch.max_pool1d, torch.max_pool2d, torch.max_pool3d), KEEPS_ZERO),
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d), KEEPS_ZERO),
    **dict.fromkeys((F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d), KEEPS_ZERO),
    **dict.fromkeys(
        ("contiguous", "clone", "detach", "float", "half", "bfloat16", "double", "to", "abs"), KEEPS_ZERO
    ),
    **dict.fromkeys(("type", "neg", "requires_grad_"), KEEPS_ZERO),
    **dict.fromkeys((torch.exp, "exp", F.alpha_dropout, F.feature_alpha_dropout), MOVES_ZERO),
    **dict.fromkeys((operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub), Operation.SUM),
    **dict.fromkeys(("add", "add_", "sub", "sub_", "__add__", "__radd__"), Operation.SUM),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), Operation.PRODUCT),
    **dict.fromkeys(("dim", "ndimension"), Operation.SIZE),
}


def operation(node: fx.Node, module: nn.Module | None, spatial: int) -> Operation | None:
    """What a call does to the channels of the tensors that it reads; ``None``: unknown, or it mixes them.

    Args:
        node: a call of ``module``, or of a function or method.
        module: for a call of one; convolutions, batch norms and linear layers are unknown here.
        spatial: how many dimensions stand behind the channels; 0: they are flat.
    """
    target: Any = node.target
    called = type(module).__name__ if module is not None else getattr(target, "__name__", "")
    # Of tensors with one dimension less, a pool or pad takes the channels for one in space.
    meant = re.search(r"(?<!Dropout)(?<!dropout)([123])d$", called)
    if meant is not None and int(meant[1]) != spatial:
        return None
    if module is not None:
        return of_module(module)
    if target in _ACTIVATIONS:
        return _ACTIVATIONS[target]
    if target in _OTHERS:
        return _OTHERS[target]
    if called == "stochastic_depth":  # torchvision's, which is not imported here, and which torch.fx does not enter
        return KEEPS_ZERO
    arguments, options = node.args[1:], dict(node.kwargs)
    if target in (operator.truediv, torch.div, "div", "div_"):  # by a number
        return KEEPS_ZERO if node.args and node.all_input_nodes == [node.args[0]] else None
    if target in (torch.cat, torch.concat):
        return Operation.CONCATENATION if _argument(arguments, options, 0, "dim", 0) == 1 else None
    if target in (torch.flatten, "flatten"):
        ends = _argument(arguments, options, 0, "start_dim", 0), _argument(arguments, options, 1, "end_dim", -1)
        return Operation.FLAT if ends == (1, -1) else None
    if target in ("view", "reshape", torch.reshape):
        return _of_view(arguments)
    if target in ("mean", torch.mean):
        dims, keepdim = (_argument(arguments, options, n, name, None) for n, name in enumerate(("dim", "keepdim")))
        return _of_fewer(dims, spatial, kept=keepdim is True)
    if target == "squeeze":  # without dimensions, it would take away a single channel, too
        dims = _argument(arguments, options, 0, "dim", None)
        return Operation.FLAT_OF_KNOWN_SIZE if dims is None else _of_fewer(dims, spatial, kept=False)
    if target in ("size", getattr):
        return _of_size(node, spatial)
    if target is operator.getitem:
        places: Any = node.args[1]
        slices = isinstance(places, tuple) and all(isinstance(place, slice) for place in places)
        kept = slices and places[:2] == (slice(None), slice(None))
        return KEEPS_ZERO if kept else None
    if target is F.pad:
        return _of_pad(arguments, options, spatial)
    return None


def in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a call writes its result into what it reads first."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return (name.endswith("_") and not name.endswith("__")) or node.kwargs.get("inplace") is True


def is_activation(node: fx.Node, module: nn.Module | None = None) -> bool:
    """Whether a call is an activation function."""
    return isinstance(module, (*_ACTIVATION_MODULES, nn.PReLU)) if module is not None else node.target in _ACTIVATIONS


def of_module(module: nn.Module) -> Operation | None:
    """What a module does to channels; convolutions, batch norms and linear layers are unknown here."""
    kind = whole_class(module)
    if getattr(module, "return_indices", False):
        return None
    if kind in _ACTIVATION_MODULES:
        return _ACTIVATION_MODULES[kind]
    if kind in _OTHER_MODULES:
        return _OTHER_MODULES[kind]
    if isinstance(module, nn.PReLU):
        return KEEPS_ZERO if module.num_parameters == 1 else Operation.PER_CHANNEL
    if isinstance(module, nn.Hardtanh):
        return KEEPS_ZERO if module.min_val <= 0 <= module.max_val else MOVES_ZERO
    if isinstance(module, nn.Flatten):
        return Operation.FLAT if (module.start_dim, module.end_dim) == (1, -1) else None
    if isinstance(module, _PADDING):
        return KEEPS_ZERO if getattr(module, "value", 0) == 0 else MOVES_ZERO
    return Operation.PER_CHANNEL if isinstance(module, _PER_CHANNEL) else None


def whole_class(module: nn.Module) -> type[nn.Module]:
    """The class of a module; also where it has another one for a while, see `filtersmith.pruning.subnetwork`."""
    whole: type[nn.Module] = getattr(type(module), "_whole_class", type(module))
    return whole


def _argument(arguments: tuple[Any, ...], options: dict[str, Any], place: int, name: str, default: Any) -> Any:
    return arguments[place] if len(arguments) > place else options.get(name, default)


def _listed(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """``f(1, 2)`` and ``f((1, 2))`` mean the same."""
    return tuple(arguments[0]) if len(arguments) == 1 and isinstance(arguments[0], (tuple, list)) else arguments


def _of_view(arguments: tuple[Any, ...]) -> Operation | None:
    shape = _listed(arguments)
    if len(shape) != 2:
        return None
    return Operation.FLAT if shape[1] == -1 and shape[0] != -1 else Operation.FLAT_OF_KNOWN_SIZE


def _of_fewer(dims: Any, spatial: int, *, kept: bool) -> Operation | None:
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


def _of_pad(arguments: tuple[Any, ...], options: dict[str, Any], spatial: int) -> Operation | None:
    amounts = _argument(arguments, options, 0, "pad", ())
    if not isinstance(amounts, (tuple, list)) or not all(isinstance(amount, int) for amount in amounts):
        return None
    if len(amounts) > 2 * spatial:
        return None  # channels are padded
    return KEEPS_ZERO if not _argument(arguments, options, 2, "value", 0) else MOVES_ZERO


def _of_size(node: fx.Node, spatial: int) -> Operation | None:
    """``x.size(0)``, ``x.shape``, ``x.device``: whether the number of channels is read."""
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
