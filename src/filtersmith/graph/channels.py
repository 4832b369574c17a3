"""Where the output channels of each convolution go: who reads them, up to where they can be told apart.

Read off the network's graph, never guessed from the order of layers. Every channel of every tensor has an *origin*:
the filter of the one convolution that makes it, or none. Batch norms, activations, pooling and concatenation keep
origins; a convolution or linear layer that reads channels ends them; a sum, and whatever the graph does not tell,
mixes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.common.modules import plain_name
from filtersmith.graph.ops import (
    KEEPS_ZERO,
    MOVES_ZERO,
    Operation,
    in_place,
    is_activation,
    of_module,
    operation,
    whole_class,
)
from filtersmith.graph.trace import Part, parts

Role = Literal["convolution", "linear", "follower", "passing"]
_BITS = 24
NO_ORIGIN = -1


def origin(producer: int, filters: int) -> Tensor:
    """The origins that the filters of a convolution stand for, by its place among the producers: int64."""
    return (producer << _BITS) + torch.arange(filters)


def producer_of(origins: Tensor) -> Tensor:
    """The places of the convolutions that origins belong to; -1 for none."""
    return origins >> _BITS


@dataclass(frozen=True)
class Site:
    """A module that channels with origins meet.

    Attributes:
        name: of the module.
        module: the module.
        role: ``"convolution"`` and ``"linear"`` read the channels and end them; a ``"follower"`` (batch norm,
            depthwise convolution) has parameters for each of them; what is ``"passing"`` has none.
        inputs: the origins of its input channels, shape ``(c,)``.
        within: the producer whose channels alone pass here on their way to its `Producer.end`, or -1.
    """

    name: str
    module: nn.Module
    role: Role
    inputs: Tensor
    within: int = -1

    @property
    def outputs(self) -> Tensor:
        """The origins of its output channels; a depthwise convolution may have several for each of its inputs."""
        if self.role == "follower" and isinstance(self.module, _ConvNd):
            return self.inputs.repeat_interleave(self.module.out_channels // self.module.in_channels)
        return self.inputs


@dataclass
class Producer:
    """A convolution whose filters make channels that can be told apart.

    Attributes:
        name: of the convolution.
        module: the convolution.
        filters: how many it has.
        end: name of the last module that only these channels pass, one after the other: the convolution itself, the
            batch norm behind it, the activation behind that.
        activation: ``(part, node)`` of the graph in evaluation mode: the channels behind batch norm and activation.
        whole: why all of its channels have to be there behind `end`, zeros for those left out; ``None``: they need
            not.
        refusal: why its filters cannot be left out, or ``None``.
    """

    name: str
    module: nn.Module
    filters: int
    end: str
    activation: tuple[int, fx.Node] | None = None
    whole: str | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class Channels:
    """What is known of a network's channels: the convolutions in the order of their first call, and the sites."""

    producers: tuple[Producer, ...]
    sites: dict[str, Site]
    graphs: tuple[Part, ...]
    unseen: dict[str, str]
    """Convolutions that are no producers, and why."""


def read(network: nn.Module) -> Channels:
    """Follow the channels of every convolution through a network, in training and in evaluation mode.

    A network that torch.fx cannot trace is looked at in parts; channels that leave a part are not followed.
    """
    modes = [parts(network, training) for training in (True, False)]
    calls = _calls(modes[0]) | _calls(modes[1])
    names = {id(module): plain_name(name) for name, module in network.named_modules()}
    producers: dict[int, Producer] = {}
    unseen: dict[str, str] = {}
    for module in _convolutions(modes):
        if is_depthwise(module):
            unseen[names[id(module)]] = "it is depthwise: its filters go with the channels that they read"
        else:
            producers[id(module)] = Producer(names[id(module)], module, module.out_channels, names[id(module)])
    for module in network.modules():
        if isinstance(module, _ConvNd) and id(module) not in producers:
            unseen.setdefault(names[id(module)], "it is called by code that torch.fx cannot trace")
    spines = _common([dict(_spines(mode, calls)) for mode in modes])
    for conv, spine in spines.items():
        producers[conv].end = names[spine[-1]]
    for number, part in enumerate(modes[1]):
        for node in part.graph.nodes:
            if node.op == "call_module" and (producer := producers.get(id(part.called(node)))) is not None:
                producer.activation = number, _activation(part, node)
    reading = _Reading(producers, calls, spines)
    for mode in modes:
        reading.read(mode)
    return Channels(tuple(producers.values()), reading.sites, tuple(modes[1]), unseen)


class _Flow(NamedTuple):
    """The channels of one tensor: their origins, and the producers whose zeros would no longer be zero here."""

    origins: Tensor
    spatial: int  # dimensions behind the channels; 0: features of a linear layer, each channel a block of them
    moved: frozenset[int] = frozenset()


@dataclass
class _Reading:
    """One walk over the graphs; notes what it finds in the producers and in the sites."""

    producers: dict[int, Producer]
    calls: Counter[int]
    spines: dict[int, list[int]]
    sites: dict[str, Site] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._listed = list(self.producers.values())
        self._place = {key: place for place, key in enumerate(self.producers)}
        # Module -> the producer whose channels alone pass it.
        self._within = {part: self._place[conv] for conv, spine in self.spines.items() for part in spine}

    def read(self, mode: Sequence[Part]) -> None:
        for number, part in enumerate(mode):
            self._part, self._number = part, number
            flows: dict[fx.Node, _Flow | None] = {}
            above: dict[fx.Node, int] = {}  # the producers that a value depends on, as bits
            for node in part.graph.nodes:
                above[node] = 1 << len(self._listed) if node.op == "placeholder" else 0
                for source in node.all_input_nodes:
                    above[node] |= above[source]
                flows[node] = self._value(node, flows, above)
                called = part.called(node) if node.op == "call_module" else None
                if called is not None and (place := self._place.get(id(called))) is not None:
                    above[node] |= 1 << place
                if node.op.startswith("call") and in_place(node, called) and node.all_input_nodes:
                    written = node.all_input_nodes[0]  # whoever reads it later reads the result
                    flows[written], above[written] = flows[node], above[node]

    # --- one node ---------------------------------------------------------------------------------------

    def _value(self, node: fx.Node, flows: dict[fx.Node, _Flow | None], above: dict[fx.Node, int]) -> _Flow | None:
        sources = [flow for source in node.all_input_nodes if (flow := flows[source]) is not None]
        if node.op == "call_module":
            first = node.args[0] if node.args else None
            return self._module(node, flows[first] if isinstance(first, fx.Node) else None, sources)
        if node.op == "get_attr":
            self._refuse_owner(node)
            return None
        if node.op == "output":
            for flow in sources:
                outside = "its outputs leave the part of the network that torch.fx can trace"
                self._refuse(flow, "its outputs are the network's" if self._part.whole else outside)
            return None
        if not sources or node.op == "placeholder":
            return None
        known = operation(node, None, sources[0].spatial)
        if known is Operation.SIZE:
            return None
        if known is Operation.WIDTH:
            self._whole(sources, "their number is read")
            return None
        if known is Operation.SUM:
            return self._sum(node, flows, above)
        if known is Operation.PRODUCT:
            return self._product(node, flows, above)
        if known is Operation.CONCATENATION:
            return self._concatenation(node, flows)
        if node.target in (F.batch_norm, torch.batch_norm):
            self._refuse(sources[0], "they enter a batch norm that is no module")
        if known is None or len(sources) > 1:
            self._mixed(sources, f"they enter {getattr(node.target, '__name__', node.target)}")
            return None
        return self._channelwise(sources[0], known)

    def _module(self, node: fx.Node, flow: _Flow | None, sources: list[_Flow]) -> _Flow | None:
        module, name = self._part.called(node), plain_name(self._part.name(node))
        calls, place = self.calls[id(module)], self._place.get(id(module))
        alone = len(node.args) == 1 and not node.kwargs and len(sources) <= 1
        if place is not None:
            if calls > 1 or not alone:
                self._listed[place].refusal = f"it is called {'several times' if calls > 1 else 'with options'}"
                self._mixed(sources, f"they enter {name}")
                return None
            if flow is not None and not _fits(module, flow):
                self._mixed(sources, f"they enter {name}")
            elif flow is not None:
                self._add(Site(name, module, "convolution", flow.origins))
            return _Flow(origin(place, self._listed[place].filters), _dimensions(module))
        if flow is None and sources:
            flow = sources[0]
        if flow is None:
            return None
        known, within = operation(node, module, flow.spatial), self._within.get(id(module), -1)
        if known in (KEEPS_ZERO, MOVES_ZERO) and alone:  # it may be used in several places
            if within >= 0:
                self._add(Site(name, module, "passing", flow.origins, within))
            return self._channelwise(flow, known, within)
        role = self._role(module, known, flow)
        if role == "follower" and is_parametrized(module):
            role = None  # what is held of it or starts anew are parameters of its own
        if role is None or calls > 1 or not alone:
            if isinstance(module, (_BatchNorm, _ConvNd)):  # it would make something of zeros
                for source in sources:
                    self._refuse(
                        source, f"{name} cannot leave channels out: it is called several times, or oddly, or computed"
                    )
            self._mixed(sources, f"they enter {name}")
            return None
        if role == "flat":
            return self._channelwise(flow, Operation.FLAT)
        site = Site(name, module, role, flow.origins, within)
        self._add(site)
        if role == "linear":
            return None
        return self._channelwise(_Flow(site.outputs, flow.spatial, flow.moved), MOVES_ZERO, within)

    def _role(self, module: nn.Module, known: Operation | None, flow: _Flow) -> Role | Literal["flat"] | None:
        if known is Operation.FLAT:
            return "flat"
        width = len(flow.origins)
        if isinstance(module, nn.Linear):
            # What a subclass does with its weight is not known.
            plain = whole_class(module) is nn.Linear
            return "linear" if not flow.spatial and plain and module.in_features % width == 0 else None
        if isinstance(module, _BatchNorm):
            return "follower" if module.num_features == width else None
        if isinstance(module, _ConvNd):  # it is no producer, so it is depthwise
            return "follower" if _fits(module, flow) else None
        return "passing" if known is Operation.PER_CHANNEL and flow.spatial else None

    def _channelwise(self, flow: _Flow, known: Operation, within: int = -1) -> _Flow | None:
        """What comes of channels that an operation keeps apart."""
        moved = flow.moved
        if known is MOVES_ZERO:
            moved = moved | (set(self._places(flow)) - {within})
        if known in (Operation.FLAT, Operation.FLAT_OF_KNOWN_SIZE):
            if known is Operation.FLAT_OF_KNOWN_SIZE:
                self._whole([flow], "their number is written into the code")
            return _Flow(flow.origins, 0, moved)
        return _Flow(flow.origins, flow.spatial - (known is Operation.ONE_LESS), moved)

    def _sum(self, node: fx.Node, flows: dict[fx.Node, _Flow | None], above: dict[fx.Node, int]) -> _Flow | None:
        operands, values = _operands(node, flows)
        nothing = any(isinstance(arg, (int, float)) and arg == 0 for arg in node.args[:2])  # sum() starts with it
        if constant := self._with_constant(operands, values, above, KEEPS_ZERO if nothing else MOVES_ZERO):
            return constant
        if len(values) == 2 and _alike(*values):
            return values[0]._replace(moved=values[0].moved | values[1].moved)
        if len(operands) == 2:
            for one, other in (operands, operands[::-1]):
                self._refuse_projection(flows[one], above[one] & ~above[other], above[other] & ~above[one])
        self._mixed(values, "they are added to others")
        shapes = {(len(flow.origins), flow.spatial) for flow in values}
        if len(shapes) != 1:
            return None
        width, spatial = shapes.pop()
        return _Flow(torch.full((width,), NO_ORIGIN), spatial)

    def _product(self, node: fx.Node, flows: dict[fx.Node, _Flow | None], above: dict[fx.Node, int]) -> _Flow | None:
        operands, values = _operands(node, flows)
        if constant := self._with_constant(operands, values, above, KEEPS_ZERO):
            return constant
        if len(values) == 2 and _alike(*values):  # x * sigmoid(x)
            return values[0]._replace(moved=values[0].moved & values[1].moved)
        for flow in values:
            self._refuse(flow, "its outputs are multiplied by others (squeeze and excitation)")
        if len(operands) == 2:
            one, other = (above[arg] for arg in operands)
            # A gate is made of what it gates, and of convolutions of its own.
            gate = one & ~other if one | other == one else other & ~one if one | other == other else 0
            for place, producer in enumerate(self._listed):
                if gate >> place & 1:
                    producer.refusal = producer.refusal or "it makes a gate that others are multiplied by"
        return None

    def _with_constant(
        self, operands: list[fx.Node], values: list[_Flow], above: dict[fx.Node, int], known: Operation
    ) -> _Flow | None:
        """The one value where the other operand is a number or a parameter."""
        if len(values) != 1 or (len(operands) == 2 and all(above[arg] for arg in operands)):
            return None
        if len(operands) == 2:
            self._whole(values, "they meet a parameter")
        return self._channelwise(values[0], known)

    def _concatenation(self, node: fx.Node, flows: dict[fx.Node, _Flow | None]) -> _Flow | None:
        operands = node.args[0] if node.args else node.kwargs.get("tensors")
        listed = list(operands) if isinstance(operands, (list, tuple)) else []
        values = [flows[arg] if isinstance(arg, fx.Node) else None for arg in listed]
        known = [flow for flow in values if flow is not None]
        dimensions = {flow.spatial for flow in known}
        if len(known) < len(values) or len(dimensions) != 1 or dimensions == {0}:
            self._mixed(known, "they are joined with others")
            return None
        moved = frozenset().union(*(flow.moved for flow in known))
        return _Flow(torch.cat([flow.origins for flow in known]), dimensions.pop(), moved)

    # --- what is noted ----------------------------------------------------------------------------------

    def _places(self, flow: _Flow) -> list[int]:
        return [place for place in producer_of(flow.origins).unique().tolist() if place >= 0]

    def _add(self, site: Site) -> None:
        before = self.sites.setdefault(site.name, site)
        if not torch.equal(before.inputs, site.inputs):
            for one in (before, site):
                self._refuse(_Flow(one.inputs, 0), f"{site.name} reads other channels in training than in evaluation")

    def _mixed(self, sources: Sequence[_Flow], why: str) -> None:
        """Channels meet something that does not keep them apart: it has to get zeros for those left out."""
        self._whole(sources, why)
        for flow in sources:
            for place in flow.moved:
                producer = self._listed[place]
                producer.refusal = producer.refusal or f"zeros in its place would not be zeros any more where {why}"

    def _whole(self, sources: Sequence[_Flow], why: str) -> None:
        for place in (place for flow in sources for place in self._places(flow)):
            self._listed[place].whole = self._listed[place].whole or why

    def _refuse(self, flow: _Flow, why: str) -> None:
        for place in self._places(flow):
            self._listed[place].refusal = self._listed[place].refusal or why

    def _refuse_owner(self, node: fx.Node) -> None:
        owner = self._part.module.get_submodule(str(node.target).rpartition(".")[0])
        if (place := self._place.get(id(owner))) is not None:
            self._listed[place].refusal = "its parameters are read by themselves"

    def _refuse_projection(self, flow: _Flow | None, own: int, others: int) -> None:
        """A 1x1 convolution that alone stands in one of two summed branches is the shortcut around the other."""
        places = self._places(flow) if flow is not None else []
        if len(places) != 1 or own != 1 << places[0]:
            return
        producer, rivals = self._listed[places[0]], [p for n, p in enumerate(self._listed) if others >> n & 1]
        if _is_pointwise(producer.module) and rivals and not (len(rivals) == 1 and _is_pointwise(rivals[0].module)):
            producer.refusal = producer.refusal or "it is the 1x1 projection of a shortcut"


def _calls(mode: Sequence[Part]) -> Counter[int]:
    """How often each module is called, by its id."""
    return Counter(id(part.called(node)) for part in mode for node in part.graph.nodes if node.op == "call_module")


def _convolutions(modes: Sequence[Sequence[Part]]) -> list[Any]:
    """The convolutions in the order of their first call."""
    called = (
        part.called(node) for mode in modes for part in mode for node in part.graph.nodes if node.op == "call_module"
    )
    return list(dict.fromkeys(module for module in called if isinstance(module, _ConvNd)))


def _spines(mode: Sequence[Part], calls: Counter[int]) -> Iterator[tuple[int, list[int]]]:
    """For each convolution the modules, by id, that its channels alone pass one after the other, itself first."""
    for part in mode:
        for node in part.graph.nodes:
            if node.op != "call_module" or not isinstance(module := part.called(node), _ConvNd):
                continue
            if is_depthwise(module):
                continue
            spine = [id(module)]
            while len(node.users) == 1 and (node := next(iter(node.users))).op == "call_module":
                following = part.called(node)
                channelwise = isinstance(following, _BatchNorm) or (
                    isinstance(following, _ConvNd) and is_depthwise(following)
                )
                kept = operation(node, following, _dimensions(module)) in (
                    KEEPS_ZERO,
                    MOVES_ZERO,
                    Operation.PER_CHANNEL,
                )
                if calls[id(following)] != 1 or not (channelwise or kept) or len(node.args) != 1 or node.kwargs:
                    break
                spine.append(id(following))
            yield id(module), spine


def _common(spines: Sequence[dict[int, list[int]]]) -> dict[int, list[int]]:
    """What the spines of a convolution have in common where it is called in both modes."""
    common = {}
    for conv in dict.fromkeys(conv for mode in spines for conv in mode):
        both = [mode[conv] for mode in spines if conv in mode]
        shared = [one for one, other in zip(both[0], both[-1], strict=False) if one == other]
        common[conv] = shared
    return common


def _activation(part: Part, node: fx.Node) -> fx.Node:
    """The value behind the batch norms and the activation that alone follow a convolution, if there are any."""
    while len(node.users) == 1:
        following = next(iter(node.users))
        module = part.called(following) if following.op == "call_module" else None
        if is_activation(following, module):
            return following
        channelwise = module is not None and of_module(module) is Operation.PER_CHANNEL
        if not (isinstance(module, _BatchNorm) or channelwise):
            break
        node = following
    return node


def _operands(node: fx.Node, flows: dict[fx.Node, _Flow | None]) -> tuple[list[fx.Node], list[_Flow]]:
    """The tensors of a sum or product, in their order, and those of them that are known."""
    operands = [arg for arg in (*node.args, *node.kwargs.values()) if isinstance(arg, fx.Node)]
    return operands, [flow for arg in operands if (flow := flows[arg]) is not None]


def _alike(one: _Flow, other: _Flow) -> bool:
    return one.spatial == other.spatial and torch.equal(one.origins, other.origins)


def _dimensions(module: Any) -> int:
    """Of the space that a convolution works in."""
    return len(module.kernel_size)


def _fits(module: Any, flow: _Flow) -> bool:
    """Whether a convolution reads exactly these channels."""
    return bool(module.in_channels == len(flow.origins)) and _dimensions(module) == flow.spatial


def is_depthwise(module: nn.Module) -> bool:
    """Whether a module is a convolution whose filters read one channel each, of several."""
    return isinstance(module, _ConvNd) and 1 < module.groups == module.in_channels


def _is_pointwise(module: Any) -> bool:
    return bool(max(module.kernel_size) == 1)
