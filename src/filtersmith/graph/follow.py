"""Following the channels through a network's graph, call by call, and collecting what the rules say."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.modules import plain_name
from filtersmith.graph.answers import Answers
from filtersmith.graph.batches import batches
from filtersmith.graph.carriers import MOVES_DATA, Carried, carried, measures
from filtersmith.graph.chunks import operation_on_chunks
from filtersmith.graph.flow import Flow, producers_of
from filtersmith.graph.last import operation_on_last
from filtersmith.graph.ops import in_place, operation, original_class
from filtersmith.graph.rules import RULES
from filtersmith.graph.sites import Site, is_depthwise
from filtersmith.graph.spines import spines
from filtersmith.graph.step import Ancestors, Note, Outcome, Step, mixed, stays
from filtersmith.graph.trace import KEPT, Part


@dataclass(frozen=True)
class Facts:
    """What has to be known of a network's modules before its channels can be followed.

    Attributes:
        calls: how often each module is called, by its id.
        convolutions: all of them by name, in the order of their first call; those that are never called come last.
            Linear layers stand among them that may be 1x1 convolutions of images whose channels stand last.
        called: the names of those that are.
        linear: of those that are linear.
        producers: those of them that may make channels of their own: called, and not depthwise.
        names: of the producers, by the module's id.
        within: the producer whose channels alone pass a module, by the module's id.
        ends: producer -> the last module that its channels alone pass.
    """

    calls: Counter[int]
    convolutions: Mapping[str, Any]
    called: frozenset[str]
    linear: frozenset[str]
    producers: Mapping[str, Any]
    names: Mapping[int, str]
    within: Mapping[int, str]
    ends: Mapping[str, str]


class Found(NamedTuple):
    """What the rules say: the modules that channels meet, and of each producer the first reason.

    Attributes:
        producers: those whose channels are followed in some mode; of the others, linear layers are no convolutions.
        sites: by name.
        needed: producer -> why all of its channels have to be there.
        refused: producer -> why its filters cannot be left out.
        not_zero: producer -> where its channels would have to be zero, and are not if all that it has is zero.
    """

    producers: frozenset[str]
    sites: dict[str, Site]
    needed: dict[str, str]
    refused: dict[str, str]
    not_zero: dict[str, str]


def facts_of(network: nn.Module, modes: Sequence[Sequence[Part]]) -> Facts:
    """Count the calls of a network, and look at what follows each convolution alone."""
    names = {id(module): plain_name(name) for name, module in network.named_modules()}
    called = {names[id(module)]: module for mode in modes for module in _called(mode) if _is_layer(module)}
    producers = {name: module for name, module in called.items() if not is_depthwise(module)}
    calls = calls_of(modes[0]) | calls_of(modes[1])
    rows = {names[id(convolution)]: spine for convolution, spine in spines(modes, calls).items()}
    return Facts(
        calls=calls,
        convolutions=called | {names[id(m)]: m for m in network.modules() if isinstance(m, _ConvNd)},
        called=frozenset(called),
        linear=frozenset(name for name, module in called.items() if isinstance(module, nn.Linear)),
        producers=producers,
        names={id(module): name for name, module in producers.items()},
        within={id(passed): name for name, spine in rows.items() for passed in spine},
        ends={name: names[id(spine[-1])] for name, spine in rows.items()},
    )


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) or original_class(module) is nn.Linear


def _called(mode: Sequence[Part]) -> Iterator[nn.Module]:
    """The modules that are called, in their order, as often as they are."""
    return (part.called(node) for part in mode for node in part.graph.nodes if node.op == "call_module")


def calls_of(mode: Sequence[Part]) -> Counter[int]:
    """How often each module is called, by its id."""
    return Counter(id(module) for module in _called(mode))


def follow(modes: Sequence[Sequence[Part]], facts: Facts) -> Found:
    """Follow the channels through all parts of a network, in all modes."""
    answers = Answers()
    outcomes = [[outcome for part in mode for outcome in _through(part, facts, answers)] for mode in modes]
    made = [{name for one in mode if one.flow for name in producers_of(one.flow.origins)} for mode in outcomes]
    found = _collected(frozenset[str]().union(*made), itertools.chain(*outcomes))
    for mode, of_mode in zip(modes, made, strict=True):
        called = {facts.names[id(module)] for module in _called(mode) if id(module) in facts.names}
        for name in called - of_mode:
            found.refused.setdefault(name, "its channels cannot be followed in training and in evaluation")
    return found


def _through(part: Part, facts: Facts, answers: Answers) -> Iterator[Outcome]:
    """What follows of each call of a part."""
    flows: dict[fx.Node, Flow | None] = {}
    ancestors: dict[fx.Node, Ancestors] = {}
    zeros: dict[fx.Node, Carried] = {}
    whose = cache(lambda: batches(part))  # few ask
    for node in part.graph.nodes:
        module = part.called(node) if node.op == "call_module" else None
        above = _above(node, ancestors)
        step = _step(part, node, module, facts, flows, ancestors, whose, answers)
        outcome = _outcome(step)
        flows[node] = outcome.flow
        zeros[node], notes = carried(step, outcome.carried, zeros)
        convolves = isinstance(module, _ConvNd)  # what is a shortcut, or a gate, does not hang on linear layers
        ancestors[node] = above | {step.producer} if convolves and step.producer is not None else above
        if node.op.startswith("call") and in_place(node, module) and node.all_input_nodes:
            written = node.all_input_nodes[0]  # whoever reads it later reads the result
            notes += _written_through(written, flows, outcome.flow, step.name)
            flows[written], ancestors[written], zeros[written] = flows[node], ancestors[node], zeros[node]
        kept = mixed([flow], f"they are {KEPT}") if KEPT in node.meta and (flow := flows[node]) is not None else ()
        yield outcome._replace(notes=outcome.notes + notes + kept)


def _written_through(
    written: fx.Node, flows: Mapping[fx.Node, Flow | None], result: Flow | None, name: str
) -> tuple[Note, ...]:
    """What is written into a view is in the tensor, too, where zeros may not be zeros any more."""
    before = flows[written]
    if before is not None and result is not None and result.moved == before.moved:
        return ()
    notes: tuple[Note, ...] = ()
    while written.op.startswith("call") and written.target in MOVES_DATA and written.all_input_nodes:
        written = written.all_input_nodes[0]
        flow = flows[written]
        notes += () if flow is None else stays([flow], f"a part of them is written into by {name}")
    return notes


def _above(node: fx.Node, ancestors: Mapping[fx.Node, Ancestors]) -> Ancestors:
    if node.op == "placeholder":
        return frozenset((None,))
    if measures(node):  # a size that another tensor is brought to says nothing of what is in it
        return frozenset()
    sets = dict.fromkeys(ancestors[source] for source in node.all_input_nodes)  # mostly the same one
    return next(iter(sets)) if len(sets) == 1 else frozenset[str | None]().union(*sets)


def _step(
    part: Part,
    node: fx.Node,
    module: nn.Module | None,
    facts: Facts,
    flows: Mapping[fx.Node, Flow | None],
    ancestors: Mapping[fx.Node, Ancestors],
    whose: Callable[[], Mapping[fx.Node, fx.Node]],
    answers: Answers,
) -> Step:
    target: Any = node.target
    name = plain_name(part.name(node)) if module is not None else getattr(target, "__name__", str(target))
    owner = part.module.get_submodule(target.rpartition(".")[0]) if node.op == "get_attr" else module
    return Step(
        node=node,
        name=name,
        module=module,
        producer=facts.names.get(id(owner)),
        within=facts.within.get(id(module)),
        often=facts.calls[id(module)] > 1,
        flows=flows,
        ancestors=ancestors,
        producers=facts.producers,
        network=part.complete,
        batches=whose,
        answers=answers,
    )


def _outcome(step: Step) -> Outcome:
    if not step.node.op.startswith("call"):
        return RULES[step.node.op](step)
    sources = step.sources
    if not sources and step.producer is None:
        return Outcome()
    if any(flow.chunks for flow in sources):
        return RULES[operation_on_chunks(step.node)](step)
    spatial = sources[0].spatial if sources else 0
    look = operation_on_last if any(flow.last for flow in sources) else operation
    return RULES[look(step.node, step.module, spatial)](step)


def _collected(producers: frozenset[str], outcomes: Iterable[Outcome]) -> Found:
    found = Found(producers, {}, {}, {}, {})
    no_zeros: dict[str, str] = {}
    noted = {"stays": found.refused, "full width": found.needed, "not zero": found.not_zero, "no zeros": no_zeros}
    for outcome in outcomes:
        for producer, what, why in outcome.notes:
            noted[what].setdefault(producer, why)
        if (site := outcome.site) is None:
            continue
        before = found.sites.get(site.name, site)
        found.sites[site.name] = replace(before, spoiled=before.spoiled | site.spoiled)
        if before.inputs != site.inputs:
            why = f"{site.name} reads other channels in training than in evaluation"
            for producer in (*producers_of(before.inputs), *producers_of(site.inputs)):
                found.refused.setdefault(producer, why)
    for producer in found.needed.keys() & no_zeros.keys():
        found.refused.setdefault(producer, no_zeros[producer])
    return found
