"""Which filters a ranking chooses: the least important ones of all layers together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from filtersmith.common.distributed import follow_first
from filtersmith.common.options import unknown_name
from filtersmith.measure.ranking import CRITERIA, ON_DATA, is_of_network, rank


def pooled(scores: Mapping[str, Tensor]) -> list[tuple[str, int]]:
    """All ``(layer, filter)`` of a ranking, the least important first; equal ones in the order of the mapping.

    >>> pooled({"a": torch.tensor([2.0, 1.0]), "b": torch.tensor([1.0])})
    [('a', 1), ('b', 0), ('a', 0)]
    """
    pairs = [(value, name, f) for name, values in scores.items() for f, value in enumerate(values.tolist())]
    return [(name, f) for _, name, f in sorted(pairs, key=lambda pair: pair[0])]


def choose(scores: Mapping[str, Tensor], count: int, keep_min: int) -> list[tuple[str, int]]:
    """The ``count`` filters of the lowest importance, lowest first, of which ``keep_min`` of each layer stay.

    Ties go by layer and filter. Where a layer has no more to give, the next of other layers follow.
    """
    left = {name: len(importance) - keep_min for name, importance in scores.items()}
    chosen: list[tuple[str, int]] = []
    for name, filter in pooled(scores):
        if len(chosen) < count and left[name] > 0:
            chosen.append((name, filter))
            left[name] -= 1
    return chosen


def choose_together(
    model: nn.Module,
    criterion: str | Callable[..., Any],
    layers: Iterable[str],
    count: int,
    keep_min: int,
    generator: Generator,
) -> list[tuple[str, int]]:
    """As `choose`, by a criterion of `rank`; of several processes the first one decides.

    Args:
        generator: the source of a criterion's random numbers; as it was where the criterion raises.
    """
    names, before = list(layers), generator.get_state()
    seed = int(torch.randint(2**62, (1,), generator=generator, device="cpu"))
    try:
        scores = rank(model, criterion, layers=names, seed=seed)
    except BaseException:
        generator.set_state(before)
        raise
    # In the last bits of the scores, processes may differ.
    places = [(names.index(name), filter) for name, filter in choose(scores, count, keep_min)]
    order = torch.tensor(places, device="cpu")
    follow_first(order)
    return [(names[layer], filter) for layer, filter in order.tolist()]


def check_criterion(option: str, value: Any) -> Any:
    """The value of an option that names a criterion or is a function; ``ValueError`` where it is neither."""
    if not callable(value) and (not isinstance(value, str) or value not in CRITERIA):
        raise unknown_name("criterion", value, CRITERIA)
    return value


def knows_linear_layers(criterion: str | Callable[..., Any]) -> bool:
    """Whether a criterion of `rank` surely scores linear layers that are 1x1 convolutions.

    A function of the network may have been written for convolutions alone.
    """
    if isinstance(criterion, partial) and criterion.func is rank:
        return criterion.keywords.get("layers") is None
    return not callable(criterion) or not is_of_network(criterion)


def refuse_without_data(criterion: str | Callable[..., Any]) -> None:
    """``ValueError`` for the name of a criterion that looks at data, and what to give in its place."""
    if criterion in ON_DATA:
        given = f"functools.partial(fs.rank, criterion={criterion!r}, data=batches)"
        raise ValueError(f"rank={criterion!r} needs data: give rank={given}")


def with_data(criterion: str | Callable[..., Any], held_out: Iterable[Any] | None) -> str | Callable[..., Any]:
    """A criterion for a method that knows no data: with ``held_out`` batches where it needs some.

    ``ValueError`` where they are missing.
    """
    if criterion not in ON_DATA:
        return criterion
    if held_out is None:
        allowed = f"batches of images that nothing is trained on for rank={criterion!r}"
        raise ValueError(f"held_out must be {allowed} (in the laboratory: data.holdout above 0), got None")
    return partial(rank, criterion=criterion, data=held_out)
