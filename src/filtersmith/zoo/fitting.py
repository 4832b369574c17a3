"""Weights of a file in a network: which fit, under which names, and what is left as it was drawn.

A tensor fits where name, shape and kind (floating point or not) are the same, and with it all of its layer; another
precision is converted. Names may differ by what wrappers put in front (``module.``, ``_orig_mod.``, ``model.``), in
the file or in the network.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from filtersmith.common.words import in_words, plural

_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"}  # anywhere in a name
_COUNTERS = "num_batches_tracked"  # nothing is lost without them
_SHOWN, _DEPTH, _SHARE = 3, 3, 3


@dataclass(frozen=True)
class Fit:
    """What became of the weights of a file.

    Attributes:
        fitted: names of the network's tensors that have the file's values.
        missing: those that the file has not.
        other_shape: those that it has in another shape or kind -> what is there and what is here, in words.
        unexpected: names of the file that the network has not.
        left_out: what stood in front of all the file's names, and in front of the network's.
        classes: names among ``other_shape`` whose first dimension is the number of classes.
    """

    fitted: tuple[str, ...]
    missing: tuple[str, ...]
    other_shape: Mapping[str, str]
    unexpected: tuple[str, ...]
    left_out: tuple[str, str]
    classes: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether all of the network has the file's values, except perhaps its classifier."""
        return not self.missing and set(self.other_shape) == set(self.classes)

    def record(self) -> dict[str, Any]:
        """Plain values for JSON: how many tensors fitted, and the names of those that did not."""
        lists = {name: list(getattr(self, name)) for name in ("missing", "other_shape", "unexpected")}
        return {"fitted": len(self.fitted), **{name: found for name, found in lists.items() if found}}

    def __str__(self) -> str:
        total = len(self.fitted) + len(self.missing) + len(self.other_shape)
        parts = [f"{len(self.fitted)} of {plural(total, 'tensor')} fit"]
        theirs, ours = self.left_out
        parts[0] += f" without {theirs!r}" * bool(theirs) + f" behind {ours!r}" * bool(ours)
        others = [f"{name} ({words})" for name, words in self.other_shape.items() if name not in self.classes]
        fresh = [f"{name} ({self.other_shape[name]})" for name in self.classes]
        for what, names in (
            ("drawn fresh for the classes", fresh),
            ("other shape, drawn fresh", others),
            ("not in the file, drawn fresh", self.missing),
            ("not in the network", self.unexpected),
        ):
            if names:
                parts.append(f"{what}: {shortened(names)}")
        return "; ".join(parts)


def shortened(names: Iterable[str]) -> str:
    """The first few, and how many more."""
    every = list(names)
    more = len(every) - _SHOWN
    return ", ".join(every if more <= 1 else [*every[:_SHOWN], f"and {more} more"])


def load(network: nn.Module, found: Mapping[str, Tensor], num_classes: int, *, finite: bool = True) -> Fit:
    """Give ``network``, in place, the tensors that fit; with ``finite`` none that is not.

    Raises:
        ValueError: no parameter does, one has values that are not finite, or a layer does not take them.
    """
    own = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    wrappers = _WRAPPERS - {part for name in own for part in name.split(".")}
    clean = {".".join(p for p in name.split(".") if p not in wrappers): value for name, value in found.items()}
    theirs, ours = _prefixes(clean, own)
    renamed = {ours + name.removeprefix(theirs): value for name, value in clean.items() if name.startswith(theirs)}
    other = {name: words for name, value in renamed.items() if (words := _difference(value, own.get(name)))}
    other |= dict.fromkeys(
        _beside(network, other, [name for name in renamed if name in own]), "as the rest of its layer"
    )
    state: OrderedDict[str, Any] = OrderedDict((n, v) for n, v in renamed.items() if n not in other)
    # Some layers (torchvision's MNASNet) ask a state dict for their version, which no file has.
    state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    parameters = dict(network.named_parameters(remove_duplicate=False))
    if not any(name in parameters for name in state):
        mine = [name for name in own if name in parameters]
        raise ValueError(f"nothing fits: the file has {shortened(found)}; the network {shortened(mine)}")
    if finite and (
        odd := [n for n, v in state.items() if n in parameters and v.is_floating_point() and not _finite(v)]
    ):
        raise ValueError(f"{odd[0]} has values that are not finite")
    try:
        result = network.load_state_dict(state, strict=False)
    except Exception as error:  # a layer may have its own way to load
        raise ValueError(f"they cannot be loaded: {in_words(error)[:150]}") from error
    places = {own[name].data_ptr() for name in state if name in own}  # a tied tensor stands in a file once
    missing = [n for n in result.missing_keys if n in own and n not in other and not n.endswith(_COUNTERS)]
    missing = [name for name in missing if own[name].numel() and own[name].data_ptr() not in places]
    unused = [name for name in clean if not name.startswith(theirs)]
    return Fit(
        fitted=tuple(name for name in own if name not in {*missing, *other} and not name.endswith(_COUNTERS)),
        missing=tuple(missing),
        other_shape={name: words for name, words in other.items() if not name.endswith(_COUNTERS)},
        unexpected=(*result.unexpected_keys, *unused),
        left_out=(theirs, ours),
        classes=tuple(n for n in other if _for_classes(renamed[n].shape, own[n].shape, num_classes)),
    )


def _prefixes(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[str, str]:
    """What to leave out in front of the file's names, and to put there, so that most of them fit."""

    def fitting(pair: tuple[str, str]) -> int:
        theirs, ours = pair
        names = (name for name in found if name.startswith(theirs))
        return sum(_difference(found[n], own.get(ours + n.removeprefix(theirs))) == "" for n in names)

    pairs = [(theirs, ours) for ours in _common(own) for theirs in _common(found)]
    return max(pairs, key=fitting)  # of equals the first, which leaves the most as it is


def _common(names: Iterable[str]) -> list[str]:
    """Nothing, and the beginnings that a good part of all names have."""
    every = [name.split(".") for name in names]
    depths = range(1, _DEPTH + 1)
    counted = Counter(".".join(parts[:d]) + "." for d in depths for parts in every if len(parts) > d)
    return ["", *(prefix for prefix, count in counted.items() if count * _SHARE >= len(every))]


def _difference(value: Tensor, own: Tensor | None) -> str | None:
    """``""`` where a tensor fits; in words why not, ``None`` where the network has none of that name."""
    if own is None:
        return None
    if value.shape != own.shape:
        return f"{_shape(value)} in the file, {_shape(own)} here"
    if value.is_floating_point() != own.is_floating_point() or value.is_complex() != own.is_complex():
        return f"{value.dtype} in the file, {own.dtype} here".replace("torch.", "")
    return ""


def _beside(network: nn.Module, other: Iterable[str], renamed: Iterable[str]) -> list[str]:
    """Names in the layers of ``other``: a bias means nothing to weights that are not its own."""
    modules = dict(network.named_modules(remove_duplicate=False))
    layers = {name.rpartition(".")[0] for name in other}
    layers = {name for name in layers if name in modules and not any(modules[name].children())}
    return [name for name in renamed if name.rpartition(".")[0] in layers and name not in {*other}]


def _for_classes(theirs: torch.Size, ours: torch.Size, num_classes: int) -> bool:
    """Whether two shapes differ by the number of classes alone."""
    return ours[:1] == (num_classes,) and theirs[:1] != ours[:1] and theirs[1:] == ours[1:]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _finite(value: Tensor) -> bool:
    try:
        return bool(torch.isfinite(value).all())
    except RuntimeError:  # of some small types
        return True
