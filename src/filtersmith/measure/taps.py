"""What a network's layers give while it runs, as it runs: no graph is needed.

A layer's own output is taken by a forward hook. What comes right behind is known by the tensor itself: where torch is
asked for the batch norm or the activation function of that very tensor, the result belongs to the layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from filtersmith.common.modules import plain_name, unwrap
from filtersmith.common.options import bad_option, first_line, unknown_name
from filtersmith.filters import channel_axis
from filtersmith.measure.evaluation import device_of, undisturbed
from filtersmith.pruning.deployed import plain_copy

Where = Literal["conv", "after-bn", "after-relu"]
WHERE: tuple[Where, ...] = ("conv", "after-bn", "after-relu")
See = Callable[[str, Tensor], None]

NORMS = {F.batch_norm, F.instance_norm, F.group_norm, torch.batch_norm, torch.instance_norm, torch.group_norm}
ACTIVATIONS = {
    *(
        F.relu,
        torch.relu,
        torch.relu_,
        Tensor.relu,
        Tensor.relu_,
        F.relu6,
        F.leaky_relu,
        F.leaky_relu_,
        F.elu,
        F.elu_,
    ),
    *(F.gelu, F.silu, F.mish, F.hardswish, F.hardtanh, F.selu, F.celu, F.prelu, torch.prelu, F.threshold),
    *(torch.tanh, Tensor.tanh, F.tanh, F.rrelu, torch.clamp, Tensor.clamp, Tensor.clamp_, torch.clamp_min),
}
"""No sigmoid and no softplus: networks write x * sigmoid(x) by hand, and then that is the activation function."""


class Run:
    """A network whose layers are watched.

    Attributes:
        network: in evaluation mode.
        device: where its images have to be.
    """

    def __init__(self, network: nn.Module, watch: _Watch) -> None:
        self.network, self.device, self._watch = network, device_of(network), watch

    def __call__(self, images: Tensor) -> None:
        """Run the network once; ``ValueError`` where it can't take the images, or doesn't call a layer."""
        if not self._watch.known:  # what comes behind which layer, on a few images
            self._pass(images[:2])
            self._watch.known = True
        self._pass(images)

    def _pass(self, images: Tensor) -> None:
        self._watch.begin()
        try:
            with self._watch:
                self.network(images)
        except (ValueError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a network's own code raises
            shape = tuple(images.shape)
            raise ValueError(
                f"{type(self.network).__name__} cannot take images {shape}: {first_line(error)}"
            ) from error
        finally:
            self._watch.end()
        self._watch.check()


@contextmanager
def tapped(model: nn.Module, layers: Iterable[str], where: Where, see: See, *, every: bool = True) -> Iterator[Run]:
    """Each run calls ``see(layer, values)`` for each call of these layers, at the place asked for.

    Args:
        model: the network; it is in evaluation mode meanwhile, and as it was afterwards.
        layers: their names: convolutions, linear layers, or whatever gives a tensor.
        where: ``"conv"``: what the layer itself gives; ``"after-bn"``: behind the norm that reads it, if one does;
            ``"after-relu"``: also behind the activation function that reads that.
        see: gets values with the channels in dimension 1, before anything can write into them.
        every: whether a layer that is not called is an error.
    """
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    if where not in WHERE:
        raise bad_option("where", where, " or ".join(map(repr, WHERE)))
    network = plain_copy(unwrap(model), "be measured on images")  # in a sub-phase with zeros for what is left out
    modules = {plain_name(name): module for name, module in network.named_modules()}
    names = list(layers)
    for name in names:
        if name not in modules:
            raise unknown_name("layer", name, [n for n, m in modules.items() if n and not next(m.children(), None)])
    watch = _Watch(where, names, see, every)
    with ExitStack() as stack:
        stack.enter_context(undisturbed(network))
        stack.enter_context(torch.no_grad())
        for name in names:
            stack.callback(modules[name].register_forward_hook(watch.hook(name)).remove)
        for module in network.modules():
            # Whatever it computes inside, a frozen one by hand; with parts of its own it may do more.
            if "BatchNorm" in type(module).__name__ and next(module.children(), None) is None:
                stack.callback(module.register_forward_hook(watch.norm).remove)
        yield Run(network, watch)


@dataclass
class _Value:
    """What a call of a layer gives, or what came of it behind so many steps."""

    tensor: Tensor
    call: tuple[str, int]
    axis: int
    steps: int = 0
    normed: bool = False
    version: int = field(init=False)

    def __post_init__(self) -> None:
        self.version = self.tensor._version


class _Watch(TorchFunctionMode):
    """Follows what layers give from function to function."""

    def __init__(self, where: Where, names: Iterable[str], see: See, every: bool) -> None:
        super().__init__()
        self.known = self._runs = False
        self._where, self._names, self._see, self._every = where, tuple(names), see, every
        self._steps: Counter[tuple[str, int]] = Counter()  # of each call of a layer, how many to follow it
        self._calls: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._held: dict[int, _Value] = {}  # tensors that are held have an id of their own

    def begin(self) -> None:
        self._calls.clear()
        self._seen.clear()
        self._held.clear()
        self._runs = True

    def end(self) -> None:
        self._held.clear()
        self._runs = False

    def check(self) -> None:
        """``ValueError`` for a layer that was not called, or not as it was for the first images."""
        for name in self._names:
            if self._every and not self._calls[name]:
                raise ValueError(f"layer {name!r} is not called in evaluation mode: leave it out with layers=")
            if self.known and self._seen[name] != self._calls[name]:
                raise ValueError(
                    f"layer {name!r} cannot be followed: other images take another way through the network; leave it "
                    "out with layers="
                )

    def hook(self, name: str) -> Callable[..., None]:
        def called(module: nn.Module, args: Any, output: Any) -> None:
            if not self._runs:  # another one watches the same network
                return
            call = name, self._calls[name]
            self._calls[name] += 1
            if not isinstance(output, Tensor) or output.ndim < 2:
                found = f"the shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
                raise ValueError(f"layer {name!r} gives {found}, and no channels: leave it out with layers=")
            self._at(_Value(output, call, channel_axis(module)))

        return called

    def norm(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args:
            self._follow(self._value(args[0], norm=True), output, last=False)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        norm = func in NORMS
        read = (args[0] if args else (kwargs or {}).get("input")) if norm or func in ACTIVATIONS else None
        value = self._value(read, norm=norm)  # before it may be written into
        output = func(*args, **(kwargs or {}))
        self._follow(value, output, last=not norm)
        return output

    def _value(self, read: Any, *, norm: bool) -> _Value | None:
        """What a function reads, where that is a layer's alone and is followed through the function."""
        value = self._held.get(id(read))
        if value is None or (value.normed if norm else self._where != "after-relu"):
            return None
        return value if read._version == value.version else None  # else something was added to it in place

    def _follow(self, value: _Value | None, output: Any, *, last: bool) -> None:
        if value is not None and isinstance(output, Tensor):
            self._held.pop(id(value.tensor), None)
            self._at(replace(value, tensor=output, steps=value.steps + 1, normed=True), last=last)

    def _at(self, value: _Value, *, last: bool = False) -> None:
        if not self.known:
            self._steps[value.call] = value.steps
        elif value.steps == self._steps.get(value.call, -1):
            self._seen[value.call[0]] += 1
            self._see(value.call[0], value.tensor.movedim(value.axis, 1))
            return
        if self._where != "conv" and not last:
            self._held[id(value.tensor)] = value
