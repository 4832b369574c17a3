"""What a network's layers give while it runs, as it runs: no graph is needed.

A layer's own output is taken by a forward hook. What comes right behind is known by the tensor itself: where torch is
asked for the norm or the activation function of that very tensor, the result belongs to the layer. Dimensions may be
permuted on the way, as ConvNeXt does around its layer norms. What runs inside of a scripted module cannot be seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from filtersmith.common.modules import plain_name, unwrap
from filtersmith.common.options import bad_option, first_line, unknown_name
from filtersmith.filters import cannot
from filtersmith.filters.reasons import LAZY
from filtersmith.measure.axes import axis_of, is_layer_norm
from filtersmith.measure.behind import (
    ACTIVATIONS,
    COPIES,
    GATES,
    MAXIMA,
    NORMS,
    PERMUTATIONS,
    PRODUCTS,
    as_before,
    permuted,
    read_by_maximum,
)
from filtersmith.measure.evaluation import device_of, undisturbed
from filtersmith.measure.passes import as_taken
from filtersmith.pruning.deployed import plain_copy

Where = Literal["conv", "after-bn", "after-relu"]
WHERE: tuple[Where, ...] = ("conv", "after-bn", "after-relu")
See = Callable[[str, Tensor], None]
NORM_NAMES = ("batchnorm", "layernorm", "rmsnorm", "groupnorm", "instancenorm")


class Run:
    """A network whose layers are watched.

    Attributes:
        network: in evaluation mode.
        device: where its images have to be.
    """

    def __init__(self, network: nn.Module, watch: _Watch) -> None:
        self.network: nn.Module = network
        self.device: torch.device = device_of(network)
        self._watch = watch

    def __call__(self, images: Tensor) -> None:
        """Run the network once; ``ValueError`` where it can't take the images, or doesn't call a layer.

        The images come in any floating type.
        """
        images = as_taken(self.network, images)
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
def tapped(
    model: nn.Module,
    layers: Iterable[str],
    where: Where,
    see: See,
    *,
    every: bool = True,
    channel_axis: int | None = None,
) -> Iterator[Run]:
    """Each run calls ``see(layer, values)`` for each call of these layers, at the place asked for.

    Args:
        model: the network; it is in evaluation mode meanwhile, and as it was afterwards.
        layers: their names: convolutions, linear layers, or whatever gives a tensor.
        where: ``"conv"``: what the layer itself gives; ``"after-bn"``: behind the norm that reads it, if one does;
            ``"after-relu"``: also behind the activation function that reads that. A norm or an activation function
            inside of a scripted module is not seen.
        see: gets values with the channels in dimension 1, before anything can write into them.
        every: whether a layer that is not called is an error.
        channel_axis: which dimension has the channels, of layers of which it is not known otherwise (`axis_of`).
    """
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    if where not in WHERE:
        raise bad_option("where", where, " or ".join(map(repr, WHERE)))
    names = list(layers)
    _refuse_what_cannot_run(unwrap(model))
    network = plain_copy(unwrap(model), "be measured on images")  # in a sub-phase with zeros for what is left out
    modules = _watched(network, names)
    watch = _Watch(where, names, see, every)
    tokens = any(is_layer_norm(module) for module in network.modules())
    with ExitStack() as stack:
        stack.enter_context(undisturbed(network))
        stack.enter_context(torch.no_grad())
        for name, layer in modules.items():
            hook = watch.hook(name, channel_axis, tokens=tokens)
            stack.callback(layer.register_forward_hook(hook).remove)
        for module in network.modules():
            # Whatever it computes inside, a frozen one by hand; with parts of its own it may do more.
            kind = type(module).__name__.lower()
            if any(name in kind for name in NORM_NAMES) and next(module.children(), None) is None:
                stack.callback(module.register_forward_hook(watch.norm).remove)
        yield Run(network, watch)


def _refuse_what_cannot_run(network: nn.Module) -> None:
    """A run would give a lazy layer its shape; the network would not be as it was, nor work any more."""
    for name, module in network.named_modules():
        own = (*module._parameters.values(), *module._buffers.values())
        if any(tensor is not None and is_lazy(tensor) for tensor in own):
            raise cannot(plain_name(name), "be measured", LAZY, "")


def _watched(network: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """The layers that are named, or the error for one that there is not or that takes no hook."""
    modules = {plain_name(name): module for name, module in network.named_modules()}
    for name in names:
        if name not in modules:
            raise unknown_name("layer", name, [n for n, m in modules.items() if n and not next(m.children(), None)])
        if isinstance(modules[name], torch.jit.ScriptModule):
            raise cannot(
                name, "be measured", "it is scripted or traced by torch.jit", "give the network as it was before"
            )
    return {name: modules[name] for name in names}


@dataclass
class _Value:
    """What a call of a layer gives, or what came of it behind so many steps."""

    tensor: Tensor
    call: tuple[str, int]
    axis: int
    order: tuple[int, ...]  # which dimensions of the layer's output those of the tensor are
    steps: int = 0
    normed: bool = False
    version: int = field(init=False)

    def __post_init__(self) -> None:
        self.version = self.tensor._version

    @property
    def intact(self) -> bool:
        """Whether nothing was written into it in place."""
        return self.tensor._version == self.version


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
        self._of: defaultdict[tuple[str, int], list[_Value]] = defaultdict(list)  # a call's, in every layout
        self._gated: dict[int, _Value] = {}  # what a gate has read, of the first images

    def begin(self) -> None:
        self._calls.clear()
        self._seen.clear()
        self._forget()
        self._runs = True

    def end(self) -> None:
        self._forget()
        self._runs = False

    def _forget(self) -> None:
        self._held.clear()
        self._of.clear()
        self._gated.clear()

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

    def hook(self, name: str, channel_axis: int | None, *, tokens: bool) -> Callable[..., None]:
        def called(module: nn.Module, args: Any, output: Any) -> None:
            if not self._runs:  # another one watches the same network
                return
            call = name, self._calls[name]
            self._calls[name] += 1
            if not isinstance(output, Tensor) or output.ndim < 2:
                found = f"the shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
                raise ValueError(f"layer {name!r} gives {found}, and no channels: leave it out with layers=")
            axis = axis_of(name, module, output, channel_axis, tokens=tokens)
            self._at(_Value(output, call, axis, tuple(range(output.ndim))))

        return called

    def norm(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args:
            self._follow(self._value(args[0], norm=True), output, last=False)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given: dict[str, Any] = kwargs or {}
        norm = func in NORMS
        if not self.known and func in PRODUCTS:
            self._multiplied((*args, *given.values()))
        value = None  # before it may be written into
        if norm or func in ACTIVATIONS:
            value = self._value(args[0] if args else given.get("input"), norm=norm)
        elif func in MAXIMA and self._held:
            value = next(filter(None, (self._value(one, norm=False) for one in read_by_maximum(args, given))), None)
        elif func in COPIES or func in PERMUTATIONS:
            read = self._held.get(id(args[0] if args else given.get("input")))
            output = func(*args, **given)
            self._laid_out(read, output, func, args, given)
            return output
        gated = list(self._of[value.call]) if value is not None and func in GATES and not self.known else ()
        output = func(*args, **given)
        if gated:
            self._gated.update({id(one.tensor): one for one in gated})
        self._follow(value, output[0] if norm and isinstance(output, tuple) else output, last=not norm)
        return output

    def _value(self, read: Any, *, norm: bool) -> _Value | None:
        """What a function reads, where that is a layer's alone and is followed through the function."""
        value = self._held.get(id(read))
        if value is None or (value.normed if norm else self._where != "after-relu"):
            return None
        return value if value.intact else None  # else something was added to it in place

    def _laid_out(self, value: _Value | None, output: Any, func: Any, args: Any, kwargs: Any) -> None:
        """The same values in another layout or type belong to the layer, too."""
        if value is None or output is value.tensor or not value.intact or not isinstance(output, Tensor):
            return
        order = value.order if func in COPIES else permuted(value.order, func, args, kwargs)
        self._hold(replace(value, tensor=output, order=order))

    def _multiplied(self, factors: Iterable[Any]) -> None:
        """What a gate has read and is multiplied now: the two together are the activation function, by hand."""
        for factor in factors:
            value = self._gated.get(id(factor))
            if value is not None and value.intact:
                self._steps[value.call] = value.steps

    def _follow(self, value: _Value | None, output: Any, *, last: bool) -> None:
        if value is None or not isinstance(output, Tensor) or output.shape != value.tensor.shape:
            return
        for one in self._of.pop(value.call, ()):
            self._held.pop(id(one.tensor), None)
        self._at(replace(value, tensor=output, steps=value.steps + 1, normed=True), last=last)

    def _at(self, value: _Value, *, last: bool = False) -> None:
        if not self.known:
            self._steps[value.call] = value.steps
        elif value.steps == self._steps.get(value.call, -1):
            self._seen[value.call[0]] += 1
            self._see(value.call[0], as_before(value.tensor, value.order).movedim(value.axis, 1))
            return
        if self._where != "conv" and not last:
            self._hold(value)

    def _hold(self, value: _Value) -> None:
        self._held[id(value.tensor)] = value
        self._of[value.call].append(value)
