"""What follows for channels where several tensors meet: sums, products, quotients, concatenations."""

from __future__ import annotations

from typing import Any

from torch import fx

from filtersmith.graph.flow import Flow, joined, producers_of, unknown, width
from filtersmith.graph.step import Ancestors, Note, Outcome, Step, full_width, mixed, stays
from filtersmith.graph.unknown import moved, together, unknown_call, zeros_of


def sum_of(step: Step) -> Outcome:
    nothing = any(isinstance(arg, (int, float)) and arg == 0 for arg in step.node.args[:2])  # sum() starts with it
    if (outcome := _with_constant(step, moves_zero=not nothing)) is not None:
        return outcome
    values = _values(step)
    if (one := _alike(values)) is not None:
        return Outcome(together(one, values))
    notes = (*_shortcuts(step), *mixed(values, "they are added to others"))
    shapes = {(width(flow.origins), flow.spatial) for flow in values}
    if len(shapes) != 1:
        return Outcome(notes=notes)
    channels, spatial = shapes.pop()
    begun = [zeros_of(flow) for flow in values]
    carried = frozenset.intersection(*begun) if len(values) == len(step.operands) else frozenset[str]()
    return Outcome(Flow(unknown(channels), spatial), notes, carried=carried)


def product_of(step: Step) -> Outcome:
    if (outcome := _with_constant(step, moves_zero=False)) is not None:
        return outcome
    values = _values(step)
    if (one := _alike(values)) is not None:  # x * sigmoid(x)
        one, other = values
        both = {producer for producer, _ in one.spoiled} & {producer for producer, _ in other.spoiled}
        spoiled = frozenset(pair for pair in one.spoiled if pair[0] in both)
        return Outcome(together(one, values)._replace(moved=one.moved & other.moved, spoiled=spoiled))
    why = "its outputs are multiplied by others (squeeze and excitation)"
    return Outcome(notes=(*stays(values, why), *_gates(step)))


def division_of(step: Step) -> Outcome:
    """By what is no channel: a number, a parameter, a norm over all of them."""
    above, below = [*step.node.args[:2], *([step.node.kwargs["other"]] if "other" in step.node.kwargs else [])][:2]
    flow = step.flows[above] if isinstance(above, fx.Node) else None
    if flow is None or (isinstance(below, fx.Node) and step.flows[below] is not None):
        return unknown_call(step)
    if isinstance(below, fx.Node) and step.ancestors[below]:
        return Outcome(notes=mixed([flow], f"they enter {step.name}"), carried=zeros_of(flow))
    return Outcome(flow, full_width([flow], "they meet a parameter") if isinstance(below, fx.Node) else ())


def _values(step: Step) -> list[Flow]:
    return [flow for arg in step.operands if (flow := step.flows[arg]) is not None]


def _alike(values: list[Flow]) -> Flow | None:
    """One of two tensors that have the same channels, place for place."""
    if len(values) != 2 or values[0][:2] != values[1][:2]:
        return None
    return values[0]


def _with_constant(step: Step, *, moves_zero: bool) -> Outcome | None:
    """Where the other operand is a number or a parameter."""
    operands, values = step.operands, _values(step)
    if len(values) != 1 or (len(operands) == 2 and all(step.ancestors[arg] for arg in operands)):
        return None
    flow = moved(values[0], step.name) if moves_zero else values[0]
    return Outcome(flow, full_width(values, "they meet a parameter") if len(operands) == 2 else ())


def _shortcuts(step: Step) -> list[Note]:
    """A 1x1 convolution that alone stands in one of two summed branches is the shortcut around the other."""
    if len(step.operands) != 2:
        return []
    one, other = step.operands
    return [
        Note(producer, "stays", "it is the 1x1 projection of a shortcut")
        for branch, across in ((one, other), (other, one))
        if (producer := _projection(step, branch, step.ancestors[across])) is not None
    ]


def _projection(step: Step, branch: fx.Node, across: Ancestors) -> str | None:
    """The producer that is all that a branch has for itself, if it is a 1x1 convolution and the other one is more."""
    flow, own = step.flows[branch], step.ancestors[branch] - across
    made = producers_of(flow.origins) if flow is not None else []
    if len(made) != 1 or own != set(made):
        return None
    rivals = [step.producers[name] for name in across - step.ancestors[branch] if name is not None]
    like = len(rivals) == 1 and _is_pointwise(rivals[0])
    return made[0] if _is_pointwise(step.producers[made[0]]) and rivals and not like else None


def _is_pointwise(module: Any) -> bool:
    return bool(max(module.kernel_size) == 1)


def _gates(step: Step) -> list[Note]:
    """A gate is made of what it gates, and of convolutions of its own."""
    if len(step.operands) != 2:
        return []
    one, other = (step.ancestors[arg] for arg in step.operands)
    gate = one - other if other <= one else other - one if one <= other else frozenset()
    return [Note(p, "stays", "it makes a gate that others are multiplied by") for p in gate if p is not None]


def concatenation(step: Step) -> Outcome:
    tensors: Any = step.node.args[0] if step.node.args else step.node.kwargs.get("tensors")
    listed = list(tensors) if isinstance(tensors, (list, tuple)) else []
    values = [step.flows[arg] if isinstance(arg, fx.Node) else None for arg in listed]
    known = [flow for flow in values if flow is not None]
    dimensions = {flow.spatial for flow in known}
    if len(known) < len(values) or len(dimensions) != 1 or dimensions == {0}:
        notes = mixed(known, "they are joined with others")
        return Outcome(notes=notes, carried=frozenset[str]().union(*map(zeros_of, known)))
    behind = together(known[0], known)
    return Outcome(behind._replace(origins=joined([flow.origins for flow in known])))
