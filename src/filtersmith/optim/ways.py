"""How a scratch copy of an optimizer can be stepped."""

from __future__ import annotations

from collections.abc import Set
from itertools import product
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from filtersmith.optim.chains import Chain, Path, entries, walk
from filtersmith.optim.scratch import Scratch, Way

MOST_STEPS = 24
"""Within so many steps a copy has moved; some optimizers only watch at first."""
OF_WRAPPERS = 12
"""Steps of wrappers, which do something every few of them."""


def find_way(chain: Chain, parameter: Tensor, weights: Tensor, keys: Set[Path] = frozenset()) -> Way | None:
    """How a scratch copy can be stepped so that it moves; ``None`` where nothing does.

    The outermost one whose steps can be tried is stepped: wrappers keep something, too.

    Args:
        weights: what the copy's parameter begins with.
        keys: of tensors that the copy keeps of it afterwards, if so many steps are enough for that.
    """
    for root, level in enumerate(chain):
        if _speaks_to_others(level):
            continue
        for whole, constructed, closure, second_order in product((False, True), repeat=4):
            way = Way(root, whole, constructed, closure, second_order)
            try:
                least = OF_WRAPPERS if len(chain) > 1 else 3
                steps = _enough_steps(Scratch(chain, parameter, weights, way), least, keys)
            except Exception:  # it needs another way
                continue
            if steps:
                return way._replace(steps=steps)
        if _has_tensors(level, chain):
            return None  # of which nobody else knows
    return None


def _enough_steps(scratch: Scratch, least: int, keys: Set[Path]) -> int:
    """In how many steps it moves and keeps what it should, and two more; 0: it never moves."""
    before, enough, missing = scratch.parameter.detach().clone(), 0, True
    for step in range(1, MOST_STEPS + 1):
        scratch.step(torch.randn_like(before))
        if not enough and not torch.equal(scratch.parameter, before):
            enough = max(step + 2, least)
        if missing and keys <= {path for path, _ in entries(scratch.chain, scratch.parameter)}:
            missing, least = False, max(step + 2, least)
        if enough and not missing and step >= max(enough, least):
            break
    return max(enough, least) if enough else 0


def _speaks_to_others(level: Any) -> bool:
    """Whether its steps may wait for other processes."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return False
    return any(isinstance(value, dist.ProcessGroup) for value in vars(level).values())


def _has_tensors(level: Any, chain: Chain) -> bool:
    """Whether one keeps tensors beside its state: something that nobody else knows of."""
    own = {k: v for k, v in vars(level).items() if k not in ("param_groups", "state", "defaults")}
    own_parameters = {id(p) for each in chain for g in getattr(each, "param_groups", None) or () for p in g["params"]}
    return any(id(t) not in own_parameters and t.ndim > 0 for _, t in walk(own))
