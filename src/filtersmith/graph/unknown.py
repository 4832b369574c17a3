"""What follows for channels that meet something which the table of operations does not know."""

from __future__ import annotations

from filtersmith.graph.answers import never_zero
from filtersmith.graph.carriers import mixes
from filtersmith.graph.classes import tampered
from filtersmith.graph.flow import Flow, producers_of
from filtersmith.graph.ops import LAYER_NORMS
from filtersmith.graph.step import Note, Outcome, Step, full_width, mixed, stays


def unknown_call(step: Step) -> Outcome:
    """Neither in the table nor, perhaps, in what a probe finds: then nothing may be left out of what arrives."""
    enters = f"they enter {step.name}"
    if step.module is not None and (why := tampered(step.module)) is not None:
        return Outcome(notes=stays(step.sources, f"{enters}: {why}"))
    probed = step.answers.channels(step.node, step.module, step.flows)
    zeros = frozenset[str]().union(*map(zeros_of, step.sources))
    if probed is None:
        if (carries := mixes(step)) is None:
            return Outcome(notes=stays(step.sources, f"{enters}, which may make anything of them"))
        return Outcome(notes=mixed(step.sources, enters), carried=zeros if carries else frozenset())
    if probed.kind == "size":
        return Outcome()
    if probed.kind == "width":
        return Outcome(notes=full_width(step.sources, "their number is read"))
    if probed.flow is None:
        return Outcome(notes=mixed(step.sources, enters), carried=zeros if probed.zeros == "kept" else frozenset())
    return _apart(step, probed.flow, probed.zeros)


def _apart(step: Step, found: Flow, zeros: str) -> Outcome:
    """What a probe has found to keep channels apart."""
    flow = together(step.sources[0], step.sources)
    flow = flow._replace(spatial=found.spatial, pooled=found.pooled, dtype=found.dtype)
    if zeros == "kept":  # whatever stands where zeros have become something else
        still = [source for source in step.sources if not never_zero(source)]
        return Outcome(together(flow, still)._replace(pooled=found.pooled, dtype=found.dtype))
    lost = f"{step.name} makes of zeros what is no number"
    notes = [Note(name, "not zero", lost) for name in producers_of(flow.origins) if zeros == "lost"]
    return Outcome(moved(flow, step.name), tuple(notes))


def norm_function(step: Step) -> Outcome:
    """Of what stands for each channel nothing would be held still, and start anew."""
    own = any(source.op == "get_attr" or not step.flows[source] for source in step.node.all_input_nodes)
    over_positions = step.node.target in LAYER_NORMS
    if not own and (over_positions or _keeps_apart(step)):
        return unknown_call(step)
    why = f"they enter {'a batch norm' if 'batch' in step.name else 'a norm'} that is no module"
    return Outcome(notes=stays(step.sources, why))


def _keeps_apart(step: Step) -> bool:
    probed = step.answers.channels(step.node, step.module, step.flows)
    return probed is not None and probed.flow is not None


def moved(flow: Flow, by: str, within: str | None = None) -> Flow:
    """Zeros become something else; those of a producer whose channels alone pass are put in behind it."""
    producers = producers_of(flow.origins)
    spoiled = flow.spoiled | {(producer, f"{by} makes") for producer in producers}
    return flow._replace(moved=flow.moved | (set(producers) - {within}), spoiled=spoiled)


def together(one: Flow, values: list[Flow]) -> Flow:
    """Of several with the same channels: what one of them has lost, all have."""
    return one._replace(
        moved=frozenset[str]().union(*(flow.moved for flow in values)),
        spoiled=frozenset[tuple[str, str]]().union(*(flow.spoiled for flow in values)),
        pooled=all(flow.pooled for flow in values),
        dtype=next((flow.dtype for flow in values if flow.dtype.is_floating_point), one.dtype),
    )


def zeros_of(flow: Flow) -> frozenset[str]:
    """The producers that zeros stand for."""
    return frozenset(producers_of(flow.origins)) - flow.moved
