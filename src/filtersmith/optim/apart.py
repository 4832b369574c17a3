"""Trying an optimizer out where nobody sees it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from filtersmith.common.contents import same_attributes
from filtersmith.common.unnoticed import unnoticed
from filtersmith.optim.chains import Chain


@contextmanager
def apart(chain: Chain) -> Iterator[None]:
    """Nothing that copies of a chain do inside is seen outside.

    No random number is drawn, nothing is printed or warned of, no hook on all optimizers is called, and the classes
    keep their attributes.
    """
    hooks: list[Any] = [torch_optimizer._global_optimizer_pre_hooks, torch_optimizer._global_optimizer_post_hooks]
    kept = [dict(each) for each in hooks]
    devices = {p.device for level in chain for g in vars(level).get("param_groups") or () for p in g["params"]}
    with ExitStack() as stack:
        stack.enter_context(unnoticed(devices))
        for cls in dict.fromkeys(cls for level in chain for cls in type(level).__mro__):
            if issubclass(cls, Optimizer) and cls is not Optimizer:
                stack.callback(same_attributes(cls))
        try:
            for each in hooks:
                each.clear()
            yield
        finally:
            for each, before in zip(hooks, kept, strict=True):
                each.update(before)


def seed(device: torch.device) -> None:
    """Start the default generators of the CPU and of a device at 0; `apart` puts them back."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed would also seed devices that start later
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(0)
