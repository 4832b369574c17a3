"""Parameter groups for an optimizer: which weight decay the parameters of an expanded network get."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.common.options import bad_option, number
from filtersmith.reparam.parametrization import Expansion, Role, originals


def param_groups(
    model: nn.Module,
    weight_decay: float,
    inner_weight_decay: float = 1e-9,
    *,
    decay_factor: float | None = None,
    scaler: GradScaler | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, with KFLO's rule of weight decay.

    The decay that a kernel would have is put on the *generated* kernel W' (in its backward pass, no term in the loss
    is needed; it shows in the gradients and is clipped with them), none on the filtered kernels W_1 and their
    biases, and ``inner_weight_decay`` on the pointwise kernels W_2 to W_B. Everything else gets ``weight_decay``, as
    do all parameters of a network that KFLO has not expanded. Call it again to change the decay.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        >>> groups = fs.param_groups(fs.expand(model, fs.KFLO()), weight_decay=1e-4)
        >>> [(group["weight_decay"], len(group["params"])) for group in groups]
        [(0.0001, 2), (0.0, 2), (1e-09, 1)]
        >>> optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)

    Args:
        model: expanded or plain; wrapped in DDP as well. For FSDP2 shard it before: the optimizer needs the shards.
        weight_decay: as an optimizer takes it, at least 0.
        inner_weight_decay: of the pointwise kernels, at least 0; 1e-9 by default (paper).
        decay_factor: the penalty whose gradient is applied is ``decay_factor * weight_decay * ||W'||^2``: 0.5
            gives what an optimizer's decay of a plain kernel does, 1.0 the authors' code; default: that of `KFLO`.
        scaler: the gradient scaler, if the loss is scaled (float16); the decay is scaled with it.

    Returns:
        One to three groups, for the optimizer's constructor; every parameter is in one of them.

    Raises:
        ValueError: an option out of range.

    Source: *Utilizing Excess Resources in Training Neural Networks*, Sec. 4, https://arxiv.org/abs/2207.05532
    """
    _check(weight_decay=weight_decay, inner_weight_decay=inner_weight_decay, decay_factor=decay_factor)
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    if scaler is not None and not isinstance(scaler, GradScaler):
        raise bad_option("scaler", type(scaler).__name__, "None or a torch.amp.GradScaler")
    roles: dict[int, Role] = {}
    for module in model.modules():
        for tensor in getattr(module, "parametrizations", {}).values() if is_parametrized(module) else ():
            if isinstance(how := tensor[0], Expansion):
                roles |= {id(p): role for p, role in zip(originals(tensor), how.roles, strict=True)}
                if "inner" in how.roles:
                    factor = how.decay_factor if decay_factor is None else decay_factor
                    how.set_decay(2 * factor * weight_decay, scaler, originals(tensor))
    decays: dict[Role, float] = {"plain": weight_decay, "filtered": 0.0, "inner": inner_weight_decay}
    groups = [
        {"params": [p for p in model.parameters() if roles.get(id(p), "plain") == role], "weight_decay": decay}
        for role, decay in decays.items()
    ]
    return [group for group in groups if group["params"]]


def _check(**options: Any) -> None:
    for option, value in options.items():
        if value is not None or option != "decay_factor":
            number(option, value, lambda x: 0 <= x < math.inf, "a number of at least 0")


def refuse_maximize(model: nn.Module, groups: Iterable[Mapping[str, Any]]) -> None:
    """``ValueError`` where an optimizer would turn the decay of computed kernels into growth."""
    decayed = any(isinstance(module, Expansion) and module.decay for module in model.modules())
    if decayed and any(group.get("maximize") for group in groups):
        raise ValueError(
            "optimizer must not maximize where kernels are computed and decayed (KFLO): the decay is part of their "
            "gradient, and would let them grow; minimize the negative instead"
        )
