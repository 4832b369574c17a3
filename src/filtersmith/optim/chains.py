"""Reading an optimizer and its wrappers: their states, groups and what they keep of a parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from filtersmith.optim.wrappers import given_optimizers, levels

Chain = tuple[Any, ...]
"""An optimizer and what it wraps, the outermost first."""
Path = tuple[Any, ...]
"""Where a tensor stands: which of the states of a chain, then its key there, then keys and positions inside."""


def chain_of(optimizer: Any) -> Chain:
    """An optimizer and what it wraps, without a trainer's wrappers, which hold much more than an optimizer."""
    found = levels(optimizer)
    return tuple(level for level in found if isinstance(level, Optimizer) or _is_plain(level, found))


class Chains(tuple[Chain, ...]):
    """Those of one optimizer or several, found once for all that is asked of many parameters in a step."""


def chains_of(optimizer: Any) -> Chains:
    """Those of one optimizer or several; what was found already as it is."""
    return optimizer if isinstance(optimizer, Chains) else Chains(map(chain_of, given_optimizers(optimizer)))


def _is_plain(level: Any, chain: Chain) -> bool:
    """Whether something that is no optimizer has nothing but numbers and tensors beside what it wraps."""
    plain = (int, float, str, tuple, list, dict, Tensor, type(None))
    return all(
        isinstance(v, plain) or any(v is one for one in chain) for v in getattr(level, "__dict__", {}).values()
    )


def stores(chain: Chain) -> list[MutableMapping[Any, Any]]:
    """The different states of a chain: wrappers may show that of the optimizer inside."""
    kept = [getattr(level, "__dict__", {}).get("state") for level in chain]
    return list({id(store): store for store in kept if isinstance(store, MutableMapping)}.values())


def entries(chain: Chain, parameter: Tensor) -> Iterator[tuple[Path, Tensor]]:
    """All tensors that a chain keeps of a parameter."""
    for number, store in enumerate(stores(chain)):
        for path, value in walk(store.get(parameter)):
            yield ((number, *path), value)


def walk(value: Any) -> Iterator[tuple[Path, Tensor]]:
    """The tensors in nested dictionaries, lists and tuples, with the keys that lead to them."""
    if isinstance(value, Tensor):
        yield (), value
    elif isinstance(value, (Mapping, list, tuple)):
        for key, inside in value.items() if isinstance(value, Mapping) else enumerate(value):
            for path, tensor in walk(inside):
                yield ((key, *path), tensor)


def groups_with(level: Any, parameter: Tensor) -> list[dict[str, Any]]:
    """The groups of one level that have a parameter."""
    return [g for g in vars(level).get("param_groups") or () if any(p is parameter for p in g["params"])]


def owns(chain: Chain, parameter: Tensor) -> bool:
    return any(groups_with(level, parameter) for level in chain)


def is_innermost(level: Any) -> bool:
    """Whether it is an optimizer that wraps nothing."""
    return isinstance(level, Optimizer) and len(levels(level)) == 1


def name_of(chain: Chain) -> str:
    return " of ".join(dict.fromkeys(type(level).__name__ for level in chain))
