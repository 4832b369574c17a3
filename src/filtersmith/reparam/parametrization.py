"""The parametrizations that `expand` registers: what tells them from others, and their weight decay."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.tensor import DTensor
from torch.nn.utils.parametrize import ParametrizationList

from filtersmith.reparam.decay import Once, with_decay
from filtersmith.reparam.reuse import Reuse
from filtersmith.reparam.sharded import refuse_flattened

Role = Literal["filtered", "inner", "plain"]
"""What a parameter is to weight decay: an underlying kernel (none), a mixing matrix (weak), any other."""


class Expansion(nn.Module):
    """Base of the parametrizations that `expand` registers.

    Attributes:
        roles: of the parameters that the tensor is computed from, in their order.
        decay: weight decay of the computed tensor, which `param_groups` sets.
        decay_factor: how strong it is, see `param_groups`.
    """

    roles: tuple[Role, ...] = ()
    is_expansion = True  # `filtersmith.filters` looks for it

    def __init__(self) -> None:
        super().__init__()
        self.decay: float = 0.0
        self.decay_factor: float = 0.5
        self._scaler: weakref.ref[GradScaler] | None = None
        self._once = Once()
        self._reuse = Reuse()

    def composed(self, compute: Callable[..., Tensor], parameters: Sequence[Tensor]) -> Tensor:
        """``compute(*parameters)``, once for all batches between two changes of the parameters."""
        return self._reuse(compute, parameters)

    def set_decay(self, decay: float, scaler: GradScaler | None, parameters: Sequence[Tensor] = ()) -> None:
        """Decay what is computed; ``scaler`` is the one of the loss, if there is one.

        ``parameters`` are those it is computed from, as the optimizer will have them.
        """
        self.decay = decay
        self._once.sharded = any(isinstance(parameter, DTensor) for parameter in parameters)
        self._scaler = None if scaler is None else weakref.ref(scaler)

    def decayed(self, kernel: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """The kernel, whose decay is added once to the gradient of the parameters that it is computed from."""
        if not self.decay or not kernel.requires_grad:
            return kernel
        if not torch.compiler.is_compiling():
            refuse_flattened(parameters)
        scaler = self._scaler() if self._scaler is not None else None
        if scaler is None and kernel.dtype == torch.float16 and torch.is_autocast_enabled(kernel.device.type):
            raise ValueError(
                "scaler must be given to param_groups for float16 autocast, got None: the loss is scaled there, "
                "and the decay of computed kernels has to be scaled with it"
            )
        # A compiled backward pass cannot ask what the gradients hold.
        share = None if torch.compiler.is_compiling() else partial(self._once, parameters)
        return with_decay(kernel, self.decay, share=share, scaler=scaler)


def fresh(shape: Sequence[int], fan_in: int, like: Tensor) -> Tensor:
    """Drawn as torch draws weights and biases of convolutions and linear layers: uniform up to 1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device).uniform_(-bound, bound)


def originals(tensor: ParametrizationList) -> list[Tensor]:
    """The parameters that a parametrized tensor is computed from."""
    if tensor.is_tensor:
        return [tensor.original]
    return [getattr(tensor, f"original{i}") for i in range(tensor.ntensors)]
