"""The optimizer's own memory of some filters: made what a fresh optimizer would hold of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from filtersmith.filters import FilterLayer, Slice
from filtersmith.optim.chains import Chain, Path, chains_of, entries, groups_with, name_of, owns, stores, walk
from filtersmith.optim.fresh import UnclearError, forget, known, present_values, start_anew
from filtersmith.optim.places import Place, spots


def clear_filters(optimizer: Any, layer: FilterLayer, filters: Tensor) -> int:
    """Start anew what the optimizer keeps for the given filters of a layer's weight, and nothing else.

    It becomes what a fresh optimizer would hold for the weight's present values: 0 of momentum and moments, as a
    rule; the weight, or another constant. What is shared by all filters (step counters) stays. Where the optimizer
    mixes filters in what it keeps of the weight, all of that starts anew.

    Args:
        optimizer: one or several, as its user has it: wrappers keep something, too.
        filters: int64 indices, shape ``(u,)``.

    Returns:
        The number of state tensors that were touched.
    """
    return _start_anew(optimizer, layer.weight, layer, filters)


def clear_rows(optimizer: Any, parameter: Tensor, rows: Tensor) -> int:
    """`clear_filters` for rows of a parameter that is no kernel: a bias, a batch norm's weight."""
    return _start_anew(optimizer, parameter, None, rows)


def _start_anew(optimizer: Any, parameter: Tensor, layer: FilterLayer | None, units: Tensor) -> int:
    touched = 0
    for chain in chains_of(optimizer):
        if any(stores(chain)) and owns(chain, parameter):
            learned = known(chain, parameter, layer, renew=True)
            touched += start_anew(chain, parameter, layer, units, learned)
    return touched


@torch.no_grad()
def clear_elements(optimizer: Any, parameter: Tensor, mask: Tensor, *, mixed: bool = False) -> int:
    """Start anew the masked entries of what the optimizer keeps of each single value of a parameter.

    What it starts as is learned once for an optimizer and a shape, so that this may follow every step.

    Args:
        mask: bool, of the parameter's shape.
        mixed: whether all that is kept of the parameter starts anew where the optimizer mixes its values.
    """
    touched = 0
    for chain in chains_of(optimizer):
        kept = dict(entries(chain, parameter))
        if not kept and not (mixed and owns(chain, parameter)):  # LBFGS keeps all of it with its first parameter
            continue
        learned = known(chain, parameter, None)
        if mixed and learned.anew != "entries":
            forget(chain, None if learned.anew == "optimizer" else parameter, learned.way)
            touched += len(kept)
            continue
        for path, value in kept.items():
            if not learned.places.get(path, Place()).as_parameter or value.numel() != parameter.numel():
                continue
            shaped = value if value.shape == parameter.shape else value.view(parameter.shape)
            start = learned.starts[path]
            inside = mask.to(value.device)
            if isinstance(start, float | int):
                shaped.masked_fill_(inside, start)
            else:
                whole = start == "weight"
                source = parameter if whole else present_values(chain, parameter, None, learned, set(kept))[path]
                shaped.copy_(torch.where(inside, source.detach().view(shaped.shape).to(shaped), shaped))
            touched += 1
    return touched


def places_of(
    optimizer: Any, parameter: Tensor, layer: FilterLayer | None
) -> Iterator[tuple[Callable[[], Tensor], Callable[..., Slice]]]:
    """Of each tensor that the optimizer keeps of single filters: how to get it, and where some of them stand in it.

    A tensor may be another object after a step. Where they stand is a function of their indices and the ``tensor``.
    """
    for chain in chains_of(optimizer):
        kept = dict(entries(chain, parameter))
        if not kept:
            continue
        learned = known(chain, parameter, layer, kept)
        for path, value in kept.items():
            place = learned.places.get(path)
            if place is None and path not in learned.starts and value.shape == parameter.shape and value.ndim:
                place = Place(as_parameter=True)
            if place is None or not place.is_in(value, parameter.shape):
                continue
            for number in range(int(place.as_parameter) + len(place.axes)):
                part = partial(_spot, number, place, layer, parameter.shape)
                yield partial(_look_up, chain, parameter, path), part


def kept_of(
    optimizer: Any, parameter: Tensor, layer: FilterLayer | None, units: Tensor
) -> Iterator[tuple[Callable[[], Tensor], Callable[[Tensor], Slice]]]:
    """`places_of` for filters that stay the same: where they stand is a function of the tensor alone."""
    for tensor, part in places_of(optimizer, parameter, layer):
        yield tensor, partial(part, units)


def _spot(
    number: int, place: Place, layer: FilterLayer | None, shape: torch.Size, units: Tensor, tensor: Tensor
) -> Slice:
    return [*spots(place, layer, units, shape, tensor)][number]


def _look_up(chain: Chain, parameter: Tensor, path: Path) -> Tensor:
    found: Any = stores(chain)[path[0]][parameter]
    for key in path[1:]:
        found = found[key]
    assert isinstance(found, Tensor)
    return found


def kept_now(optimizer: Any, parameters: Iterable[Tensor]) -> list[tuple[Path, int]]:
    """Which tensors the optimizer keeps of some parameters: equal lists while these are the same ones."""
    kept = (
        (store.get(p), n)
        for chain in chains_of(optimizer)
        for n, store in enumerate(stores(chain))
        for p in parameters
    )
    return [((n, *path), id(tensor)) for of_one, n in kept for path, tensor in walk(of_one)]


def keeps_nothing(optimizer: Any, parameter: Tensor, layer: FilterLayer | None) -> bool:
    """Whether nothing is kept yet of a parameter, so that the next step makes what is kept of single filters."""
    return not any(
        any(True for _ in entries(chain, parameter)) or known(chain, parameter, layer).anew != "entries"
        for chain in chains_of(optimizer)
    )


def refuse_unclear(method: str, optimizer: Any, layers: Iterable[FilterLayer]) -> None:
    """``ValueError`` where a fresh state of single filters cannot be told from what the optimizer keeps.

    The smallest layer of every group and number of dimensions is tried.
    """
    by_size = sorted(layers, key=lambda layer: layer.weight.numel())
    for chain in chains_of(optimizer):
        tried: dict[Any, FilterLayer] = {}
        for layer in by_size:
            if owns(chain, layer.weight):
                tried.setdefault((_groups(chain, layer.weight), layer.weight.ndim), layer)
        for layer in tried.values():
            try:
                known(chain, layer.weight, layer)
            except UnclearError as error:
                raise ValueError(f"{method} cannot start filters anew under {name_of(chain)}: {error}") from None


def _groups(chain: Chain, parameter: Tensor) -> tuple[int, ...]:
    return tuple(id(group) for level in chain for group in groups_with(level, parameter))
