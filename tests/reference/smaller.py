"""C^n(X) without some of its filters, as a network of its own: layer by layer, with nothing shared."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from filtersmith.zoo.vanilla import Vanilla


@torch.no_grad()
def without(network: Vanilla, dropped: Mapping[str, Tensor]) -> nn.Sequential:
    """A smaller network with copies of what the filters that stay have of their own.

    Args:
        network: C^n(X), with or without batch norm.
        dropped: ``"features.3"`` and so on -> bool, shape ``(filters,)``; layers that are not named stay whole.
    """
    kind = network.fc.weight.dtype
    modules: list[nn.Module] = []
    kept: Tensor | None = None  # the channels that are left of those that come in
    for name, module in network.features.named_children():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            weight = module.weight if kept is None else module.weight[:, kept]
            kept = ~dropped.get(f"features.{name}", torch.zeros(module.out_channels, dtype=torch.bool))
            conv = nn.Conv2d(weight.shape[1], int(kept.sum()), 3, padding=1, dtype=kind)
            conv.weight.copy_(weight[kept])
            conv.bias.copy_(module.bias[kept])  # type: ignore[union-attr]
            modules.append(conv)
        elif isinstance(module, nn.BatchNorm2d):
            bn = nn.BatchNorm2d(int(kept.sum()), dtype=kind)  # type: ignore[union-attr]
            for own, whole in zip(bn.state_dict().values(), module.state_dict().values(), strict=True):
                own.copy_(whole[kept] if whole.ndim else whole)
            modules.append(bn)
        else:
            modules.append(nn.ReLU())
    assert kept is not None
    columns = network.fc.weight.unflatten(1, (len(kept), -1))[:, kept].flatten(1)
    last = nn.Linear(columns.shape[1], columns.shape[0], dtype=kind)
    last.weight.copy_(columns)
    last.bias.copy_(network.fc.bias)
    return nn.Sequential(*modules, nn.Flatten(), last)
