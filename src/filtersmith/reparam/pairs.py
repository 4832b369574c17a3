"""Pairs of a convolution and the batch norm behind it: making blocks of branches of them, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from filtersmith.reparam.branches import Absorbed, Branches, plain_class
from filtersmith.reparam.places import put_in_place


def swap(network: nn.Module, conv: nn.Module, bn: nn.Module | None, make: Callable[[Any, Any], Branches]) -> Branches:
    """Put a block of branches in the place of ``conv``, and a placeholder in that of ``bn``, everywhere.

    Without ``bn`` the block gets a batch norm of its own: its bias will go into the convolution's.
    """
    training = bn.training if bn is not None else conv.training  # frozen statistics stay frozen
    others: dict[nn.Module, nn.Module] = {}
    absorbed: tuple[Absorbed, ...] = ()
    if bn is not None:
        absorbed = (Absorbed(bn),)
        others[bn] = absorbed[0]
        # The same object with the same parameters. What else its class calls is called by what stands in its place.
        bn.__class__ = plain_class(bn)
        bn._modules.clear()
    block = make(conv, bn if bn is not None else _own_batch_norm(conv))
    block.train(conv.training)
    block.bn.train(training)
    block.absorbed = absorbed
    put_in_place(network, others | {conv: block})
    if not conv.weight.requires_grad:
        trained = {id(p) for part in (conv, block.bn) for p in part.parameters()}
        for parameter in block.parameters():
            if id(parameter) not in trained:
                parameter.requires_grad_(False)
    return block


@torch.no_grad()
def fold(block: Branches, conv: Any, bn: Any) -> None:
    """Give ``conv``, and ``bn`` if there is one behind it, the values of the block that they came from.

    The folded bias goes into the convolution's, or into the batch norm's where it has none. The batch norm does
    nothing else in evaluation mode.
    """
    kernel, bias = block.fold()
    conv.weight.copy_(kernel)
    if conv.bias is not None:
        conv.bias.copy_(bias)
        bias = torch.zeros_like(bias)
    if bn is None:
        return
    bn.running_mean.zero_()
    bn.running_var.fill_(1 - bn.eps)
    if bn.weight is not None:
        bn.weight.fill_(1)
    if bn.bias is not None:
        bn.bias.copy_(bias)
    else:
        bn.running_mean.copy_(-bias)


def _own_batch_norm(conv: Any) -> nn.Module:
    return nn.BatchNorm2d(conv.out_channels, device=conv.weight.device, dtype=conv.weight.dtype)
