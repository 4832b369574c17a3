"""The functions of torch that may stand right behind a layer: norms, activations, and what lays values out anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def _spellings(names: str) -> set[Any]:
    """Everything of torch's that bears one of these names, in place (``relu_``) as well."""
    homes = (F, torch, Tensor)
    written = [name + end for name in names.split() for end in ("", "_")]
    return {getattr(home, name) for home in homes for name in written if hasattr(home, name)}


NORMS = _spellings(
    "batch_norm instance_norm group_norm layer_norm rms_norm native_batch_norm native_group_norm native_layer_norm "
    "_fused_rms_norm"
)
GATES = _spellings("sigmoid hardsigmoid softplus tanh")
"""Activation functions unless what they read is multiplied afterwards, as in ``x * sigmoid(x)``, which is another."""
ACTIVATIONS = GATES | _spellings(
    "relu relu6 leaky_relu elu selu celu gelu silu mish hardswish hardtanh hardshrink softshrink softsign logsigmoid "
    "tanhshrink threshold prelu rrelu clamp clip clamp_min"
)
MAXIMA = _spellings("maximum fmax max")
"""Activation functions where the other operand is 0."""
PRODUCTS = _spellings("mul multiply __mul__ __rmul__ __imul__")
COPIES = _spellings("contiguous clone detach to type type_as float half bfloat16 double")
PERMUTATIONS: set[Any] = {*_spellings("permute transpose swapaxes swapdims movedim moveaxis"), Tensor.mT.__get__}  # type: ignore[attr-defined]


def permuted(order: tuple[int, ...], function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...]:
    """The dimensions that a function of `PERMUTATIONS` gives, of which it reads those in ``order``.

    The function itself says it, of a tensor without values whose sizes are all different.
    """
    probe = torch.empty([5 + place for place in range(len(order))], device="meta")
    found = function(probe, *args[1:], **kwargs) if args else function(**{**kwargs, "input": probe})
    return tuple(order[size - 5] for size in found.shape)


def as_before(tensor: Tensor, order: Iterable[int]) -> Tensor:
    """A tensor whose dimensions were permuted so, with its dimensions as they were."""
    places = {dimension: place for place, dimension in enumerate(order)}
    return tensor.permute([places[dimension] for dimension in range(tensor.ndim)])


def read_by_maximum(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Those operands of a maximum whose other one is 0: a number, or a tensor of nothing else."""
    operands = [*args, *(kwargs[key] for key in ("input", "other") if key in kwargs)]
    if len(operands) != 2 or not all(isinstance(one, Tensor) for one in operands):
        return []
    return [one for one, other in (operands, operands[::-1]) if not other.is_meta and not other.any()]
