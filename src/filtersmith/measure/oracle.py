"""The Oracle: how much accuracy each filter is worth, measured by leaving it out (RePr, CVPR 2019, Sec. 3-4).

A filter that is left out gives 0 behind its batch norm and activation, and nothing at all where the next layers read
its channel (behind a batch norm in between, a 0 would have become something else).

Where the network's graph is known, each chunk of images runs through it once. What a filter adds to the layers that
read it is then taken off their stored outputs, or, where its channel goes into a sum or something else, the channel
is set to 0; only what comes after is computed again.
"""

from __future__ import annotations

import itertools
from collections import ChainMap
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from filtersmith.filters import FilterLayer, channel_axis
from filtersmith.graph.channels import ChannelGraph, channel_graph
from filtersmith.graph.trace import Part
from filtersmith.measure.evaluation import Nodes, replaced_forward
from filtersmith.measure.removal import Consumer, Removal, removal_of, zeroed
from filtersmith.measure.responses import Batches

STORED = 2**29
"""Bytes that the stored values of one chunk may take."""
CACHED = 2**22
"""Bytes of the largest value of a chunk on a CPU, about: what stays in its cache is read fastest."""
FEWEST, MOST = 16, 512
"""Images of a chunk, but for the limit of bytes."""
KEPT = 2**25 - 2**14
"""Bytes of the largest piece of memory that glibc keeps once it has been freed, nearly."""


@torch.no_grad()
def accuracy_drops(network: nn.Module, layers: Sequence[FilterLayer], data: Batches) -> dict[str, Tensor]:
    """``accuracy(network) - accuracy(network without filter f)`` of every filter, on all of the data.

    Args:
        network: in evaluation mode; gives scores ``(batch, classes, ...)``.
        layers: whose filters.
        data: ``(images, labels)``, with labels ``(batch, ...)``. Where the graph is known, batches are taken apart
            and joined to chunks of bounded memory.

    Returns:
        Layer name -> float64, shape ``(n,)``, on the CPU.
    """
    _keep_freed_memory()
    graph = channel_graph(network)
    names = {id(layer.module): layer.name for layer in layers}
    removals = {
        names[id(producer.module)]: removal_of(graph, name)
        for name, producer in graph.producers.items()
        if id(producer.module) in names and producer.activation is not None
    }
    part = graph.parts[0] if removals and graph.parts[0].complete else None
    chunk: _Chunk | None = None
    if part is not None:
        first = next(data)
        data = itertools.chain([first], data)
        chunk = _Chunk.probe(part, list(removals.values()), first[0][:2])
    if chunk is not None:
        data = _regrouped(data, chunk.size)
    right = total = 0
    without = {layer.name: torch.zeros(layer.filters, dtype=torch.int64) for layer in layers}
    for images, labels in data:
        full = _right(network(images) if chunk is None else chunk.fill(images), labels)
        right, total = right + int(full), total + labels.numel()
        for layer in layers:
            removal = removals.get(layer.name)
            outputs: Iterator[Any]
            if removal is None:
                outputs = (_with_hook(network, layer.module, f, images) for f in range(layer.filters))
            elif chunk is None:
                outputs = (_without(network, graph, removal, f, images) for f in range(layer.filters))
            else:
                outputs = chunk.outputs_without(removal)
            counts = [full if output is None else _right(output, labels) for output in outputs]
            without[layer.name] += torch.stack(counts).cpu()
    return {name: (right - count).double() / total for name, count in without.items()}


def _keep_freed_memory() -> None:
    """Make glibc keep the memory of tensors that are freed for those that come next.

    Else it gives pieces of some megabytes back to the system and gets them anew, zeroed page by page, which took a
    third of the time on a CPU. It keeps what is no larger than the largest piece ever freed (mallopt(3),
    M_MMAP_THRESHOLD).
    """
    torch.empty(KEPT, dtype=torch.uint8, device="cpu")


def _right(outputs: Any, labels: Any) -> Tensor:
    """How many answers are right."""
    if not isinstance(outputs, Tensor) or outputs.ndim < 2 or not outputs.is_floating_point():
        raise ValueError("criterion 'oracle' needs a network that returns scores of shape (batch, classes)")
    answers = outputs.argmax(1)
    if not isinstance(labels, Tensor) or labels.shape != answers.shape:
        shape = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"criterion 'oracle' needs labels of shape {tuple(answers.shape)}, got {shape}")
    return (answers == labels).sum()


def _regrouped(data: Batches, size: int) -> Batches:
    """The same images in chunks of ``size``; images of other shapes start a new one."""
    held: list[tuple[Tensor, Any]] = []
    count = 0
    for images, labels in data:
        if not isinstance(labels, Tensor) or len(labels) != len(images):
            raise ValueError(f"criterion 'oracle' needs a tensor of {len(images)} labels for {len(images)} images")
        if held and images.shape[1:] != held[0][0].shape[1:]:
            yield _joined(held)
            held, count = [], 0
        held.append((images, labels))
        count += len(images)
        if count >= size:
            images, labels = _joined(held)
            complete = count - count % size
            yield from zip(images[:complete].split(size), labels[:complete].split(size), strict=True)
            count -= complete
            held = [(images[complete:], labels[complete:])] if count else []
    if held:
        yield _joined(held)


def _joined(held: list[tuple[Tensor, Any]]) -> tuple[Tensor, Tensor]:
    if len(held) == 1:
        return held[0]
    return torch.cat([images for images, _ in held]), torch.cat([labels for _, labels in held])


# --- chunks of images in a known graph ----------------------------------------------------------------------


class _Leaving(Nodes):
    """Can run a layer without some of the channels that it reads."""

    def run_without(self, node: fx.Node, consumer: Consumer, f: int) -> Any:
        values, source = self.env, _input(node)
        without = zeroed(values[source], consumer.width, consumer.channels[f], consumer.axis)
        self.env = ChainMap({source: without}, values)  # type: ignore[assignment]
        try:
            return super().run_node(node)
        finally:
            self.env = values


class _Chunk(_Leaving):
    """The values of one chunk of images that are needed more than once.

    Args:
        part: the whole network.
        steps: of each way to leave filters out, by its id, the nodes to compute again.
        kept: the nodes whose values are stored.
        written: of each node, those of its inputs that it writes into.
        size: images of a chunk.
    """

    def __init__(
        self,
        part: Part,
        steps: dict[int, list[fx.Node]],
        kept: set[fx.Node],
        written: dict[fx.Node, list[fx.Node]],
        size: int,
    ) -> None:
        super().__init__(part)
        self._steps, self._kept, self._written, self.size = steps, kept, written, size
        self._stored: dict[fx.Node, Any] = {}

    @classmethod
    def probe(cls, part: Part, removals: Sequence[Removal], images: Tensor) -> _Chunk | None:
        """Prepare chunks, by a look at what a few images do.

        ``None`` where a value is read again after something was written into it: then it cannot be stored.
        """
        trial = _Trial(part)
        trial.call(images.clone())
        if trial.read_again:
            return None
        steps = {id(removal): _steps(part, removal) for removal in removals}
        kept: set[fx.Node] = set()
        for removal in removals:
            again = set(steps[id(removal)])
            kept |= {source for node in again for source in node.all_input_nodes if source not in again}
            kept |= {node for node in again if _starts(removal, node, again)}
            kept |= {_input(node) for node in removal.consumers}
        size = MOST
        if images.device.type == "cpu":
            size = min(size, max(FEWEST, CACHED * len(images) // max(1, *trial.bytes.values())))
        stored = sum(trial.bytes[node] for node in kept)
        return cls(part, steps, kept, trial.written, max(1, min(size, STORED * len(images) // max(1, stored))))

    def fill(self, images: Tensor) -> Any:
        """Run a chunk through the network and store what is needed; the network's output."""
        self._stored = {}
        return self.call(images)

    def outputs_without(self, removal: Removal) -> Iterator[Any]:
        """The network's output without each of the filters; ``None`` where nothing changes."""
        nodes = self._steps[id(removal)]
        if not nodes or nodes[-1].op != "output":
            yield from itertools.repeat(None, removal.filters)
            return
        again = set(nodes)
        last = {source: node for node in nodes for source in node.all_input_nodes if source in again}
        done: dict[fx.Node, list[fx.Node]] = {}
        for source, node in last.items():
            done.setdefault(node, []).append(source)
        unmoved = [False] * removal.filters
        if removal.everywhere:
            each = [consumer.unmoved(self._stored[_input(node)]) for node, consumer in removal.consumers.items()]
            unmoved = [all(one) for one in zip(*each, strict=True)]
        for f in range(removal.filters):
            if unmoved[f]:
                yield None
                continue
            changed: dict[fx.Node, Any] = {}
            values: MutableMapping[fx.Node, Any] = ChainMap(changed, self._stored)
            self.env = values  # type: ignore[assignment]
            for node in nodes:
                changed[node] = self._again(node, removal, f, again)
                for source in done.get(node, ()):
                    del changed[source]
            yield changed[nodes[-1]]
        self.env = {}

    def _again(self, node: fx.Node, removal: Removal, f: int, again: set[fx.Node]) -> Any:
        if node is removal.cut:
            value = self._stored[node]
            return zeroed(value, value.shape[removal.axis], removal.channels[f], removal.axis)
        consumer = removal.consumers.get(node)
        if consumer is None:
            return self.run_node(node)
        source = _input(node)
        if source not in again and consumer.plain():
            return consumer.without(self._stored[node], self._stored[source], f)
        return self.run_without(node, consumer, f)

    def run_node(self, n: fx.Node) -> Any:
        changed: Any = self.env.maps[0] if isinstance(self.env, ChainMap) else ()
        for source in self._written.get(n, ()):
            if source not in changed:  # it may be stored
                self.env[source] = tree_map_only(Tensor, torch.clone, self.env[source])
        value = super().run_node(n)
        if n in self._kept and not isinstance(self.env, ChainMap):
            self._stored[n] = value
        return value


def _input(node: fx.Node) -> fx.Node:
    """What a layer reads."""
    source = node.args[0]
    assert isinstance(source, fx.Node), "consumers have one argument"
    return source


def _starts(removal: Removal, node: fx.Node, again: set[fx.Node]) -> bool:
    """Whether the stored value of a node itself is what its new one is made of."""
    consumer = removal.consumers.get(node)
    return node is removal.cut or (consumer is not None and _input(node) not in again and consumer.plain())


def _steps(part: Part, removal: Removal) -> list[fx.Node]:
    """The nodes to compute again, in order."""
    again: dict[fx.Node, None] = {}
    for node in part.graph.nodes:
        start = node in removal.consumers or (node is removal.cut and not removal.everywhere)
        if start or any(source in again for source in node.all_input_nodes):
            again[node] = None
    return list(again)


class _Trial(Nodes):
    """Runs a network on a few images and notes how large its values are and what is written into."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self.garbage_collect_values = False
        self.bytes: dict[fx.Node, int] = {}
        self.written: dict[fx.Node, list[fx.Node]] = {}
        self.read_again = False
        self._order = {node: number for number, node in enumerate(part.graph.nodes)}

    def run_node(self, n: fx.Node) -> Any:
        before = [(source, _tensors(self.env[source])) for source in n.all_input_nodes]
        versions = [[tensor._version for tensor in tensors] for _, tensors in before]
        value = super().run_node(n)
        self.bytes[n] = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(value))
        for (source, tensors), old in zip(before, versions, strict=True):
            if [tensor._version for tensor in tensors] != old:
                self.written.setdefault(n, []).append(source)
                memory = {tensor.untyped_storage().data_ptr() for tensor in tensors}
                for other, held in self.env.items():
                    if memory & {tensor.untyped_storage().data_ptr() for tensor in _tensors(held)}:
                        self.read_again |= any(self._order[user] > self._order[n] for user in other.users)
        return value


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


# --- networks whose graph is not known ----------------------------------------------------------------------


class _Without(_Leaving):
    """Runs a part of a network without one filter."""

    def __init__(self, part: Part, removal: Removal, f: int) -> None:
        super().__init__(part)
        self._removal, self._f = removal, f

    def run_node(self, n: fx.Node) -> Any:
        consumer = self._removal.consumers.get(n)
        value = super().run_node(n) if consumer is None else self.run_without(n, consumer, self._f)
        if n is self._removal.cut:
            value.movedim(self._removal.axis, 0)[self._removal.channels[self._f]] = 0  # for all that share its memory
        return value


def _without(network: nn.Module, graph: ChannelGraph, removal: Removal, f: int, images: Tensor) -> Any:
    """One forward pass in which a part of the network runs without a filter."""
    part = graph.parts[removal.part]
    with replaced_forward(part.module, _Without(part, removal, f).call):
        return network(images)


def _with_hook(network: nn.Module, module: nn.Module, f: int, images: Tensor) -> Any:
    """One forward pass in which a filter's own output is 0."""

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output.select(channel_axis(module), f).zero_()
        return output

    handle = module.register_forward_hook(hook)
    try:
        return network(images)
    finally:
        handle.remove()
