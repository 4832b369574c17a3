"""What is known of a value while a network is traced: its dimensions, its channels, how many chunks it is."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import getattr_static
from typing import Any, NamedTuple, TypeVar

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.rnn import RNNBase

from filtersmith.graph.ops import ELEMENTWISE, Operation, operation

_SAME_SHAPE = (*ELEMENTWISE, Operation.PER_CHANNEL, Operation.BATCH_NORM)
_COMPUTED = (
    *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.not_),
    *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.and_, operator.or_),
)
_LISTS = {"chunk", "split", "unbind", "tensor_split", "split_with_sizes", "unsafe_chunk", "unsafe_split"}
_NOT_ONE_TENSOR = {
    *(*_LISTS, "max", "min", "topk", "sort", "median", "mode", "kthvalue", "cummax", "cummin", "unique", "frexp"),
    *("size", "dim", "ndimension", "numel", "item", "tolist", "stride", "data_ptr", "is_contiguous", "get_device"),
    *("aminmax", "var_mean", "std_mean", "meshgrid", "broadcast_tensors", "svd", "qr", "nonzero", "hsplit", "vsplit"),
    *("is_floating_point", "is_complex", "nelement", "element_size", "storage_offset", "where", "unique_consecutive"),
    *("eigh", "eig", "slogdet", "lu", "is_tensor", "numpy", "__len__", "dsplit", "histogram", "dequantize", "lstsq"),
}
_UNKNOWN = object()

T = TypeVar("T")


class Shape(NamedTuple):
    """How many dimensions a tensor has, and how many channels in dimension 1; ``None``: not known."""

    dims: int | None = None
    channels: int | None = None


def _function(node: fx.Node) -> str:
    """The name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _source(node: fx.Node) -> fx.Node | None:
    """The tensor that a call reads first."""
    first = node.args[0] if node.args else node.kwargs.get("input")
    return first if isinstance(first, fx.Node) else None


@dataclass
class Known:
    """What is known of the values of a graph that is being made.

    Attributes:
        root: the network that is traced.
        images: whether what enters it surely is a tensor.
    """

    root: nn.Module
    images: bool
    _shapes: dict[fx.Node, Shape] = field(default_factory=dict)
    _tensors: dict[fx.Node, bool] = field(default_factory=dict)

    def shape(self, node: fx.Node) -> Shape:
        """Of a tensor. A convolution is taken to read a batch, as everywhere here."""
        return _in_order(node, self._shapes, lambda each: _shape(each, self))

    def is_tensor(self, node: fx.Node) -> bool:
        """Whether a value surely is a tensor."""
        return _in_order(node, self._tensors, lambda each: _is_tensor(each, self))

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _in_order(node: fx.Node, found: dict[fx.Node, T], look: Callable[[fx.Node], T]) -> T:
    """What is found at a node, and of all nodes before it; no recursion as deep as a network."""
    if node not in found:
        for each in node.graph.nodes:
            if each not in found:
                found[each] = look(each)
    return found[node]


# --- tensors -------------------------------------------------------------------------------------------------


def _shape(node: fx.Node, known: Known) -> Shape:
    module, source = known.module(node), _source(node)
    if module is not None and not _does_what_torch_does(module):
        return Shape()
    if isinstance(module, _ConvNd):
        return Shape(len(module.kernel_size) + 2, module.out_channels)
    if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
        return Shape(4 if isinstance(module, nn.BatchNorm2d) else 5, module.num_features)
    if node.op not in ("call_module", "call_function", "call_method"):
        return Shape()
    if node.target is operator.getitem and source is not None and _function(source) in _LISTS:
        return _chunk_shape(source, node.args[1], known)
    if node.target in (torch.cat, torch.concat):
        return _joined_shape(node, known)
    if source is None:
        return Shape()
    dims, channels = known.shape(source)
    if dims is None:
        return Shape()
    kind = operation(node, module, max(dims - 2, 0))
    if kind in _SAME_SHAPE:
        return Shape(dims, channels)
    if kind in (Operation.SUM, Operation.PRODUCT):
        nodes = [each for each in node.args if isinstance(each, fx.Node)]
        sides = [known.shape(each) for each in nodes if not is_size(each, known)]
        return sides[0] if all(side == sides[0] for side in sides) else Shape()
    if kind is Operation.LINEAR and type(module) is nn.Linear:
        return Shape(dims, module.out_features if dims == 2 else channels)
    return Shape(2) if kind is Operation.FLAT else Shape()


def _does_what_torch_does(module: nn.Module) -> bool:
    """Whether a module computes with torch's own code alone."""
    forward = getattr_static(type(module), "forward")  # of compiled modules it cannot be read otherwise
    return str(getattr(forward, "__module__", "")).startswith("torch.nn.") and not (
        module._forward_hooks or "forward" in vars(module)
    )


def _chunk_shape(listed: fx.Node, place: Any, known: Known) -> Shape:
    whole = _source(listed)
    dims, channels = known.shape(whole) if whole is not None else Shape()
    if dims is None or not isinstance(place, int) or _function(listed) == "unbind":
        return Shape()
    sizes = widths(listed, channels) if along(listed) == 1 else None
    if sizes is None or not -len(sizes) <= place < len(sizes):
        return Shape(dims, channels if along(listed) in range(2, dims) else None)
    return Shape(dims, sizes[place])


def _joined_shape(node: fx.Node, known: Known) -> Shape:
    tensors = _argument(node, 0, "tensors", ())
    if not isinstance(tensors, (list, tuple)) or not all(isinstance(each, fx.Node) for each in tensors):
        return Shape()
    shapes = [known.shape(each) for each in tensors]
    dim, channels = _argument(node, 1, "dim", 0), [each for _, each in shapes]
    if not shapes or len({dims for dims, _ in shapes}) != 1:
        return Shape()
    numbers = [each for each in channels if each is not None]
    if dim == 1 and len(numbers) == len(channels):
        return Shape(shapes[0].dims, sum(numbers))
    return Shape(shapes[0].dims, channels[0] if dim in (0, 2, 3, 4) and len(set(channels)) == 1 else None)


def _is_tensor(node: fx.Node, known: Known) -> bool:
    if node.op == "placeholder":
        return known.images
    if node.op == "get_attr":
        return True
    module, source = known.module(node), _source(node)
    if module is not None:
        several = isinstance(module, (RNNBase, nn.MultiheadAttention)) or getattr(module, "return_indices", False)
        return isinstance(module, _KNOWN) or (type(module).__module__.startswith("torch.nn") and not several)
    if known.shape(node)[0] is not None:
        return True
    if node.target is operator.getitem:
        listed = node.args[0]
        return isinstance(listed, fx.Node) and (_function(listed) in _LISTS or known.is_tensor(listed))
    if node.target is getattr or _function(node) in _NOT_ONE_TENSOR:
        return False
    if node.target in (torch.cat, torch.concat, torch.stack):
        return True
    ours = node.op == "call_method" or getattr(node.target, "__module__", None) in _TENSOR_FUNCTIONS
    return ours and any(known.is_tensor(each) for each in ([source] if source else node.all_input_nodes))


_KNOWN = (_ConvNd, _BatchNorm)
_TENSOR_FUNCTIONS = ("torch", "torch.nn.functional", "torch._C._nn", "_operator", None)


# --- lists of tensors ----------------------------------------------------------------------------------------


def length(node: fx.Node, known: Known) -> int | None:
    """How many values ``for`` finds in a value."""
    if node.op in ("call_function", "call_method") and _function(node) in _LISTS:
        whole, dim = _source(node), along(node)
        dims, channels = known.shape(whole) if whole is not None else Shape()
        sizes = widths(node, channels if dim == 1 or (dims is not None and dim == 1 - dims) else None)
        return None if sizes is None else len(sizes)
    sizes = value(node, known)
    return len(sizes) if isinstance(sizes, tuple) else None


def along(listed: fx.Node) -> Any:
    """The dimension along which a tensor is taken apart."""
    return _argument(listed, 1 if _function(listed) == "unbind" else 2, "dim", 0)


def widths(listed: fx.Node, size: int | None) -> list[int | None] | None:
    """The sizes of the chunks that a tensor is taken apart into; ``None`` where not even their number is known."""
    name = _function(listed)
    if name == "unbind":
        return None if size is None else [None] * size
    how = _how(listed)
    if isinstance(how, (list, tuple)):
        if name == "tensor_split":
            return [None] * (len(how) + 1)
        return [each if isinstance(each, int) else None for each in how]
    if not isinstance(how, int) or how < 1:
        return None
    if name == "tensor_split":
        return [None if size is None else size // how + (place < size % how) for place in range(how)]
    if size is None:
        return None
    each = how if "split" in name else math.ceil(size / how)
    return [min(each, size - start) for start in range(0, size, each)]


def _how(listed: fx.Node) -> Any:
    given = [value for name, value in listed.kwargs.items() if name not in ("dim", "input", "tensor")]
    return listed.args[1] if len(listed.args) > 1 else given[0] if given else None


# --- numbers -------------------------------------------------------------------------------------------------


def value(node: fx.Node, known: Known) -> Any:
    """A number, truth value or size that does not depend on the images; ``None``: it does, or is not known.

    Of a size what depends on the images is no number.
    """
    found = _value(node, known)
    return None if found is _UNKNOWN else found


def _value(node: Any, known: Known) -> Any:
    if not isinstance(node, fx.Node):
        return node if isinstance(node, (int, float, str, bool, type(None))) else _UNKNOWN
    source = _source(node)
    if source is None or node.op not in ("call_function", "call_method"):
        return _UNKNOWN
    if node.target is getattr and (about := _of_device(source, str(node.args[1]), known)) is not None:
        return about
    name = node.args[1] if node.target is getattr else _function(node) if node.op == "call_method" else ""
    if name in ("dim", "ndimension", "ndim"):
        return _or_unknown(known.shape(source)[0])
    if name in ("shape", "size"):
        sizes = _sizes(source, known)
        place = node.args[1] if name == "size" and len(node.args) > 1 else None
        return sizes if place is None or sizes is _UNKNOWN else _item(sizes, place)
    if node.target is operator.getitem:
        listed = _value(source, known)
        return _item(listed, node.args[1]) if isinstance(listed, tuple) else _UNKNOWN
    if node.target not in _COMPUTED or node.kwargs:
        return _UNKNOWN
    values = [_value(each, known) for each in node.args]
    if any(each is _UNKNOWN or isinstance(each, tuple) for each in values):
        return _UNKNOWN
    target: Any = node.target
    return target(*values)


def _of_device(source: fx.Node, name: str, known: Known) -> Any:
    """``x.device``, ``x.device.type``, ``x.is_cuda`` of what is computed: where all parameters are."""
    if source.target is getattr and source.args[1] == "device" and name in ("type", "index"):
        device = _value(source, known)
        return device if device is _UNKNOWN else getattr(device, name)
    if name not in ("device", "is_cuda") or not known.is_tensor(source) or only_of_input(source):
        return None
    devices = {parameter.device for parameter in known.root.parameters()}
    if len(devices) != 1:
        return _UNKNOWN
    device = devices.pop()
    return device if name == "device" else device.type == "cuda"


def only_of_input(node: fx.Node) -> bool:
    """Whether a value depends on nothing but what enters the network, without any layer in between."""
    left, seen = [node], set()
    while left:
        if (each := left.pop()) not in seen:
            seen.add(each)
            left += each.all_input_nodes
    return all(each.op in ("placeholder", "call_function", "call_method") for each in seen)


def is_size(node: fx.Node, known: Known) -> bool:
    """Whether a value is a whole number that the size of a tensor gives."""
    source = _source(node)
    if node.target in _COMPUTED[6:11]:
        return all(is_size(each, known) if isinstance(each, fx.Node) else isinstance(each, int) for each in node.args)
    if source is None:
        return False
    if node.target is operator.getitem and isinstance(node.args[1], int):
        while source is not None and source.target is operator.getitem and isinstance(source.args[1], slice):
            source = _source(source)
        return (
            source is not None
            and _reads_shape(source, known)
            and len(source.args) == (source.op != "call_method") + 1
        )
    return _reads_shape(node, known) and node.op == "call_method" and len(node.args) == 2


def _reads_shape(node: fx.Node, known: Known) -> bool:
    source = _source(node)
    shape = node.target is getattr and node.args[1] == "shape"
    return source is not None and (shape or node.target == "size") and known.is_tensor(source)


def _or_unknown(number: int | None) -> Any:
    return _UNKNOWN if number is None else number


def _sizes(source: fx.Node, known: Known) -> Any:
    dims, channels = known.shape(source)
    if dims is None:
        return _UNKNOWN
    return (_UNKNOWN, _or_unknown(channels), *[_UNKNOWN] * (dims - 2)) if dims > 1 else _UNKNOWN


def _item(sizes: tuple[Any, ...], place: Any) -> Any:
    one = isinstance(place, int) and -len(sizes) <= place < len(sizes)
    ends = isinstance(place, slice) and not any(
        isinstance(end, fx.Node) for end in (place.start, place.stop, place.step)
    )
    return sizes[place] if one or ends else _UNKNOWN
