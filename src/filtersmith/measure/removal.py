"""What it means to leave a filter out of a network: where its channel is read, and where it has to become 0.

See RePr, CVPR 2019, Sec. 4: a dropped filter gives nothing, as if its channel were not there. Behind its batch norm
and activation it is 0; where another batch norm stands between it and a consumer (pre-activation networks,
DenseNet), that 0 would have become something else, so that it is taken away at the consumer once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from filtersmith.common.modules import memory_format, plain_name
from filtersmith.filters import channel_axis
from filtersmith.graph.channels import ChannelGraph
from filtersmith.graph.flow import Run, channels_of_each
from filtersmith.pruning.plan import plan

_CONVOLVE: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}


@dataclass(frozen=True)
class Consumer:
    """A layer that reads the channels of a producer.

    Attributes:
        module: the layer.
        width: how many channels it reads in all; a linear layer reads each as a block of features.
        channels: of each filter of the producer, which of them.
    """

    module: nn.Module
    width: int
    channels: list[list[int]]

    def plain(self) -> bool:
        """Whether its output is a sum over channels that can be taken apart here."""
        module = self.module
        if module._forward_hooks or module._forward_pre_hooks:
            return False
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            return type(module) in _CONVOLVE and module.groups == 1 and module.padding_mode == "zeros"
        return type(module) is nn.Linear

    def without(self, output: Tensor, value: Tensor, f: int) -> Tensor:
        """A plain layer's output, given what it is for the input ``value``, without what filter f adds to it."""
        module: Any = self.module
        weight, channels = module.weight, self.channels[f]
        if not channels:  # it reads others of the producer's
            return output
        if isinstance(module, nn.Linear):
            read = self._blocks(value)[:, channels].flatten(1)
            less = _blocks(weight, self.width)[:, channels].flatten(1)
            return torch.addmm(output.flatten(0, -2), read, less.T, alpha=-1).view(output.shape)
        value, weight = value[:, channels], weight[:, channels]
        stride, padding, dilation = module.stride, module.padding, module.dilation
        if value.ndim != 4 or isinstance(padding, str):
            return output - _CONVOLVE[type(module)](value, weight, None, stride, padding, dilation)
        # Of so few channels, a product of matrices is several times faster than a convolution.
        windows = F.unfold(value.contiguous(), module.kernel_size, dilation, padding, stride)
        weight = weight.flatten(1)
        if memory_format(output) is torch.channels_last:
            rows = output.permute(0, 2, 3, 1)
            less = torch.addmm(rows.flatten(0, 2), windows.transpose(1, 2).flatten(0, 1), weight.T, alpha=-1)
            return less.view(rows.shape).permute(0, 3, 1, 2)
        less = torch.baddbmm(output.flatten(2), weight.expand(len(value), -1, -1), windows, alpha=-1)
        return less.view(output.shape)

    def unmoved(self, value: Tensor) -> list[bool]:
        """Of each filter, whether its channel adds nothing: it is 0, or the kernels that read it are."""
        works = self._blocks(value).ne(0).any(0).any(1)
        if self.plain():
            works &= _blocks(self.module.weight, self.width).ne(0).any(0).any(1)  # type: ignore[arg-type]
        listed = works.tolist()
        return [not any(listed[channel] for channel in channels) for channels in self.channels]

    @property
    def axis(self) -> int:
        """The dimension of what it reads in which the channels stand; each may be a block of features there."""
        return channel_axis(self.module)

    def _blocks(self, value: Tensor) -> Tensor:
        return _blocks(value.flatten(0, -2) if self.axis == -1 else value, self.width)


@dataclass(frozen=True)
class Removal:
    """How the filters of one convolution are left out.

    Attributes:
        part: number of the graph.
        filters: how many there are.
        cut: the last value that only these channels have passed, one after the other.
        channels: of each filter, which channels of it.
        axis: the dimension in which these stand there.
        consumers: the layers that read them.
        everywhere: whether nothing else meets the channels: without them at the consumers, they are gone.
    """

    part: int
    filters: int
    cut: fx.Node
    channels: list[list[int]]
    axis: int
    consumers: dict[fx.Node, Consumer]
    everywhere: bool


def removal_of(graph: ChannelGraph, name: str) -> Removal:
    """How to leave out the filters of a producer one by one; its activation has to be in a graph."""
    producer = graph.producers[name]
    assert producer.activation is not None
    number, cut = producer.activation
    part, own = graph.parts[number], (Run(name, producer.filters),)
    met = plan(graph, {name: torch.ones(producer.filters, dtype=torch.bool)}).modules
    consumers: dict[fx.Node, Consumer] = {}
    everywhere = producer.full_width_reason is None and name not in graph.reasons
    behind = False
    for node in part.graph.nodes:
        behind = behind or node is cut
        called = plain_name(part.name(node)) if node.op == "call_module" else ""
        if behind and called == producer.end:
            cut = node  # a depthwise convolution, for instance, whose batch norm would move the zeros
        if called not in met or called not in graph.sites:
            continue
        site = graph.sites[called]
        if met[called].role == "consumer":
            channels = channels_of_each(site.inputs, name, producer.filters)
            consumers[node] = Consumer(site.module, met[called].width, channels)
        elif not site.each_by_itself and site.within != name:
            everywhere = False
    end = graph.sites[producer.end].outputs if producer.end != name else own
    at_cut = channels_of_each(end, name, producer.filters)
    axis = channel_axis(producer.module)
    return Removal(number, producer.filters, cut, at_cut, axis, consumers, everywhere)


def _blocks(tensor: Tensor, width: int) -> Tensor:
    """``(batch, channels, positions)`` of images, or of rows of features of which each channel has a block."""
    blocks: Tensor = tensor.flatten(1).unflatten(1, (width, -1))
    return blocks


def zeroed(tensor: Tensor, width: int, channels: list[int], axis: int = 1) -> Tensor:
    """A copy with some of its channels set to 0, which stand in dimension 1 or -1."""
    copy = tensor.clone(memory_format=torch.contiguous_format)
    (copy.flatten(0, -2) if axis == -1 else copy).flatten(1).unflatten(1, (width, -1))[:, channels] = 0
    return copy
