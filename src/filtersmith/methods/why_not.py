"""Which layers of a network take no part in a method, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from filtersmith.common.options import bad_option
from filtersmith.filters import Surroundings
from filtersmith.methods import METHODS
from filtersmith.methods.lifecycle import of_class
from filtersmith.methods.parts import check_spelled
from filtersmith.methods.spelling import read


def why_not(model: nn.Module, method: str) -> dict[str, str]:
    """Which layers of a network take no part in a method, and why; the network stays as it is.

    Of all layers that have filters, convolutions and linear ones, those that are missing take part. Where the method
    would refuse the whole network because of some layers, those are listed.

    Example:
        >>> import filtersmith as fs
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(8, 2))
        >>> fs.why_not(model, "do-conv")
        {'2': 'a window of one position has nothing to mix', '4': 'it is no convolution'}

    Args:
        model: the network; wrapped in DDP or compiled as well.
        method: by name, such as ``"repr"`` or ``"kflo"``; options as in ``"repr(first_layer=True)"``.

    Returns:
        Layer name -> reason, a sentence about "it", in the order of ``named_modules``; for ``"regulators"`` residual
        block -> reason.

    Raises:
        ValueError: not a network, an unknown method.

    Source: own work; the methods' cards name their papers (``filtersmith describe NAME``).
    """
    if not isinstance(method, str):
        raise bad_option("method", method, "the name of a method, with options or without")
    spelled = read(method)
    if len(spelled) != 1:
        raise bad_option("method", method, f"one method, among {', '.join(METHODS)}")
    check_spelled(spelled[0])
    return why_not_of(model, spelled[0].record.cls, spelled[0].options)


def why_not_of(model: nn.Module, method: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, str]:
    """`why_not` of a method's class or function and some of its options.

    The method says it itself: a class by its own ``why_not(model, **options)``, a function ``f`` by a function
    ``why_not_f(model, **options)`` of its file. Options that have no say there are passed over.
    """
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    hook: Callable[..., dict[str, str]] | None = of_class(method, "why_not")
    if hook is None:
        raise ValueError(f"{method.__name__} does not tell: it has no why_not(model, **options)")
    reasons = hook(model, **options)
    return {name: reasons[name] for name in Surroundings.of(model).layers if name in reasons} | reasons
