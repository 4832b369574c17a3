"""Trying an optimizer out where nobody sees it."""

from __future__ import annotations

import copy
import io
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from filtersmith.optim.chains import Chain


@contextmanager
def apart(chain: Chain) -> Iterator[None]:
    """Nothing that copies of a chain do inside is seen outside.

    No random number is drawn, nothing is printed or warned of, no hook on all optimizers is called, and the classes
    keep their attributes.
    """
    numpy: Any = sys.modules.get("numpy")
    drawn = random.getstate(), numpy.random.get_state() if numpy else None
    hooks: list[Any] = [torch_optimizer._global_optimizer_pre_hooks, torch_optimizer._global_optimizer_post_hooks]
    kept = [dict(each) for each in hooks]
    devices = {p.device for level in chain for g in vars(level).get("param_groups") or () for p in g["params"]}
    others = sorted((device for device in devices if device.type != "cpu"), key=str)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(others, device_type=others[0].type if others else "cuda"))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        if "torch._dynamo" in sys.modules:  # compiling would take longer than all of this, and so would the import
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for cls in dict.fromkeys(cls for level in chain for cls in type(level).__mro__):
            if issubclass(cls, Optimizer) and cls is not Optimizer:
                stack.enter_context(_same_attributes(cls))
        warnings.simplefilter("ignore")
        try:
            for each in hooks:
                each.clear()
            yield
        finally:
            for each, before in zip(hooks, kept, strict=True):
                each.update(before)
            random.setstate(drawn[0])
            if numpy:
                numpy.random.set_state(drawn[1])


@contextmanager
def _same_attributes(cls: type) -> Iterator[None]:
    """A class keeps its attributes (a count of its objects), and those that are containers what is in them."""
    before = {name: value for name, value in vars(cls).items() if not name.startswith("__")}
    inside = {name: copy.copy(value) for name, value in before.items() if type(value) in (list, dict, set)}
    try:
        yield
    finally:
        for name, value in dict(vars(cls)).items():
            if name not in before and not name.startswith("__"):
                delattr(cls, name)
            elif value is not before.get(name, value):
                setattr(cls, name, before[name])
        for name, content in inside.items():
            container: Any = before[name]
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)


def seed(device: torch.device) -> None:
    """Start the default generators of the CPU and of a device at 0; `apart` puts them back."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed would also seed devices that start later
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(0)
