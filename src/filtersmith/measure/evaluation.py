"""Running a network over data without leaving a trace, and running traced parts of it node by node."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from filtersmith.common.options import bad_option
from filtersmith.common.snapshot import snapshot
from filtersmith.graph.trace import Part


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; the network and torch's generators are as before afterwards.

    The modes are set module by module, not by ``train()``, which networks override to do other things as well.
    Compiled parts run as plain code, without which what is watched in them would not be seen.
    """
    restore = snapshot(network)  # with what it keeps for evaluation, such as timm's caches of biases
    cuda = {p.get_device() for p in network.parameters() if p.device.type == "cuda"}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=sorted(cuda)))  # a DataLoader draws from the global one
        stack.enter_context(torch.inference_mode(False))
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module in network.modules():
                module.training = False
            yield
        finally:
            restore()


def batches(data: Iterable[Any], device: torch.device) -> Iterator[tuple[Tensor, Any]]:
    """``(images, labels)`` of every batch, on a device; ``ValueError`` if there is no image or no such pair."""
    empty = True
    for batch in data:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not isinstance(batch[0], Tensor):
            raise bad_option("a batch of data", type(batch).__name__, "a tuple (images, labels)")
        images, labels = batch[0], batch[1]
        if len(images) == 0:
            continue
        empty = False
        yield images.to(device), labels.to(device) if isinstance(labels, Tensor) else labels
    if empty:
        raise ValueError("data is empty: there is no image to measure on")


def device_of(network: nn.Module) -> torch.device:
    """Where the network's images have to be."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


@contextmanager
def contiguous_weights(network: nn.Module) -> Iterator[None]:
    """Weights that lie in channels_last are contiguous for a while; then they are the very same memory again."""
    moved = [(p, p.data) for p in network.parameters() if p.ndim > 3 and not p.is_contiguous()]
    try:
        for parameter, data in moved:
            parameter.data = data.contiguous()
        yield
    finally:
        for parameter, data in moved:
            parameter.data = data


class Nodes(fx.Interpreter):
    """Runs a part of a network node by node."""

    def __init__(self, part: Part) -> None:
        super().__init__(part.module, graph=part.graph)
        self._constants = part.constants
        self.extra_traceback = False  # errors of the network stay as they are

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._constants[target] if target in self._constants else super().get_attr(target, args, kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The part's output for the arguments of its ``forward`` that its graph was made for."""
        inputs, known = list(args), [node for node in self.graph.nodes if node.op == "placeholder"]
        if len(args) > len(known) or kwargs.keys() - {node.target for node in known}:
            names = ", ".join(str(node.target) for node in known)
            raise TypeError(f"{type(self.module).__name__} is looked at as it is called with ({names}) alone")
        for node in known[len(args) :]:
            if node.target in kwargs:
                inputs.append(kwargs[node.target])
            elif node.args:  # its default
                inputs.append(node.args[0])
        return self.run(*inputs)


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Another ``forward`` for a while, of this one module."""
    own = vars(module)
    before = {"forward": own["forward"]} if "forward" in own else {}
    own["forward"] = forward
    try:
        yield
    finally:
        del own["forward"]
        own.update(before)
