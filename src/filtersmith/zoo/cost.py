"""What a network costs: parameters, and multiply-adds of one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from filtersmith.common.options import bad_option
from filtersmith.zoo.info import Task

T = TypeVar("T")


def measure(make: Callable[[], nn.Module], count: Callable[[nn.Module], T]) -> T:
    """``count(make())``, on the meta device (no memory, no time) where the network can live there.

    torch's generator is left alone. A network that needs the values of its tensors, in its making or its counting
    (RegNet computes its widths with them), is made and counted for real.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return count(make())
        except (RuntimeError, TypeError) as error:
            if not _wants_values(error):
                raise
        return count(make())


def parameters(network: nn.Module) -> int:
    """The number of parameters; one that is used in several places counts once."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, name: str, task: Task) -> int:
    """Multiply-adds of one image of ``task`` in evaluation mode: convolutions, linear layers and attention.

    Padding counts as if it were image; biases, normalisation, activations and pooling count nothing, as is usual.
    ``network`` cannot be used afterwards. An image that it does not take raises ValueError; ``name`` says who.
    """
    network.eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            # It counts nothing and keeps the shape, and on the meta device it would take half of the time.
            module.forward = _same  # type: ignore[method-assign, assignment]
    device = next(network.parameters()).device
    image = torch.zeros(1, task.in_channels, task.image_size, task.image_size, device=device)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(image)
    except (RuntimeError, TypeError, AssertionError) as error:
        if _wants_values(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise bad_option("image_size", task.image_size, f"one that {name} takes ({reason})") from None
    return int(counter.get_total_flops()) // 2


def _wants_values(error: Exception) -> bool:
    """Whether torch refused something on the meta device that it does on others."""
    return isinstance(error, NotImplementedError) or "meta" in str(error)


def _same(x: Tensor) -> Tensor:
    return x
