"""The oracle of the sweep over networks: filters that are not there, by masks alone.

It knows no graph. It watches the calls of torch's functions while a network runs. By the weight that a convolution or
linear layer is given it learns whose output it sees, sets the channels of the filters that are left out to 0 there,
and again behind every norm, activation, depthwise convolution or pool that reads just these channels. Whatever else
reads them reads exact zeros. What the channels would have been is carried along beside them, so that ``y / y.std()``
stays finite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CONVOLUTIONS = {f"conv{transposed}{n}d" for transposed in ("", "_transpose") for n in (1, 2, 3)}
ACTIVATIONS = """
    relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid tanh
    softplus softsign logsigmoid threshold hardshrink softshrink tanhshrink special_expit expit
"""
NUMBERS = """
    abs neg exp expm1 log log1p sqrt rsqrt square reciprocal sin cos erf clamp clamp_min clamp_max clip pow sign round
    floor ceil nan_to_num contiguous clone detach float double to type type_as requires_grad
"""
WITH_ANOTHER = """
    add iadd radd sub isub rsub mul imul rmul div rdiv truediv itruediv rtruediv true_divide pow ipow rpow multiply
    divide subtract
"""
"""Calls of two tensors, each channel by itself where the other one is a constant or has the same origin."""
IN_SPACE = {f"{how}{kind}_pool{n}d" for how in ("adaptive_", "") for kind in ("max", "avg", "lp") for n in (1, 2, 3)}
IN_SPACE |= {"interpolate", "upsample", "pad", "batch_norm", "instance_norm"}
OVER_CHANNELS = ("group_norm", "layer_norm", "local_response_norm", "normalize")
"""Norms whose statistics run over several channels: they see zeros."""
APART = ("chunk", "split", "split_with_sizes", "tensor_split")
REDUCTIONS = ("mean", "sum", "amax", "amin", "std", "var")
IN_PLACES = ("view", "reshape", "flatten", "squeeze", "unsqueeze")
"""Calls that keep the order of all entries."""
NUMBER_BY_NUMBER = {*ACTIVATIONS.split(), *NUMBERS.split()} - {"prelu"}
ALONE = {*ACTIVATIONS.split(), *NUMBERS.split(), *WITH_ANOTHER.split(), *IN_SPACE}


@dataclass(frozen=True)
class Tag:
    """What is known of a tensor some of whose channels are not there.

    Attributes:
        gone: bool, one for each channel.
        raw: what the tensor would be if nobody had set these channels to 0.
        origin: equal where two tensors have the same channels, place for place.
        axis: where the channels stand: in dimension 1, or last behind a linear layer.
    """

    gone: Tensor
    raw: Tensor
    origin: Any
    axis: int = 1


class Absent(TorchFunctionMode):
    """``with Absent(network, gone): network(images)``: as if some filters were not there.

    Args:
        network: that is run.
        gone: convolution or linear layer -> bool, one for each filter.
    """

    def __init__(self, network: nn.Module, gone: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._tags: dict[int, tuple[Tensor, Tag]] = {}
        self._kernels: dict[int, tuple[Tensor, Tensor]] = {}  # kernels of these convolutions, and what makes them
        self._constants = {id(t): t for t in (*network.parameters(), *network.buffers())}
        modules = dict(network.named_modules())
        for name, mask in gone.items():
            module = modules[name]
            assert isinstance(module, (_ConvNd, nn.Linear)), "filters are a convolution's, or a 1x1 one's"
            for parameter in (p for key, p in module.named_parameters() if key != "bias"):
                self._kernels[id(parameter)] = (parameter, mask.to(parameter.device))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name in CONVOLUTIONS:
            return self._convolved(func, args, kwargs, int(name[-2]))
        own = self._kernels.get(id(args[1] if len(args) > 1 else kwargs["weight"])) if name == "linear" else None
        if own is not None:
            return self._tagged(func(*args, **kwargs), own[1], object(), -1)
        tagged = any(id(tensor) in self._tags for tensor in read)
        if tagged and (found := self._followed(name, func, args, kwargs, read)) is not None:
            return found
        result = func(*args, **kwargs)
        for made in (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)):
            self._tags.pop(id(made), None)  # it may have been written into
            self._note(name, made, read)
        return result

    def _note(self, name: str, made: Tensor, read: Sequence[Tensor]) -> None:
        """Kernels that are computed from kernels, and what no image has a say in."""
        if name.startswith("new_") or name.endswith("_like") or all(id(t) in self._constants for t in read):
            self._constants[id(made)] = made
        masks = [self._kernels[id(t)][1] for t in read if id(t) in self._kernels]
        if masks and all(id(t) in self._constants for t in read):
            self._kernels[id(made)] = (made, masks[0])

    def _tagged(self, raw: Tensor, gone: Tensor, origin: Any, axis: int = 1) -> Tensor:
        """The tensor that the network goes on with."""
        seen = raw.masked_fill(_over(gone, raw, axis), 0)
        self._tags[id(seen)] = (seen, Tag(gone, raw, origin, axis))
        return seen

    def _tag(self, tensor: Any) -> Tag | None:
        return self._tags[id(tensor)][1] if id(tensor) in self._tags else None

    def _raw(self, given: Any) -> Any:
        return tree_map(lambda leaf: leaf if (tag := self._tag(leaf)) is None else tag.raw, given)

    # --- what becomes of channels ----------------------------------------------------------------------------

    def _convolved(self, func: Callable[..., Any], args: Any, kwargs: Any, dimensions: int) -> Tensor:
        images, weight = (args[n] if len(args) > n else kwargs[key] for n, key in enumerate(("input", "weight")))
        groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
        own = self._kernels.get(id(weight), (None, None))[1]
        tag = self._tag(images)
        if tag is not None and tag.axis == 1 and 1 < groups == images.shape[1]:
            raw: Tensor = func(*self._raw(args), **self._raw(kwargs))
            gone = tag.gone.repeat_interleave(raw.shape[1] // groups)
            return self._tagged(raw, gone if own is None else gone | own, tag.origin)
        made: Tensor = func(*args, **kwargs)
        if own is None:
            return made
        if made.ndim != dimensions + 2:  # one image by itself
            return made.masked_fill(own.view(-1, *[1] * dimensions), 0)
        return self._tagged(made, own, object())

    def _followed(self, name: str, func: Any, args: Any, kwargs: Any, read: Sequence[Tensor]) -> Any:
        """The result of a call that keeps channels apart; ``None`` where they end: the call reads their zeros."""
        if name in ("cat", "concat", "concatenate"):
            return self._joined(func, args, kwargs)
        tags = [tag for tensor in read if (tag := self._tag(tensor)) is not None]
        others = [t for t in read if id(t) not in self._tags and id(t) not in self._constants]
        if others or any(tag.origin is not tags[0].origin for tag in tags):
            return None
        first, gone, axis = next(t for t in read if id(t) in self._tags), tags[0].gone, tags[0].axis
        if axis == -1 and name not in NUMBER_BY_NUMBER:
            return None
        if name in APART:
            return self._apart(func(*self._raw(args), **self._raw(kwargs)), tags[0])
        if name in OVER_CHANNELS:
            return self._tagged(func(*args, **kwargs), gone, tags[0].origin)
        moved = name == "roll" and _in_space(first, (first, *args[2:]), {"dim": kwargs.get("dims", args[-1])})
        moved |= name in (*REDUCTIONS, "softmax", "log_softmax") and _in_space(first, args, kwargs)
        if sliced := name == "getitem" and _slices(args[1]):
            gone = gone[args[1][1]]
        if not (name in ALONE or name in IN_PLACES or moved or sliced):
            return None
        version = tags[0].raw._version
        with _Statistics(read, gone):
            raw = func(*self._raw(args), **self._raw(kwargs))
        if not isinstance(raw, Tensor) or raw.shape[:1] != first.shape[:1]:
            return None
        if raw.ndim == 2 and name in IN_PLACES:
            gone = gone.repeat_interleave(raw.shape[1] // len(gone))
        if raw.ndim < 2 or raw.shape[axis] != len(gone):
            return None
        if raw is not tags[0].raw:
            return self._tagged(raw, gone, tags[0].origin if len(gone) == len(tags[0].gone) else object(), axis)
        if raw._version != version:  # in place: whoever reads the tensor later reads the new one
            first.copy_(raw.masked_fill(_over(gone, raw, axis), 0))
        return first

    def _apart(self, parts: Sequence[Tensor], tag: Tag) -> tuple[Tensor, ...] | None:
        """Tensors with some of the channels each; ``None`` where they are parts along another dimension."""
        sizes = [part.shape[1] for part in parts]
        others = {(*part.shape[:1], *part.shape[2:]) for part in parts}
        if sum(sizes) != len(tag.gone) or others != {(*tag.raw.shape[:1], *tag.raw.shape[2:])}:
            return None
        of_each = zip(parts, tag.gone.split(sizes), strict=True)
        return tuple(self._tagged(part, gone, object()) for part, gone in of_each)

    def _joined(self, func: Any, args: Any, kwargs: Any) -> Tensor | None:
        """Tensors side by side along their channels."""
        listed = args[0] if args else kwargs["tensors"]
        dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        if dim not in (1, 1 - listed[0].ndim) or any(part.ndim < 2 for part in listed):
            return None
        tags = [self._tag(part) for part in listed]
        if any(tag is not None and tag.axis == -1 for tag in tags):
            return None
        gone = [
            torch.zeros(part.shape[1], dtype=torch.bool, device=part.device) if tag is None else tag.gone
            for part, tag in zip(listed, tags, strict=True)
        ]
        return self._tagged(func(*self._raw(args), **self._raw(kwargs)), torch.cat(gone), object())


class _Statistics:
    """Running statistics of channels that are not there do not move."""

    def __init__(self, read: Sequence[Tensor], gone: Tensor) -> None:
        self._gone = gone
        self._before = [(t, t.clone()) for t in read if t.shape == gone.shape and t.is_leaf and not t.requires_grad]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for tensor, before in self._before:
            if not torch.equal(tensor, before):
                tensor.data.copy_(torch.where(self._gone, before, tensor))


def _over(gone: Tensor, tensor: Tensor, axis: int) -> Tensor:
    """A mask of channels in the dimensions of a tensor."""
    return gone if axis == -1 else gone.view(1, -1, *[1] * (tensor.ndim - 2))


def _in_space(tensor: Tensor, args: Any, kwargs: Any) -> bool:
    """Whether a reduction leaves examples and channels apart."""
    dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
    listed = [dims] if isinstance(dims, int) else dims
    if not isinstance(listed, (tuple, list)) or not listed:
        return False
    return not {dim % tensor.ndim for dim in listed} & {0, 1}


def _slices(places: Any) -> bool:
    """Whether all examples are taken, and slices of the rest."""
    return (
        isinstance(places, tuple)
        and all(isinstance(p, slice) for p in places)
        and places[:1] == (slice(None),)
        and len(places) > 1
    )
