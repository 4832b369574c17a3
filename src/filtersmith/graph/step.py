"""One call in a network's graph, what enters it, and what a rule says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.graph.answers import Answers
from filtersmith.graph.classes import tampered
from filtersmith.graph.flow import Flow, producers_of
from filtersmith.graph.sites import Site

Ancestors = frozenset[str | None]
"""The producers that a value depends on; ``None`` stands for the network's input."""


@dataclass(frozen=True)
class Step:
    """A call, and what enters it.

    Attributes:
        node: the call.
        name: of the module that is called; else of the function.
        module: that is called, if any.
        producer: its name, if it is a layer that may make channels of its own.
        within: the producer whose channels alone pass it, if any (see `Site`).
        often: whether the module is called several times.
        flows: of each value so far, what is known of its channels.
        ancestors: of each value so far.
        producers: by name.
        network: whether the calls are those of the whole network, and not of a part.
        batches: whose batch each value has, see `filtersmith.graph.batches`.
        answers: of probes, for what is not known.
    """

    node: fx.Node
    name: str
    module: Any
    producer: str | None
    within: str | None
    often: bool
    flows: Mapping[fx.Node, Flow | None]
    ancestors: Mapping[fx.Node, Ancestors]
    producers: Mapping[str, nn.Module]
    network: bool
    batches: Callable[[], Mapping[fx.Node, fx.Node]]
    answers: Answers

    @property
    def sources(self) -> list[Flow]:
        """What is known of the tensors that it reads."""
        return [flow for source in self.node.all_input_nodes if (flow := self.flows[source]) is not None]

    @property
    def operands(self) -> list[fx.Node]:
        """The tensors among its arguments, as often as they stand there."""
        return [arg for arg in (*self.node.args, *self.node.kwargs.values()) if isinstance(arg, fx.Node)]

    @property
    def alone(self) -> bool:
        """Whether it reads one tensor; a module no options either."""
        if self.module is None:
            return len(self.sources) == 1
        return len(self.node.args) == 1 and not self.node.kwargs and len(self.sources) <= 1

    @property
    def usual(self) -> bool:
        """Whether a module is called once, with one tensor, on parameters of its own; no hook changes it."""
        return self.alone and not self.often and not is_parametrized(self.module) and tampered(self.module) is None


class Note(NamedTuple):
    """What is noted of a producer.

    Its filters cannot go (``"stays"``); zeros are needed in their place; zeros in parameters do not give these;
    they cannot go where zeros are needed anywhere (``"no zeros"``).
    """

    producer: str
    what: Literal["stays", "full width", "not zero", "no zeros"]
    why: str


class Outcome(NamedTuple):
    """What follows of a step.

    Attributes:
        flow: what is known of the channels of its result.
        notes: of producers.
        site: the module that channels meet there.
        carried: the producers whose zeros its result still has, where its channels cannot be told apart.
    """

    flow: Flow | None = None
    notes: tuple[Note, ...] = ()
    site: Site | None = None
    carried: frozenset[str] = frozenset()


# --- notes ---------------------------------------------------------------------------------------------------


def stays(flows: Iterable[Flow], why: str) -> tuple[Note, ...]:
    """The filters that make these channels cannot be left out."""
    return tuple(Note(producer, "stays", why) for flow in flows for producer in producers_of(flow.origins))


def full_width(flows: Iterable[Flow], why: str) -> tuple[Note, ...]:
    """All of these channels have to be there. Where they stand last, no zeros are put in, and none of them may go."""
    last = f"zeros cannot take the place of its channels, which stand last, where {why}"
    return tuple(
        Note(producer, "stays", last) if flow.last else Note(producer, "full width", why)
        for flow in flows
        for producer in producers_of(flow.origins)
    )


def mixed(flows: list[Flow], why: str) -> tuple[Note, ...]:
    """These channels meet something that does not keep them apart: it has to get zeros for those left out."""
    moved = f"zeros in its place would not be zeros any more where {why}"
    stay = tuple(Note(producer, "stays", moved) for flow in flows for producer in flow.moved)
    return full_width(flows, why) + stay + not_zero(flows, why)


def no_zeros(flows: Iterable[Flow], why: str) -> tuple[Note, ...]:
    """Zeros in full width would not be zeros here: where anything needs them, the filters cannot be left out."""
    moved = f"zeros in its place would not be zeros any more where {why}"
    return tuple(Note(producer, "no zeros", moved) for flow in flows for producer in sorted(flow.moved))


def not_zero(flows: Iterable[Flow], why: str) -> tuple[Note, ...]:
    """Zeros in parameters would have to be zeros here."""
    return tuple(
        Note(producer, "not zero", f"{spoiler} something else of zeros, where {why}")
        for flow in flows
        for producer, spoiler in sorted(flow.spoiled)
    )
