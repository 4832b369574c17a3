"""How a scratch copy of an optimizer can be stepped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from filtersmith.optim.scratch import Chain, Scratch, Way, probing_weights, walk


def find_way(chain: Chain, parameter: Tensor, steps: Callable[[Scratch], Any]) -> Way | None:
    """How a scratch copy can be stepped so that it moves; ``None`` where nothing does.

    The outermost one whose steps can be tried is stepped: wrappers keep something, too.
    """
    weights = probing_weights(parameter)
    for root, level in enumerate(chain):
        if not isinstance(level, Optimizer) or _speaks_to_others(level):
            continue
        for way in _ways(root):
            if way.constructed and len(weights) == 0:
                continue
            try:
                scratch = Scratch(chain, parameter, weights, way)
                steps(scratch)
                if not torch.equal(scratch.parameter, weights):
                    return way
            except Exception:
                continue
        if _has_tensors(level, chain):
            return None
    return None


def _ways(root: int) -> Iterator[Way]:
    for whole in (False, True):
        for constructed in (False, True):
            for closure in (False, True):
                for second_order in (False, True):
                    yield Way(root, whole, constructed, closure, second_order)


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
