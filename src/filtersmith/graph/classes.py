"""Modules that may do more than their class's name says: classes of one's own, replaced code, hooks.

What torch's own classes do with torch's own code is known. A copy of any other one is tried, with noise for weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from filtersmith.common.modules import deep_copy
from filtersmith.filters import FilterLayer, locate
from filtersmith.graph.probe import unseen

KNOWN = ("torch.nn.modules.", "filtersmith.")
KNOWN_HOOKS = ("torch.", "filtersmith.")
MORE = "its class does more than convolve"
EVERY_MODULES = frozenset(vars(nn.Module()))
"""The attributes that torch keeps in every module: tables of parameters, hooks, children."""


def original_class(module: nn.Module) -> type[nn.Module]:
    """The class of a module; also while it computes with fewer channels, see `filtersmith.pruning.sliced`."""
    found: type[nn.Module] = getattr(type(module), "_original_class", type(module))
    return found


def is_torchs(module: nn.Module) -> bool:
    """Whether what a module computes is code of torch's, or of ours, with the weights that it has or computes."""
    kind = original_class(module)
    while kind.__module__ == parametrize.__name__:
        (kind,) = kind.__bases__
    return f"{kind.__module__}.".startswith(KNOWN)


def tampered(module: nn.Module) -> str | None:
    """Why a module may compute something else than the code of its class does; ``None``: it does not.

    Hooks of torch's own compute weights, place them, or observe.
    """
    if "forward" in vars(module):
        return "its forward is replaced"
    if not module._forward_pre_hooks and not module._forward_hooks:
        return None
    for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
        owner = hook.func if isinstance(hook, partial) else hook
        if not str(getattr(owner, "__module__", "")).startswith(KNOWN_HOOKS):
            return "a hook may change what it computes"
    return None


def twin(module: Any, mode: bool, dtype: torch.dtype = torch.float64) -> Any:
    """A copy of a module on the CPU, in one mode, with noise for parameters; call it in `unseen`."""
    other = deep_copy(module)
    other.__class__ = original_class(other)
    if parametrize.is_parametrized(other):  # removing takes the weight out of the class, which the copy shares
        cls: Any = type(other)
        own = {key: value for key, value in vars(cls).items() if key not in ("__dict__", "__weakref__")}
        other.__class__ = type(cls.__name__, cls.__bases__, own)
    for name in [*getattr(other, "parametrizations", ())]:
        parametrize.remove_parametrizations(other, name, leave_parametrized=True)
    generator = torch.Generator(device="cpu").manual_seed(0)
    other = other.to("cpu", dtype).train(mode)
    for parameter in other.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype, device="cpu"))
    return other


def signature(module: nn.Module) -> Any:
    """What only modules that do the same have in common: class, sizes, and whatever else is no tensor."""
    plain = []
    for name, value in sorted(vars(module).items()):
        if name not in EVERY_MODULES:
            written = isinstance(value, (int, float, str, tuple, list, type(None)))
            plain.append((name, repr(value) if written else id(value)))
    own = module.named_parameters(recurse=False)
    shapes = tuple((name, None if is_lazy(p) else tuple(p.shape)) for name, p in own)
    return type(module), tuple(plain), shapes, tuple(signature(child) for child in module.children())


def loses_filters(module: Any) -> bool:
    """Whether the filters of a convolution of any class can be left out: each makes zeros where all that it has is 0.

    The others make what they did, and zeros that it reads give something finite. A depthwise one also has to keep
    its channels apart.
    """
    try:
        with unseen():
            return all(_loses_filters(twin(module, mode, torch.float32)) for mode in (False, True))
    except Exception:  # it takes something else, or more
        return False


def _loses_filters(convolution: Any) -> bool:
    filters, channels = convolution.out_channels, convolution.in_channels
    sides = [step * (side - 1) + 2 for step, side in zip(convolution.dilation, convolution.kernel_size, strict=True)]
    images = _noise(2, channels, *sides)
    images = torch.cat([images, _zeroed(images, torch.arange(channels) % 2 == 1)])
    before = convolution(images)
    if not isinstance(before, Tensor) or before.ndim != images.ndim or before.shape[:2] != (4, filters):
        return False
    gone = torch.arange(0, filters, 2) if filters > 1 else torch.arange(1)
    kept = [f for f in range(filters) if f % 2 and filters > 1]
    before, apart = before[:2], before[2:]
    if not apart.isfinite().all():
        return False
    if 1 < convolution.groups == channels:
        before, apart = convolution(images[:2]), convolution(images[2:])
        readers = torch.arange(filters) // (filters // channels) % 2 == 0
        if not torch.allclose(apart[:, readers], before[:, readers], rtol=1e-4, atol=1e-5):
            return False
    layer = FilterLayer("", convolution)
    for name, parameter in _of_filters(convolution, filters):
        view, index = locate(layer, gone, tensor=parameter) if name == "weight" else (parameter, (gone,))
        view[index] = 0
    after = convolution(images[:2] if 1 < convolution.groups == channels else images)[:2]
    return not after[:, gone].any() and torch.allclose(after[:, kept], before[:, kept], rtol=1e-4, atol=1e-5)


def _of_filters(module: Any, filters: int) -> Iterator[tuple[str, Tensor]]:
    transposed = isinstance(module, _ConvTransposeNd)
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.shape[:1] == (filters,) or (name == "weight" and transposed):
            yield name, parameter.detach()


def on_channels(module: Any, channels: int, spatial: int, each: bool) -> Literal["zeros", "something"] | None:
    """What a module with parameters or statistics for each channel makes of zeros, where its own are 0, too.

    Args:
        each: whether each channel has to come out the same whatever the others are.

    Returns:
        ``None`` where channels do not stay in their places, or zeros make something that is not finite.
    """
    try:
        with unseen():
            found = {_on_channels(twin(module, mode), channels, spatial, each) for mode in (False, True)}
    except Exception:
        return None
    if None in found:
        return None
    return "something" if "something" in found else "zeros"


def _on_channels(norm: Any, channels: int, spatial: int, each: bool) -> Literal["zeros", "something"] | None:
    images = _noise(4, channels, *(3, 4, 2)[:spatial]).double()
    gone = torch.arange(channels) % 2 == 1 if channels > 1 else torch.ones(1, dtype=torch.bool)
    before, zeroed = _outputs(norm, images), _outputs(norm, _zeroed(images, gone))
    if before is None or zeroed is None or not zeroed.isfinite().all():
        return None
    if each and not torch.allclose(zeroed[:, ~gone], before[:, ~gone]):
        return None
    for _, parameter in _of_filters(norm, channels):
        parameter[gone] = 0
    for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
        if (statistic := norm._buffers.get(name)) is not None:
            statistic[gone] = value
    after, of_zeros = _outputs(norm, images), _outputs(norm, _zeroed(images, gone))
    if after is None or of_zeros is None or not torch.allclose(after[:, ~gone], before[:, ~gone]):
        return None
    weighted = norm._parameters.get("weight") is not None
    return "something" if of_zeros[:, gone].any() or (weighted and after[:, gone].any()) else "zeros"


def _outputs(norm: Any, images: Tensor) -> Tensor | None:
    """Of the statistics that a norm has now, which stay as they are."""
    kept = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    output = norm(images)
    for name, buffer in norm.named_buffers():
        buffer.copy_(kept[name])
    return output if isinstance(output, Tensor) and output.shape == images.shape else None


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator(device="cpu").manual_seed(1), device="cpu")


def _zeroed(images: Tensor, gone: Tensor) -> Tensor:
    images = images.clone()
    images[:, gone] = 0
    return images


def convolves(module: Any) -> bool:
    """Whether a module is a convolution of a class that surely does nothing else."""
    return isinstance(module, _ConvNd) and is_torchs(module) and tampered(module) is None
