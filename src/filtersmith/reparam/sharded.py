"""Where FSDP2 keeps the gradients of a parameter that it has gathered.

A layer under ``fully_shard`` computes with whole parameters that exist for the passes only. Their gradients are taken
away at the end of each backward pass and accumulate elsewhere: in the sharded parameter, the one that the optimizer
sees, or, until ranks are synchronised, in buffers. Nothing public leads from one parameter to the other, so this file
reads torch's own records, and says so where it cannot.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import _composable_state
from torch.utils.weak import WeakTensorKeyDictionary

from filtersmith.common.distributed import local


@dataclass(frozen=True)
class Gathered:
    """What FSDP2 knows of a parameter that it has gathered: its own record, and that of the group it is in."""

    parameter: Any
    group: Any

    def kept(self) -> list[Tensor]:
        """What has accumulated elsewhere than in the gathered parameter's ``.grad``, this rank's part of it."""
        buffer = getattr(self.parameter, "unsharded_accumulated_grad", None)
        own = getattr(self.parameter, "_unsharded_param", None)
        gradients = [
            self.parameter.sharded_param.grad,
            None if own is not None and buffer is own.grad else buffer,  # of another type, in older versions
            getattr(self.group, "_partial_reduce_output", None),  # HSDP, before other shards' ranks have added theirs
        ]
        return [local(gradient) for gradient in gradients if gradient is not None]

    def is_zero_everywhere(self, gradients: list[Tensor]) -> Tensor:
        """Whether gradients are zero on every rank: what one rank holds of them may be zero, or nothing."""
        mesh = self.parameter.sharded_param.device_mesh
        somewhere = [(gradient != 0).any().to(mesh.device_type) for gradient in gradients]  # shards may be offloaded
        some = torch.stack(somewhere).any().to(torch.int32)
        for group in mesh.get_all_groups():
            dist.all_reduce(some, dist.ReduceOp.MAX, group=group)
        return some == 0


def refuse_flattened(parameters: Sequence[Tensor]) -> None:
    """``ValueError`` for what FSDP1 cuts out of its flat parameter: it keeps gradients where nobody can count."""
    if any(getattr(parameter._base, "_is_flat_param", False) for parameter in parameters):
        raise ValueError(
            "cannot decay computed kernels (KFLO) under FullyShardedDataParallel, which flattens the weights: use "
            "torch.distributed.fsdp.fully_shard or DistributedDataParallel, or weight_decay=0 in param_groups"
        )


def gathered(parameter: Tensor) -> Gathered | None:
    """The record of a parameter that FSDP2 has gathered; ``None`` for every other."""
    states = getattr(_composable_state, "_module_state_mapping", None)
    if not states:
        return None
    if parameter not in _known:
        for reference in list(states.values()):
            for group in _groups(reference() if isinstance(reference, weakref.ref) else reference):
                for one in getattr(group, "fsdp_params", ()):
                    if (own := getattr(one, "_unsharded_param", None)) is not None:
                        _known[own] = weakref.ref(one), weakref.ref(group)
        _known.setdefault(parameter, None)  # what is none of FSDP2's does not become one
    references = _known[parameter]
    one, group = (None, None) if references is None else (reference() for reference in references)
    return None if one is None or group is None else Gathered(one, group)


_known: Any = WeakTensorKeyDictionary()
"""Parameter -> FSDP2's two records of it. They hold the parameter, so they are referred to weakly."""


def _groups(state: Any) -> list[Any]:
    several = getattr(state, "_fsdp_param_groups", None)
    if several is None:  # torch before 2.12
        several = [getattr(state, "_fsdp_param_group", None)]
    return [group for group in several if group is not None]
