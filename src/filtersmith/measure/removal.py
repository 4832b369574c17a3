"""What it means to leave a filter out of a network: where its channel is read, and where it has to become 0.

See RePr, CVPR 2019, Sec. 4: a dropped filter gives nothing, as if its channel were not there. Behind its batch norm
and activation it is 0; where another batch norm stands between it and a layer that reads it (pre-activation networks,
DenseNet), that 0 would have become something else, so that it is taken away at the reader once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from filtersmith.common.modules import memory_format, plain_name
from filtersmith.graph.channels import Channels, origin

_CONVOLVE: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}


@dataclass(frozen=True)
class Reader:
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
        if isinstance(module, nn.Linear):
            read = _blocks(value, self.width)[:, channels].flatten(1)
            return torch.addmm(output, read, _blocks(weight, self.width)[:, channels].flatten(1).T, alpha=-1)
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
        works = _blocks(value, self.width).ne(0).any(0).any(1)
        if self.plain():
            works &= _blocks(self.module.weight, self.width).ne(0).any(0).any(1)  # type: ignore[arg-type]
        listed = works.tolist()
        return [not any(listed[channel] for channel in channels) for channels in self.channels]


@dataclass(frozen=True)
class Removal:
    """How the filters of one convolution are left out.

    Attributes:
        part: number of the graph.
        filters: how many there are.
        cut: the last value that only these channels have passed, one after the other.
        channels: of each filter, which channels of it.
        readers: the layers that read them.
        everywhere: whether nothing else meets the channels: without them at the readers, they are gone.
    """

    part: int
    filters: int
    cut: fx.Node
    channels: list[list[int]]
    readers: dict[fx.Node, Reader]
    everywhere: bool


def removal_of(channels: Channels, place: int) -> Removal:
    """How to leave out the filters of the producer at a place; its activation has to be in a graph."""
    producer = channels.producers[place]
    assert producer.activation is not None
    number, cut = producer.activation
    part, own = channels.graphs[number], origin(place, producer.filters)
    readers: dict[fx.Node, Reader] = {}
    everywhere = producer.whole is None and producer.refusal is None
    behind = False
    for node in part.graph.nodes:
        behind = behind or node is cut
        name = plain_name(part.name(node)) if node.op == "call_module" else ""
        if behind and name == producer.end:
            cut = node  # a depthwise convolution, for instance, whose batch norm would move the zeros
        site = channels.sites.get(name)
        if site is None or node.op != "call_module" or not bool(torch.isin(own, site.inputs).any()):
            continue
        if site.role in ("convolution", "linear"):
            readers[node] = Reader(site.module, len(site.inputs), _places(site.inputs, own))
        elif site.role == "passing" and site.within != place:
            everywhere = False  # statistics over several channels
    end = channels.sites.get(producer.end) if producer.end != producer.name else None
    at_cut = _places(own if end is None else end.outputs, own)
    return Removal(number, producer.filters, cut, at_cut, readers, everywhere)


def _places(origins: Tensor, own: Tensor) -> list[list[int]]:
    """Where each of ``own`` stands among ``origins``."""
    places: dict[int, list[int]] = {key: [] for key in own.tolist()}
    for channel, key in enumerate(origins.tolist()):
        if key in places:
            places[key].append(channel)
    return list(places.values())


def _blocks(tensor: Tensor, width: int) -> Tensor:
    """``(batch, channels, positions)`` of images, or of features of which each channel has a block."""
    blocks: Tensor = tensor.flatten(1).unflatten(1, (width, -1))
    return blocks


def zeroed(tensor: Tensor, width: int, channels: list[int]) -> Tensor:
    """A copy with some of its channels set to 0."""
    copy = tensor.clone(memory_format=torch.contiguous_format)
    copy.view(len(copy), width, -1)[:, channels] = 0
    return copy
