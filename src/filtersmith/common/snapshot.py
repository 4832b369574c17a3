"""Undoing what was done to the modules of a network: attributes, parameters, children and classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from filtersmith.common.contents import contents, same_attributes


def snapshot(network: nn.Module) -> Callable[[], None]:
    """A function that gives every module of the network its present class, attributes, children and parameters back.

    Lists, sets and dictionaries, of the modules and of their classes, get back what they hold. Parameters are put
    back as objects, with the storage that they have now; what was written into large ones in place stays (vectors,
    such as a batch norm's weight, and buffers get their values back).
    """
    modules: list[tuple[nn.Module, type[nn.Module], dict[str, Any], bool]] = [
        (module, type(module), dict(vars(module)), module.training) for module in network.modules()
    ]
    # Handles of hooks know the very dictionaries that the hooks stand in.
    inside = contents(value for _, _, attributes, _ in modules for value in attributes.values())
    classes = {cls for module, *_ in modules for cls in type(module).__mro__ if not _of_torch(cls)}
    shared = [same_attributes(cls) for cls in classes]
    parameters = [(p, p.data, p.requires_grad) for p in network.parameters() if not is_lazy(p)]
    values = [_values(t) for t in network.parameters() if not is_lazy(t) and t.ndim == 1]
    values += [_values(buffer) for buffer in network.buffers() if not is_lazy(buffer)]

    @torch.no_grad()
    def restore() -> None:
        for module, cls, attributes, training in modules:
            if type(module) is not cls:
                module.__class__ = cls
            vars(module).clear()
            vars(module).update(attributes)
            if module.training is not training:  # of a ScriptModule it stands elsewhere
                module.training = training
        for put in (inside, *shared):
            put()
        for parameter, data, trained in parameters:
            parameter.data = data
            if parameter.requires_grad is not trained:
                parameter.requires_grad_(trained)
        for put in values:
            put()

    return restore


def _of_torch(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("torch", "builtins")


def _values(tensor: Tensor) -> Callable[[], None]:
    """A function that gives a tensor its present values back, if it has others."""
    memory = _memory(tensor.detach())
    before = memory.clone()

    def restore() -> None:
        if memory.device.type == "meta" or _equal(memory, before):
            return  # autograd would take a copy of the same values for a change
        # A tensor of inference mode may be written only there.
        with torch.inference_mode(memory.is_inference()):
            memory.copy_(before)

    return restore


def _memory(tensor: Tensor) -> Tensor:
    """A tensor, or where its elements may lie on top of each other (``expand``) all from the first to the last, once.

    Into such a tensor nothing can be written.
    """
    if tensor.layout is not torch.strided or not torch._debug_has_internal_overlap(tensor) or not tensor.numel():
        return tensor
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return torch.as_strided(tensor, (reach + 1,), (1,), tensor.storage_offset())


def _equal(one: Tensor, other: Tensor) -> bool:
    try:
        return torch.equal(one, other)
    except (RuntimeError, NotImplementedError):  # not for every kind of tensor
        return False
