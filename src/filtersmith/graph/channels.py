"""The channel graph: where the output channels of each convolution go, up to where they can be told apart.

Read off the network's graph, never guessed from the order of layers. Every channel of every tensor has an *origin*:
the filter of the one convolution, its *producer*, that makes it, or none. Batch norms, activations, pooling and
concatenation keep origins; a convolution or linear layer, a *consumer*, ends them; a sum, and whatever the graph does
not tell, mixes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.modules import plain_name, unwrap
from filtersmith.common.options import bad_option
from filtersmith.graph.flow import Flow, producers_of
from filtersmith.graph.ops import in_place, operation
from filtersmith.graph.rules import RULES
from filtersmith.graph.show import table
from filtersmith.graph.sites import Site, is_depthwise
from filtersmith.graph.spines import activation, spines
from filtersmith.graph.step import Ancestors, Outcome, Step
from filtersmith.graph.trace import Part, parts


@dataclass(frozen=True)
class Producer:
    """A convolution whose filters make channels that can be told apart.

    Attributes:
        name: of the convolution.
        module: the convolution.
        filters: how many it has.
        end: name of the last module that only these channels pass, one after the other: the convolution itself, the
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
        producers: those of them whose channels can be told apart, by name, in the same order.
        sites: the modules that channels meet, by name: consumers, and what is per channel or elementwise on the way.
        reasons: convolution -> why its filters cannot be left out; those that are not named may go.
        parts: the graphs in evaluation mode.
    """

    network: str
    convolutions: Mapping[str, nn.Module]
    producers: Mapping[str, Producer]
    sites: Mapping[str, Site]
    reasons: Mapping[str, str]
    parts: tuple[Part, ...]

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
        return f"ChannelGraph({self.network}, {len(self.convolutions)} convolutions, {may_go} may lose filters)"

    def __str__(self) -> str:
        return table(self)


def channel_graph(model: nn.Module) -> ChannelGraph:
    """Follow the channels of every convolution through a network: who reads them, and whether filters may go.

    ``print`` it to see, for each convolution, how many filters it has, whether they may be left out and why not,
    which norms and depthwise convolutions its channels pass, and which layers read them.

    Both training and evaluation mode are looked at. A network that torch.fx cannot trace is looked at in parts;
    channels that leave a part are not followed. The network is left as it was, and needs no data.

    >>> graph = channel_graph(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3)))
    >>> graph.consumers["0"], graph.per_channel["0"], graph.reasons
    (['3'], ['1'], {'3': "its outputs are the network's"})

    Args:
        model: the network; wrapped in DDP or compiled as well.

    Raises:
        ValueError: it is no module.
    """
    if not isinstance(model, nn.Module):
        raise bad_option("model", type(model).__name__, "a torch.nn.Module")
    network = unwrap(model)
    modes = [parts(network, training) for training in (True, False)]
    calls = _calls(modes[0]) | _calls(modes[1])
    names = {id(module): plain_name(name) for name, module in network.named_modules()}
    seen = {names[id(module)]: module for mode in modes for module in _called(mode) if isinstance(module, _ConvNd)}
    convolutions = seen | {names[id(m)]: m for m in network.modules() if isinstance(m, _ConvNd)}
    producing = {name: module for name, module in seen.items() if not is_depthwise(module)}
    rows = spines(modes, calls)
    followed = _Followed(
        calls,
        producing,
        {id(module): name for name, module in producing.items()},
        {id(passed): names[id(convolution)] for convolution, spine in rows.items() for passed in spine},
    )
    sites, needed, refused = _collected(outcome for mode in modes for part in mode for outcome in followed.through(part))
    depthwise = "it is depthwise: its filters go with the channels that they read"
    unseen = "it is called by code that torch.fx cannot trace"
    reasons = {name: depthwise if name in seen else unseen for name in convolutions if name not in producing}
    activations = _activations(modes[1])
    return ChannelGraph(
        type(network).__name__,
        convolutions,
        {
            name: Producer(
                name,
                module,
                module.out_channels,
                names[id(rows[module][-1])],
                activations.get(id(module)),
                needed.get(name),
            )
            for name, module in producing.items()
        },
        sites,
        reasons | {name: refused[name] for name in producing if name in refused},
        tuple(modes[1]),
    )


def _called(mode: Sequence[Part]) -> Iterator[nn.Module]:
    """The modules that are called, in their order, as often as they are."""
    return (part.called(node) for part in mode for node in part.graph.nodes if node.op == "call_module")


def _calls(mode: Sequence[Part]) -> Counter[int]:
    """How often each module is called, by its id."""
    return Counter(id(module) for module in _called(mode))


def _activations(mode: Sequence[Part]) -> dict[int, tuple[int, fx.Node]]:
    """By the id of each convolution that is called once, where its activation stands."""
    calls = _calls(mode)
    return {
        id(module): (number, activation(part, node))
        for number, part in enumerate(mode)
        for node in part.graph.nodes
        if node.op == "call_module" and isinstance(module := part.called(node), _ConvNd) and calls[id(module)] == 1
    }


@dataclass(frozen=True)
class _Followed:
    """What has to be known of a network's modules for its channels to be followed; modules by their ids."""

    calls: Counter[int]
    convolutions: Mapping[str, nn.Module]
    producers: Mapping[int, str]
    within: Mapping[int, str]

    def through(self, part: Part) -> Iterator[Outcome]:
        """What follows of each call of a part."""
        flows: dict[fx.Node, Flow | None] = {}
        ancestors: dict[fx.Node, Ancestors] = {}
        for node in part.graph.nodes:
            module = part.called(node) if node.op == "call_module" else None
            above = _above(node, ancestors)
            step = self._step(part, node, module, flows, ancestors)
            outcome = _outcome(step)
            flows[node] = outcome.flow
            ancestors[node] = above | {step.producer} if module is not None and step.producer else above
            if node.op.startswith("call") and in_place(node, module) and node.all_input_nodes:
                written = node.all_input_nodes[0]  # whoever reads it later reads the result
                flows[written], ancestors[written] = flows[node], ancestors[node]
            yield outcome

    def _step(self, part: Part, node: fx.Node, module: Any, flows: Any, ancestors: Any) -> Step:
        target: Any = node.target
        name = plain_name(part.name(node)) if module is not None else getattr(target, "__name__", str(target))
        owner = part.module.get_submodule(target.rpartition(".")[0]) if node.op == "get_attr" else module
        return Step(
            node,
            name,
            module,
            self.producers.get(id(owner)),
            self.within.get(id(module)),
            self.calls[id(module)] > 1,
            flows,
            ancestors,
            self.convolutions,
            part.complete,
        )


def _above(node: fx.Node, ancestors: Mapping[fx.Node, Ancestors]) -> Ancestors:
    if node.op == "placeholder":
        return frozenset((None,))
    sets = dict.fromkeys(ancestors[source] for source in node.all_input_nodes)
    return next(iter(sets)) if len(sets) == 1 else frozenset[str | None]().union(*sets)


def _outcome(step: Step) -> Outcome:
    if not step.node.op.startswith("call"):
        return RULES[step.node.op](step)
    sources = step.sources
    if not sources and (step.producer is None or step.module is None):
        return Outcome()
    return RULES[operation(step.node, step.module, sources[0].spatial if sources else 0)](step)


def _collected(outcomes: Iterable[Outcome]) -> tuple[dict[str, Site], dict[str, str], dict[str, str]]:
    """The sites, why producers have to have their full width, and why they cannot lose filters: the first reasons."""
    sites: dict[str, Site] = {}
    needed: dict[str, str] = {}
    refused: dict[str, str] = {}
    for outcome in outcomes:
        for producer, what, why in outcome.notes:
            (refused if what == "stays" else needed).setdefault(producer, why)
        if (site := outcome.site) is None:
            continue
        before = sites.setdefault(site.name, site)
        if before.inputs != site.inputs:
            for producer in {*producers_of(before.inputs), *producers_of(site.inputs)}:
                why = f"{site.name} reads other channels in training than in evaluation"
                refused.setdefault(producer, why)
    return sites, needed, refused
