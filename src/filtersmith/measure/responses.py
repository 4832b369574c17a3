"""What a network's filters do on data: their activations, and the gradients of a loss.

The activation of a filter is the value behind its convolution's batch norm and activation function, as
`filtersmith.graph` finds it. A convolution that cannot be followed there (code that torch.fx cannot trace, one
that is called several times, a depthwise one) is taken at its own output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from filtersmith.filters import FilterLayer, channel_axis, filter_major, transposed_groups
from filtersmith.graph.channels import channel_graph
from filtersmith.graph.trace import Part
from filtersmith.measure.evaluation import Nodes, replaced_forward

Batches = Iterator[tuple[Tensor, Any]]
Loss = Callable[[Any, Any], Tensor]
See = Callable[[str, Tensor], Tensor]


def mean_activation(network: nn.Module, layers: Sequence[FilterLayer], data: Batches) -> dict[str, Tensor]:
    """Mean of ``|z|`` over examples and positions."""
    return _mean_over_values(network, layers, data, lambda z: z.abs().sum(_others(z), dtype=_wide(z)))


def share_of_zeros(network: nn.Module, layers: Sequence[FilterLayer], data: Batches) -> dict[str, Tensor]:
    """Share of the examples and positions at which ``z`` is exactly 0 (APoZ)."""
    return _mean_over_values(network, layers, data, lambda z: (z == 0).sum(_others(z)))


def taylor(network: nn.Module, layers: Sequence[FilterLayer], data: Batches, loss: Loss) -> dict[str, Tensor]:
    """Mean over examples of ``|mean over positions of dL/dz * z|``, L being the loss of the batch."""
    sums = {layer.name: torch.zeros(layer.filters, dtype=torch.float64) for layer in layers}
    examples: Counter[str] = Counter()
    seen: list[tuple[str, Tensor]] = []

    def see(name: str, z: Tensor) -> Tensor:
        z = z if z.requires_grad else z.detach().requires_grad_()
        seen.append((name, z))
        return z.clone()  # what comes next may write into it

    with watched(network, layers, see), torch.enable_grad():
        for images, labels in data:
            seen.clear()
            value = _loss(network, images, labels, loss)
            found = torch.autograd.grad(value, [z for _, z in seen], allow_unused=True) if seen else ()
            for (name, z), gradient in zip(seen, found, strict=True):
                examples[name] += len(z)
                if gradient is not None:
                    each = (gradient * z.detach()).to(_wide(z)).flatten(2).mean(2)
                    sums[name] += each.abs().sum(0).to("cpu", torch.float64)
            del value, found
    _all_called(layers, examples)
    return {name: total / examples[name] for name, total in sums.items()}


def gradients(network: nn.Module, layers: Sequence[FilterLayer], data: Batches, loss: Loss) -> dict[str, Tensor]:
    """Mean over batches of the L1 norm of ``dL/dW[f]``."""
    weights = [layer.weight for layer in layers]
    sums = {layer.name: torch.zeros(layer.filters, dtype=torch.float64) for layer in layers}
    trained, count = [weight.requires_grad for weight in weights], 0
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            for images, labels in data:
                count += 1
                value = _loss(network, images, labels, loss)
                found = torch.autograd.grad(value, weights, allow_unused=True)
                for layer, gradient in zip(layers, found, strict=True):
                    if gradient is not None:
                        rows = filter_major(gradient, transposed_groups(layer.module)).flatten(1)
                        sums[layer.name] += rows.abs().sum(1, dtype=_wide(rows)).to("cpu", torch.float64)
    finally:
        for weight, was_trained in zip(weights, trained, strict=True):
            weight.requires_grad_(was_trained)
    return {name: total / count for name, total in sums.items()}


@contextmanager
def watched(network: nn.Module, layers: Sequence[FilterLayer], see: See) -> Iterator[None]:
    """Each forward pass calls ``see(layer's name, z)`` for every layer; what it returns goes on in the place of z."""
    graph, see = channel_graph(network), _of_each_filter(layers, see)
    activations = {id(one.module): one.activation for one in graph.producers.values()}
    taps: dict[int, dict[fx.Node, str]] = {}
    with ExitStack() as stack:
        for layer in layers:
            if (activation := activations.get(id(layer.module))) is not None:
                number, node = activation
                taps.setdefault(number, {})[node] = layer.name
            else:
                hook = layer.module.register_forward_hook(_hook(layer.name, see))
                stack.callback(hook.remove)
        for number, names in taps.items():
            part = graph.parts[number]
            stack.enter_context(replaced_forward(part.module, _Watched(part, names, see).call))
        yield


def _of_each_filter(layers: Sequence[FilterLayer], see: See) -> See:
    """``see`` gets them in dimension 1."""
    filters = {layer.name: layer.filters for layer in layers}
    axes = {layer.name: channel_axis(layer.module) for layer in layers}

    def checked(name: str, z: Tensor) -> Tensor:
        axis = axes[name]
        if z.ndim < 2 or z.shape[axis] != filters[name]:
            raise ValueError(
                f"layer {name!r} cannot be ranked on data: it gives the shape {tuple(z.shape)}, and no channel for "
                f"each of its {filters[name]} filters; leave it out with layers="
            )
        return see(name, z.movedim(axis, 1)).movedim(1, axis)

    return checked


class _Watched(Nodes):
    def __init__(self, part: Part, names: dict[fx.Node, str], see: See) -> None:
        super().__init__(part)
        self._names, self._see = names, see

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        return self._see(self._names[n], value) if n in self._names else value


def _hook(name: str, see: See) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda module, args, output: see(name, output)


def _mean_over_values(
    network: nn.Module, layers: Sequence[FilterLayer], data: Batches, total: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """``total`` of all values of each filter, divided by their number."""
    sums = {layer.name: torch.zeros(layer.filters, dtype=torch.float64) for layer in layers}
    values: Counter[str] = Counter()

    def see(name: str, z: Tensor) -> Tensor:
        sums[name] += total(z).to("cpu").double()
        values[name] += z.numel() // z.shape[1]
        return z

    with watched(network, layers, see), torch.no_grad():
        for images, _ in data:
            network(images)
    _all_called(layers, values)
    return {name: total / values[name] for name, total in sums.items()}


def _others(z: Tensor) -> list[int]:
    """All dimensions but that of the channels."""
    return [0, *range(2, z.ndim)]


def _wide(z: Tensor) -> torch.dtype:
    return torch.promote_types(z.dtype, torch.float32)


def _loss(network: nn.Module, images: Tensor, labels: Any, loss: Loss) -> Tensor:
    value = loss(network(images), labels)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise ValueError("loss must return one number that can be differentiated with respect to the network")
    return value


def _all_called(layers: Sequence[FilterLayer], counts: Counter[str]) -> None:
    for layer in layers:
        if not counts[layer.name]:
            raise ValueError(
                f"layer {layer.name!r} is not called in evaluation mode, so it has no activations: "
                "leave it out with layers="
            )
