"""Pairs of a convolution and the batch norm behind it: finding them, making blocks of branches of them, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.snapshot import snapshot
from filtersmith.graph.trace import kept_elsewhere, trace
from filtersmith.reparam.branches import Absorbed, Branches

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def batch_norms_behind(network: nn.Module) -> dict[nn.Module, nn.Module]:
    """Convolution -> the batch norm that alone reads its output, read off the network's graph (torch.fx).

    The graph is that of training and of evaluation. A network that torch.fx cannot trace is looked at in parts, as if
    they were only called as a whole. Left out are batch norms without running statistics and their subclasses (which
    do more than normalise), and modules with hooks or that are also kept outside of the network's children (a plain
    list): what takes their place would not be seen there.
    """
    behind: dict[nn.Module, nn.Module | None] = {}
    before: dict[nn.Module, nn.Module | None] = {}
    # Tracing runs the network's own code on stand-ins, which may leave them in its attributes.
    restore = snapshot(network)
    try:
        for mode in (network.training, not network.training):
            network.train(mode)
            _look(network, behind, before)
    finally:
        restore()
    elsewhere = kept_elsewhere(network)
    return {
        conv: bn
        for conv, bn in behind.items()
        if type(bn) in _BATCH_NORMS
        and isinstance(bn, _BatchNorm)
        and bn.running_mean is not None
        and bn.num_features == conv.out_channels
        and before.get(bn) is conv
        and not any(_has_hooks(module) or id(module) in elsewhere for module in (conv, bn))
    }


def _look(
    network: nn.Module, behind: dict[nn.Module, nn.Module | None], before: dict[nn.Module, nn.Module | None]
) -> None:
    """Note what reads each convolution and what each batch norm reads; ``None``: something else, or several."""
    if isinstance(network, Branches):
        return
    if isinstance(network, _ConvNd):
        behind[network] = None  # code that cannot be traced calls it
        return
    if isinstance(network, _BatchNorm):
        before[network] = None
        return
    graph = trace(network, (Branches,))
    if graph is None:
        for child in network.children():
            _look(child, behind, before)
        return
    for node in graph.nodes:
        if node.op == "get_attr":  # its weight is read by itself
            owner = network.get_submodule(node.target.rpartition(".")[0])
            behind[owner] = before[owner] = None
        if node.op != "call_module":
            continue
        module = network.get_submodule(node.target)
        if isinstance(module, _ConvNd):
            readers = [network.get_submodule(user.target) for user in node.users if user.op == "call_module"]
            bn = readers[0] if len(readers) == len(node.users) == 1 else None
            behind[module] = bn if behind.setdefault(module, bn) is bn else None
        elif isinstance(module, _BatchNorm):
            source = node.args[0] if node.args else None
            called = isinstance(source, fx.Node) and source.op == "call_module"
            conv = network.get_submodule(str(source.target)) if isinstance(source, fx.Node) and called else None
            before[module] = conv if before.setdefault(module, conv) is conv else None


def _has_hooks(module: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def swap(network: nn.Module, conv: nn.Module, bn: nn.Module | None, make: Callable[[Any, Any], Branches]) -> Branches:
    """Put a block of branches in the place of ``conv``, and a placeholder in that of ``bn``, everywhere.

    Without ``bn`` the block gets a batch norm of its own: its bias will go into the convolution's.
    """
    parents = list(network.modules())
    training = bn.training if bn is not None else conv.training  # frozen statistics stay frozen
    block = make(conv, bn if bn is not None else _own_batch_norm(conv))
    block.train(conv.training)
    block.bn.train(training)
    if bn is not None:
        block.absorbed = (Absorbed().train(training),)
    for parent in parents:
        for name, child in parent._modules.items():
            if child is conv:
                parent._modules[name] = block
            elif child is bn and bn is not None:
                parent._modules[name] = block.absorbed[0]
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
