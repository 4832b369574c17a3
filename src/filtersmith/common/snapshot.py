"""Undoing what was done to the modules of a network: attributes, parameters, children and classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy


def snapshot(network: nn.Module) -> Callable[[], None]:
    """A function that gives every module of the network its present class, attributes, children and parameters back.

    Parameters are put back as objects, with the storage that they have now; what was written into large ones in place
    stays (vectors, such as a batch norm's weight, and buffers get their values back).
    """
    modules: list[tuple[nn.Module, type[nn.Module], dict[str, Any]]] = [
        (module, type(module), dict(vars(module))) for module in network.modules()
    ]
    buffers = [(b, b.detach().clone()) for b in network.buffers() if not is_lazy(b)]
    # Handles of hooks know the very dictionaries that the hooks stand in.
    contents = [(v, v.copy()) for _, _, attributes in modules for v in attributes.values() if isinstance(v, dict)]
    tensors = [
        (p, p.data, p.detach().clone() if p.ndim == 1 else None) for p in network.parameters() if not is_lazy(p)
    ]

    @torch.no_grad()
    def restore() -> None:
        for module, cls, attributes in modules:
            module.__class__ = cls
            vars(module).clear()
            vars(module).update(attributes)
        for dictionary, content in contents:
            dictionary.clear()
            dictionary.update(content)
        for parameter, data, values in tensors:
            parameter.data = data
            if values is not None:
                parameter.copy_(values)
        for buffer, values in buffers:
            buffer.copy_(values)

    return restore
