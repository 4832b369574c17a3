"""What follows for channels when they meet an operation: one small pure rule for each kind of operation.

A rule gets a `Step`, a call with all that is known of the tensors that enter it, and gives an `Outcome`: the channels
of its result, and what is to be noted of the convolutions that make those it reads. `RULES` says which rule belongs
to which kind of operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.nn.modules import conv
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.graph.flow import Flow, Run, joined, producers_of, unknown, width
from filtersmith.graph.ops import Operation, original_class
from filtersmith.graph.sites import Site, dimensions
from filtersmith.graph.step import Ancestors, Note, Outcome, Step, full_width, mixed, not_zero, stays

OWN_CLASS = "its class may make"
"""What may make something else of zeros where a convolution is none of torch's."""
Rule = Callable[[Step], Outcome]


# --- each channel by itself ----------------------------------------------------------------------------------


def _keeps_zero(step: Step) -> Outcome:
    if not step.alone:
        return _unknown(step)
    (flow,) = step.sources
    site = None if step.within is None else Site(step.name, step.module, "elementwise", flow.origins, step.within)
    return Outcome(flow, site=site)


def _moves_zero(step: Step) -> Outcome:
    outcome = _keeps_zero(step)
    return outcome if outcome.flow is None else outcome._replace(flow=_moved(outcome.flow, step.name, step.within))


def _moved(flow: Flow, by: str, within: str | None = None) -> Flow:
    """Zeros become something else; those of a producer whose channels alone pass are put in behind it."""
    producers = producers_of(flow.origins)
    spoiled = flow.spoiled | {(producer, f"{by} makes") for producer in producers}
    return flow._replace(moved=flow.moved | (set(producers) - {within}), spoiled=spoiled)


def _one_less(step: Step) -> Outcome:
    if not step.alone:
        return _unknown(step)
    (flow,) = step.sources
    return Outcome(flow._replace(spatial=flow.spatial - 1))


def _flat(step: Step) -> Outcome:
    if step.often or not step.alone:
        return _unknown(step)
    (flow,) = step.sources
    return Outcome(flow._replace(spatial=0))


def _flat_of_known_size(step: Step) -> Outcome:
    if not step.alone:
        return _unknown(step)
    return Outcome(
        step.sources[0]._replace(spatial=0), full_width(step.sources, "their number is written into the code")
    )


def _per_channel(step: Step) -> Outcome:
    if step.often or not step.alone or not step.sources[0].spatial:
        return _unknown(step)
    return _passed(step)


def _passed(step: Step) -> Outcome:
    """Through a module that has parameters or statistics for each channel."""
    (flow,) = step.sources
    site = Site(step.name, step.module, "per-channel", flow.origins, step.within)
    passed = _moved(flow._replace(origins=site.outputs), step.name, step.within)
    if site.of_zeros != "something":  # parameters and statistics of their own are 0, too
        passed = passed._replace(spoiled=flow.spoiled if site.of_zeros == "zeros" else frozenset())
    notes = () if site.each_by_itself else not_zero([flow], f"{step.name} has statistics over several channels")
    return Outcome(passed, notes, site)


def _batch_norm(step: Step) -> Outcome:
    if not _usual(step) or step.module.num_features != width(step.sources[0].origins):
        return _would_make_something_of_zeros(step)
    return _passed(step)


def _depthwise(step: Step) -> Outcome:
    return _passed(step) if _usual(step) and _fits(step) else _would_make_something_of_zeros(step)


def _usual(step: Step) -> bool:
    """Called once, with one tensor, on parameters of its own."""
    return step.alone and not step.often and not is_parametrized(step.module)


def _fits(step: Step) -> bool:
    """Whether a convolution reads exactly these channels."""
    module, flow = step.module, step.sources[0]
    return bool(module.in_channels == width(flow.origins)) and dimensions(module) == flow.spatial


def _would_make_something_of_zeros(step: Step) -> Outcome:
    why = f"{step.name} cannot leave channels out: it is called several times, or oddly, or computed"
    return Outcome(notes=stays(step.sources, why) + mixed(step.sources, f"they enter {step.name}"))


# --- where channels begin and end ----------------------------------------------------------------------------


def _convolution(step: Step) -> Outcome:
    if step.producer is None:
        return _depthwise(step)
    enters = f"they enter {step.name}"
    if step.often or not step.alone:
        why = f"it is called {'several times' if step.often else 'with options'}"
        return Outcome(notes=(Note(step.producer, "stays", why), *mixed(step.sources, enters)))
    known = original_class(step.module).__module__ == conv.__name__
    spoiled = frozenset[tuple[str, str]]() if known else frozenset({(step.producer, OWN_CLASS)})
    made = Flow((Run(step.producer, step.module.out_channels),), dimensions(step.module), spoiled=spoiled)
    if not step.sources:
        return Outcome(made)
    if not _fits(step):
        return Outcome(made, mixed(step.sources, enters))
    return Outcome(made, site=_consumer(step))


def _linear(step: Step) -> Outcome:
    flow = step.sources[0]
    plain = original_class(step.module) is nn.Linear  # what a subclass does with its weight is not known
    blocks = not flow.spatial and step.module.in_features % width(flow.origins) == 0
    if step.often or not step.alone or not plain or not blocks:
        return _unknown(step)
    return Outcome(site=_consumer(step))


def _consumer(step: Step) -> Site:
    (flow,) = step.sources
    return Site(step.name, step.module, "consumer", flow.origins, spoiled=flow.spoiled)


def _output(step: Step) -> Outcome:
    outside = "its outputs leave the part of the network that torch.fx can trace"
    return Outcome(notes=stays(step.sources, "its outputs are the network's" if step.network else outside))


def _parameter(step: Step) -> Outcome:
    """A tensor of a module is read by itself."""
    if step.producer is None:
        return Outcome()
    return Outcome(notes=(Note(step.producer, "stays", "its parameters are read by themselves"),))


# --- several tensors -----------------------------------------------------------------------------------------


def _sum(step: Step) -> Outcome:
    nothing = any(isinstance(arg, (int, float)) and arg == 0 for arg in step.node.args[:2])  # sum() starts with it
    if (outcome := _with_constant(step, moves_zero=not nothing)) is not None:
        return outcome
    values = _values(step)
    if (one := _alike(values)) is not None:
        one, other = values
        return Outcome(one._replace(moved=one.moved | other.moved, spoiled=one.spoiled | other.spoiled))
    notes = (*_shortcuts(step), *mixed(values, "they are added to others"))
    shapes = {(width(flow.origins), flow.spatial) for flow in values}
    if len(shapes) != 1:
        return Outcome(notes=notes)
    channels, spatial = shapes.pop()
    return Outcome(Flow(unknown(channels), spatial), notes)


def _product(step: Step) -> Outcome:
    if (outcome := _with_constant(step, moves_zero=False)) is not None:
        return outcome
    values = _values(step)
    if (one := _alike(values)) is not None:  # x * sigmoid(x)
        one, other = values
        both = {producer for producer, _ in one.spoiled} & {producer for producer, _ in other.spoiled}
        spoiled = frozenset(pair for pair in one.spoiled if pair[0] in both)
        return Outcome(one._replace(moved=one.moved & other.moved, spoiled=spoiled))
    why = "its outputs are multiplied by others (squeeze and excitation)"
    return Outcome(notes=(*stays(values, why), *_gates(step)))


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
    flow = _moved(values[0], step.name) if moves_zero else values[0]
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


def _concatenation(step: Step) -> Outcome:
    tensors: Any = step.node.args[0] if step.node.args else step.node.kwargs.get("tensors")
    listed = list(tensors) if isinstance(tensors, (list, tuple)) else []
    values = [step.flows[arg] if isinstance(arg, fx.Node) else None for arg in listed]
    known = [flow for flow in values if flow is not None]
    dimensions = {flow.spatial for flow in known}
    if len(known) < len(values) or len(dimensions) != 1 or dimensions == {0}:
        return Outcome(notes=mixed(known, "they are joined with others"))
    moved = frozenset[str]().union(*(flow.moved for flow in known))
    spoiled = frozenset[tuple[str, str]]().union(*(flow.spoiled for flow in known))
    return Outcome(Flow(joined([flow.origins for flow in known]), dimensions.pop(), moved, spoiled))


# --- what is not known ---------------------------------------------------------------------------------------


def _unknown(step: Step) -> Outcome:
    return Outcome(notes=mixed(step.sources, f"they enter {step.name}"))


def _norm_function(step: Step) -> Outcome:
    notes = stays(step.sources[:1], "they enter a batch norm that is no module")
    return Outcome(notes=notes + mixed(step.sources, f"they enter {step.name}"))


def _width_is_read(step: Step) -> Outcome:
    return Outcome(notes=full_width(step.sources, "their number is read"))


def _nothing(step: Step) -> Outcome:
    return Outcome()


RULES: dict[Operation | str | None, Rule] = {
    Operation.KEEPS_ZERO: _keeps_zero,
    Operation.MOVES_ZERO: _moves_zero,
    Operation.PER_CHANNEL: _per_channel,
    Operation.BATCH_NORM: _batch_norm,
    Operation.CONVOLUTION: _convolution,
    Operation.LINEAR: _linear,
    Operation.FLAT: _flat,
    Operation.FLAT_OF_KNOWN_SIZE: _flat_of_known_size,
    Operation.ONE_LESS: _one_less,
    Operation.SUM: _sum,
    Operation.PRODUCT: _product,
    Operation.CONCATENATION: _concatenation,
    Operation.NORM_FUNCTION: _norm_function,
    Operation.SIZE: _nothing,
    Operation.WIDTH: _width_is_read,
    None: _unknown,
    # what torch.fx has besides calls
    "placeholder": _nothing,
    "get_attr": _parameter,
    "output": _output,
}
"""Kind of operation, or of a node that is no call -> rule."""
