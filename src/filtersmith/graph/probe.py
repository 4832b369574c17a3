"""What a function does to channels, found out by calling it on a little noise.

For what the table of `filtersmith.graph.ops` does not know. The noise is float64 and on the CPU, no random number of
the process is used up, and whatever fails is unknown.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from filtersmith.graph.flow import Flow, width

SIZES = ((2, (8, 12, 4)), (1, (12, 4, 8)))
"""Batch and sides of the images; no number that stands in the code of a function fits both."""
Function = Callable[[Sequence[Tensor]], Any]


class Probed(NamedTuple):
    """What a function does to the channels, dimension 1, of the tensors that it reads.

    Attributes:
        kind: ``"apart"``: each by itself, in its place; ``"all"``: it has to get all of them; ``"size"``,
            ``"width"``: it gives no tensor, but what is the same whatever the values are, with fewer channels as
            well, or not.
        zeros: what it makes of channels of zeros: some zeros are left (``"kept"``), none (``"moved"``), or what is
            not finite (``"lost"``), in these channels alone.
        flow: of the result, with the origins of what is read, where channels stay apart.
    """

    kind: Literal["apart", "all", "size", "width"]
    zeros: Literal["kept", "moved", "lost"] = "kept"
    flow: Flow | None = None


@contextmanager
def unseen() -> Iterator[None]:
    """Call what is not known: without gradients, warnings, or a trace in the process's random numbers."""
    numpy = sys.modules.get("numpy")
    kept, kept_numpy = random.getstate(), None if numpy is None else numpy.random.get_state()
    try:
        with torch.no_grad(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(kept)
        if numpy is not None:
            numpy.random.set_state(kept_numpy)


def probe(function: Function, flows: Sequence[Flow]) -> Probed | None:
    """What a function of tensors does to their channels; ``None``: unknown, it fails, or makes NaN of zeros.

    Args:
        function: of a list of tensors.
        flows: of these tensors; ``moved`` of any: zeros have become something else there.
    """
    try:
        with unseen():
            found = {_at(function, flows, batch, sides) for batch, sides in SIZES}
    except Exception:  # the code is the user's, it fails in its own ways
        return None
    if len(found) == 1:
        probed = found.pop()
        if probed is None or probed.kind != "apart" or _of_any_size(function, flows, probed):
            return probed
        return None if probed.zeros == "lost" else Probed("all")
    if None in found or {one.kind for one in found if one is not None} - {"apart", "all"}:
        return None
    kept = any(one is not None and one.zeros == "kept" for one in found)
    return None if any(one.zeros == "lost" for one in found if one) else Probed("all", "kept" if kept else "moved")


def keeps_each_zero(function: Function) -> bool:
    """Whether a function of one tensor, of any shape, acts on each number by itself and leaves 0 as it is."""
    try:
        with unseen():
            noise = _noise((3, 4, 5), torch.float64)
            zeros = _noise((3, 4, 5), torch.float64) > 0
            before, after = _called(function, [noise]), _called(function, [noise.masked_fill(zeros, 0)])
    except Exception:
        return False
    (one,), (other,) = before or [noise[0]], after or [noise[0]]
    same = one.shape == other.shape == noise.shape and _equal(one[~zeros], other[~zeros])
    return same and not other[zeros].any()


def fewer_positions(function: Function, dims: int) -> tuple[Fraction, ...] | None:
    """How many times fewer positions than an image of ``dims`` dimensions has what a function makes of it.

    Which number of channels it takes is tried out. ``None`` where it fails, or gives no image whose sides are those
    of the image, so many times smaller.
    """
    for channels in (1, 4, 12, 64):
        found = set()
        try:
            with unseen():
                for batch, sides in SIZES:
                    images = _noise((batch, channels, *sides[:dims]), torch.float64)
                    outputs = _called(function, [images])
                    behind = outputs[0].shape[2:] if outputs else ()
                    found.add(tuple(map(Fraction, sides[:dims], behind)) if len(behind) == dims else None)
        except Exception:
            continue
        return found.pop() if len(found) == 1 else None
    return None


# --- one size ------------------------------------------------------------------------------------------------


def _at(function: Function, flows: Sequence[Flow], batch: int, sides: tuple[int, ...]) -> Probed | None:
    tensors = [_like(flow, batch, sides, seed) for seed, flow in enumerate(flows)]
    outputs = _called(function, tensors)
    alike = len({flow.origins for flow in flows}) == 1
    if outputs is None:
        return _of_value(function, flows, tensors)
    if alike and (apart := _apart(function, flows, tensors, outputs)) is not None:
        return apart
    together: list[list[Flow]] = [list(flows)] if alike else [*([flow] for flow in flows), list(flows)]
    found = [_all(function, flows, tensors, outputs, zeroed) for zeroed in together]
    if None in found:
        return None
    return Probed("all", "kept" if "kept" in found else "moved")


def _apart(function: Function, flows: Sequence[Flow], tensors: list[Tensor], outputs: list[Tensor]) -> Probed | None:
    channels = width(flows[0].origins)
    if len(outputs) != 1 or (blocks := _blocks(outputs[0], channels)) is None:
        return None
    zeros = {"kept"}
    for gone in _losses(channels):
        kept = ~gone
        try:
            fewer = _called(function, [_channels(x, flow, kept) for x, flow in zip(tensors, flows, strict=True)])
        except Exception:  # it wants all of them
            return None
        if fewer is None or (less := _blocks(fewer[0], int(kept.sum()))) is None or not _equal(less, blocks[:, kept]):
            return None
        zeroed = _called(function, [_zeroed(x, flow, gone) for x, flow in zip(tensors, flows, strict=True)])
        same = _blocks(zeroed[0], channels) if zeroed else None
        if same is None or not _equal(same[:, kept], blocks[:, kept]):
            return None
        zeros.add("kept" if not same[:, gone].any() else "moved" if same[:, gone].isfinite().all() else "lost")
    (output,) = outputs
    pooled = all(side == 1 for side in output.shape[2:]) if output.ndim > 2 else output.shape[1] == channels
    flow = Flow(flows[0].origins, output.ndim - 2, pooled=pooled, dtype=output.dtype)
    worst: Any = next(one for one in ("lost", "moved", "kept") if one in zeros)
    return Probed("apart", worst, flow)


def _all(
    function: Function, flows: Sequence[Flow], tensors: list[Tensor], outputs: list[Tensor], zeroed: list[Flow]
) -> str | None:
    """What becomes of zeros in some tensors; ``None`` where it is nothing finite."""
    found = "moved"
    for gone in zip(*(_losses(width(flow.origins)) for flow in flows), strict=True):
        inputs = [
            _zeroed(x, flow, mask) if any(flow is one for one in zeroed) else x
            for x, flow, mask in zip(tensors, flows, gone, strict=True)
        ]
        others = _called(function, inputs)
        if others is None or [o.shape for o in others] != [o.shape for o in outputs]:
            return None
        for one, other in zip(outputs, others, strict=True):
            if not other[one.isfinite()].isfinite().all():
                return None
            if ((other == 0) & (one != 0)).any():
                found = "kept"
    return found


def _of_value(function: Function, flows: Sequence[Flow], tensors: list[Tensor]) -> Probed | None:
    """What a function is that gives no tensors, but a size, a type, a device."""
    value = function(tensors)
    others = function([torch.zeros_like(x) for x in tensors])
    if isinstance(value, float) or type(value) is not type(others) or value != others:
        return None
    masks = [_losses(width(flow.origins))[0] for flow in flows]
    fewer = function([_channels(x, flow, ~gone) for x, flow, gone in zip(tensors, flows, masks, strict=True)])
    return Probed("size" if fewer == value else "width")


def _of_any_size(function: Function, flows: Sequence[Flow], probed: Probed) -> bool:
    """Whether channels stay where they are in images of one pixel, too (``squeeze`` takes these away)."""
    try:
        with unseen():
            outputs = _called(function, [_like(flow._replace(pooled=True), 2, (1, 1, 1), 0) for flow in flows])
    except Exception:  # it takes none: a pooling, say
        return True
    assert probed.flow is not None, "asked for"
    (output,) = outputs or [torch.zeros(())]
    return output.ndim == probed.flow.spatial + 2 and _blocks(output, width(flows[0].origins)) is not None


# --- tensors -------------------------------------------------------------------------------------------------


def _called(function: Function, tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """The tensors that a function gives; ``None`` where it gives something else. Writing into what it reads fails."""
    given = [x.clone() for x in tensors]
    torch.default_generator.manual_seed(0)
    random.seed(0)
    outputs = function(given)
    listed = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    if not listed or not all(isinstance(output, Tensor) for output in listed):
        return None
    if not all(_equal(x, before) for x, before in zip(given, tensors, strict=True)):
        own = any(output is x for output in listed for x in given)
        if not own:
            raise ValueError("it writes into what it reads")
    return listed


def _like(flow: Flow, batch: int, sides: tuple[int, ...], seed: int) -> Tensor:
    channels, places = width(flow.origins), [1] * 3 if flow.pooled else list(sides)
    if not flow.spatial:
        return _noise((batch, channels * (1 if flow.pooled else sides[0] // 4)), flow.dtype, seed)
    return _noise((batch, channels, *places[: flow.spatial]), flow.dtype, seed)


def _noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator(device="cpu").manual_seed(seed)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return noise if dtype.is_floating_point else noise > 0 if dtype is torch.bool else (noise * 3).to(dtype)


def _losses(channels: int) -> list[Tensor]:
    """Which channels are zero: every other one, all but the last; at least one is left."""
    places = torch.arange(channels, device="cpu")
    return [places % 2 == 1, places < channels - 1]


def _blocks(output: Tensor, channels: int) -> Tensor | None:
    """With the channels in dimension 1, where they may be there, or blocks of features."""
    if output.ndim < 2 or output.shape[1] == channels:
        return output if output.ndim >= 2 else None
    if output.ndim > 2 or not output.shape[1] or output.shape[1] % channels:
        return None
    blocks: Tensor = output.unflatten(1, (channels, -1))
    return blocks


def _channels(x: Tensor, flow: Flow, kept: Tensor) -> Tensor:
    if flow.spatial:
        return x[:, kept]
    blocks: Tensor = x.unflatten(1, (len(kept), -1))
    return blocks[:, kept].flatten(1)


def _zeroed(x: Tensor, flow: Flow, gone: Tensor) -> Tensor:
    if flow.moved:  # nothing is zero there
        return x
    x = x.clone()
    (x if flow.spatial else x.unflatten(1, (len(gone), -1)))[:, gone] = 0
    return x


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one is other or torch.allclose(one.double(), other.double(), rtol=1e-9, atol=1e-12, equal_nan=True)
