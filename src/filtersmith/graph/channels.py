"""The channel graph: where the output channels of each convolution go, up to where they can be told apart.

Read off the network's graph, never guessed from the order of layers. Every channel of every tensor has an *origin*:
the filter of the one convolution, its *producer*, that makes it, or none. Batch norms, activations, pooling and
concatenation keep origins; a convolution or linear layer, a *consumer*, ends them; a sum, and whatever the graph does
not tell, mixes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from filtersmith.common.modules import unwrap
from filtersmith.common.options import bad_option
from filtersmith.common.words import plural
from filtersmith.filters import has_filters, outputs_of
from filtersmith.graph.flow import producers_of
from filtersmith.graph.follow import calls_of, facts_of, follow
from filtersmith.graph.show import table
from filtersmith.graph.sites import Site
from filtersmith.graph.spines import activation
from filtersmith.graph.trace import Part, parts


@dataclass(frozen=True)
class Producer:
    """A convolution whose filters make channels that can be told apart, or a linear layer that is a 1x1 convolution.

    Of images whose channels stand last, as ConvNeXt has them.

    Attributes:
        name: of the layer.
        module: the layer.
        filters: how many it has.
        end: name of the last module that only these channels pass, one after the other: the layer itself, the
            batch norm behind it, the activation behind that.
        activation: ``(part, node)`` of the graph in evaluation mode: the channels behind batch norm and activation;
            ``None`` where evaluation does not call the convolution exactly once.
        full_width_reason: why all of its channels have to be there behind `end`, zeros for those left out; ``None``:
            they need not.
    """

    name: str
    module: nn.Module = field(repr=False)
    filters: int
    end: str
    activation: tuple[int, fx.Node] | None = field(default=None, repr=False)
    full_width_reason: str | None = None


@dataclass(frozen=True, repr=False)
class ChannelGraph:
    """What is known of a network's channels; ``print`` shows it as a table.

    Attributes:
        network: name of its class.
        convolutions: all of them by name, in the order of their first call; those that are never seen come last.
            Linear layers that are 1x1 convolutions stand among them.
        producers: those of them whose channels can be told apart, by name, in the same order.
        sites: the modules that channels meet, by name: consumers, and what is per channel or elementwise on the way.
        reasons: convolution -> why its filters cannot be left out; those that are not named may go.
        parts: the graphs in evaluation mode.
        not_zero: producer -> where its channels would have to be zero, and are not if all that it has is zero.
    """

    network: str
    convolutions: Mapping[str, nn.Module]
    producers: Mapping[str, Producer]
    sites: Mapping[str, Site]
    reasons: Mapping[str, str]
    parts: tuple[Part, ...]
    not_zero: Mapping[str, str] = field(default_factory=dict)

    @property
    def linear(self) -> set[str]:
        """The names of the linear layers that are 1x1 convolutions."""
        return {name for name, producer in self.producers.items() if isinstance(producer.module, nn.Linear)}

    @property
    def consumers(self) -> dict[str, list[str]]:
        """Producer -> the convolutions and linear layers that read its channels, in the order of their calls."""
        return self._met("consumer")

    @property
    def per_channel(self) -> dict[str, list[str]]:
        """Producer -> what has parameters or statistics for its channels: norms, depthwise convolutions, PReLU."""
        return self._met("per-channel")

    def _met(self, role: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {name: [] for name in self.producers}
        for site in self.sites.values():
            for producer in producers_of(site.inputs) if site.role == role else ():
                found[producer].append(site.name)
        return found

    def __repr__(self) -> str:
        may_go = len(self.convolutions) - len(self.reasons)
        convolutions = plural(len(self.convolutions), "convolution")
        return f"ChannelGraph({self.network}, {convolutions}, {may_go} may lose filters)"

    def __str__(self) -> str:
        return table(self)


def channel_graph(model: nn.Module) -> ChannelGraph:
    """Follow the channels of every convolution through a network: who reads them, and whether filters may go.

    ``print`` it to see, for each convolution, how many filters it has, whether they may be left out and why not,
    which norms and depthwise convolutions its channels pass, and which layers read them.

    Both training and evaluation mode are looked at. A network that torch.fx cannot trace is looked at in parts;
    channels that leave a part are not followed. The network is left as it was, and needs no data.

    Example:
        >>> import filtersmith as fs
        >>> from torch import nn
        >>> graph = fs.channel_graph(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 3)))
        >>> graph.consumers["0"], graph.per_channel["0"], graph.reasons
        (['2'], ['1'], {'2': "its outputs are the network's"})

    Args:
        model: the network; wrapped in DDP or compiled as well.

    Returns:
        A `ChannelGraph` with ``convolutions``, ``producers``, ``consumers``, ``per_channel`` and ``reasons``, by
        name.

    Raises:
        ValueError: it is no module.

    Source: own work, for RePr, https://arxiv.org/abs/1811.07275
    """
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    network = unwrap(model)
    # Subclasses of group norm often normalise with a function of torch's, which the graph could not tell from others.
    modes = [parts(network, training, (nn.GroupNorm,)) for training in (True, False)]
    facts = facts_of(network, modes)
    found = follow(modes, facts)
    linear = facts.linear - found.producers
    convolutions = {name: module for name, module in facts.convolutions.items() if name not in linear}
    producers = {name: module for name, module in facts.producers.items() if name not in linear}
    depthwise = "it is depthwise: its filters go with the channels that they read"
    unseen = "it is called by code that torch.fx cannot trace"
    reasons = {name: depthwise if name in facts.called else unseen for name in convolutions if name not in producers}
    return ChannelGraph(
        type(network).__name__,
        convolutions,
        _producers(modes[1], producers, facts.ends, found.needed),
        found.sites,
        reasons | {name: found.refused[name] for name in producers if name in found.refused},
        tuple(modes[1]),
        found.not_zero,
    )


def _producers(
    evaluation: Sequence[Part], modules: Mapping[str, Any], ends: Mapping[str, str], needed: Mapping[str, str]
) -> dict[str, Producer]:
    activations = _activations(evaluation)
    return {
        name: Producer(name, module, outputs_of(module), ends[name], activations.get(id(module)), needed.get(name))
        for name, module in modules.items()
    }


def _activations(mode: Sequence[Part]) -> dict[int, tuple[int, fx.Node]]:
    """By the id of each layer that is called once, where its activation stands."""
    calls = calls_of(mode)
    return {
        id(module): (number, activation(part, node))
        for number, part in enumerate(mode)
        for node in part.graph.nodes
        if node.op == "call_module" and has_filters(module := part.called(node)) and calls[id(module)] == 1
    }
