"""What follows for channels when they meet an operation: one small pure rule for each kind of operation.

A rule gets a `Step`, a call with all that is known of the tensors that enter it, and gives an `Outcome`: the channels
of its result, and what is to be noted of the convolutions that make those it reads. `RULES` says which rule belongs
to which kind of operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith.graph.flow import Flow, Run, joined, producers_of, unknown, width
from filtersmith.graph.carriers import mixes
from filtersmith.graph.classes import MORE, original_class, tampered
from filtersmith.graph.ops import LAYER_NORMS, Operation, pooled, shape_of
from filtersmith.graph.sites import Site, dimensions
from filtersmith.graph.step import Ancestors, Note, Outcome, Step, full_width, mixed, no_zeros, not_zero, stays

Rule = Callable[[Step], Outcome]


# --- each channel by itself ----------------------------------------------------------------------------------


def _keeps_zero(step: Step) -> Outcome:
    if not step.alone:
        return _unknown(step)
    (flow,) = step.sources
    site = None if step.within is None else Site(step.name, step.module, "elementwise", flow.origins, step.within)
    return Outcome(_placed(step, flow, flow.spatial), site=site)


def _placed(step: Step, flow: Flow, spatial: int) -> Flow:
    """The same channels behind a call that keeps them apart."""
    return flow._replace(spatial=spatial, pooled=pooled(step.node, step.module, flow.spatial, flow.pooled))


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
    return Outcome(_placed(step, flow, flow.spatial - 1))


def _flat(step: Step) -> Outcome:
    if step.often or not step.alone:
        return _unknown(step)
    (flow,) = step.sources
    behind = _placed(step, flow, 0)
    return Outcome(behind if behind.pooled else behind._replace(pooled=flow.pooled))


def _view(step: Step) -> Outcome:
    """To two dimensions, which is a flattening where the first one is the number of examples."""
    shape, (flow,) = shape_of(step.node), step.sources
    source = step.node.args[0]
    if isinstance(source, fx.Node) and isinstance(shape[0], fx.Node):
        flat = step.batches[shape[0]] is step.batches[source]
    else:
        flat = flow.pooled and shape == (-1, width(flow.origins))
    if not flat:
        return _unknown(step)
    notes = () if shape[1] == -1 else full_width([flow], "their number is written into the code")
    return Outcome(flow._replace(spatial=0), notes)


def _per_channel(step: Step) -> Outcome:
    if isinstance(step.module, nn.PReLU) and tampered(step.module) is None and not (step.usual and _in_space(step)):
        return _unknown(step)  # it does nothing to zeros
    return _passed(step) if step.usual and _in_space(step) else _would_make_something_of_zeros(step)


def _in_space(step: Step) -> bool:
    return step.sources[0].spatial > 0


def _passed(step: Step) -> Outcome:
    """Through a module that has parameters or statistics for each channel."""
    (flow,) = step.sources
    site = Site(step.name, step.module, "per-channel", flow.origins, step.within)
    if not isinstance(step.module, _ConvNd):
        of_zeros = step.answers.of_zeros(step.module, flow, site.each_by_itself)
        if of_zeros is None:
            return _would_make_something_of_zeros(step, "its class may do more than its parameters say")
        site = replace(site, moves=of_zeros == "something")
    passed = _moved(flow._replace(origins=site.outputs), step.name, step.within)
    if site.of_zeros != "something":  # parameters and statistics of their own are 0, too
        passed = passed._replace(spoiled=flow.spoiled if site.of_zeros == "zeros" else frozenset())
    several = f"{step.name} has statistics over several channels"
    notes = () if site.each_by_itself else not_zero([flow], several) + no_zeros([flow], several)
    return Outcome(passed._replace(pooled=flow.pooled), notes, site)


def _batch_norm(step: Step) -> Outcome:
    if not step.usual or step.module.num_features != width(step.sources[0].origins):
        return _would_make_something_of_zeros(step)
    return _passed(step)


def _depthwise(step: Step) -> Outcome:
    if not step.answers.loses_filters(step.module):
        return _would_make_something_of_zeros(step, MORE)
    return _passed(step) if step.usual and _fits(step) else _would_make_something_of_zeros(step)


def _fits(step: Step) -> bool:
    """Whether a convolution reads exactly these channels."""
    module, flow = step.module, step.sources[0]
    return bool(module.in_channels == width(flow.origins)) and dimensions(module) == flow.spatial


def _would_make_something_of_zeros(step: Step, why: str | None = None) -> Outcome:
    why = why or tampered(step.module) or "it is called several times, or oddly, or computed"
    return Outcome(
        notes=stays(step.sources, f"{step.name} cannot leave channels out: {why}")
        + mixed(step.sources, f"they enter {step.name}")
    )


# --- where channels begin and end ----------------------------------------------------------------------------


def _convolution(step: Step) -> Outcome:
    if step.producer is None:
        return _depthwise(step)
    enters = f"they enter {step.name}"
    if step.often or not step.alone:
        why = f"it is called {'several times' if step.often else 'with options'}"
        return Outcome(notes=(Note(step.producer, "stays", why), *mixed(step.sources, enters)))
    why = tampered(step.module) or (None if step.answers.loses_filters(step.module) else MORE)
    if why is not None:
        return Outcome(notes=(Note(step.producer, "stays", why), *stays(step.sources, f"{enters}: {why}")))
    made = Flow((Run(step.producer, step.module.out_channels),), dimensions(step.module))
    if not step.sources:
        return Outcome(made)
    if not _fits(step):
        return Outcome(made, mixed(step.sources, enters))
    return Outcome(made, site=Site(step.name, step.module, "consumer", step.sources[0].origins))


def _linear(step: Step) -> Outcome:
    flow = step.sources[0]
    plain = original_class(step.module) is nn.Linear  # what a subclass does with its weight is not known
    blocks = not flow.spatial and step.module.in_features % width(flow.origins) == 0
    if tampered(step.module) or step.often or not step.alone or not plain or not blocks:
        return _unknown(step)
    return Outcome(site=Site(step.name, step.module, "consumer", flow.origins))


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
        return Outcome(_joined(one, values))
    notes = (*_shortcuts(step), *mixed(values, "they are added to others"))
    shapes = {(width(flow.origins), flow.spatial) for flow in values}
    if len(shapes) != 1:
        return Outcome(notes=notes)
    channels, spatial = shapes.pop()
    begun = [_zeros(flow) for flow in values]
    carried = frozenset.intersection(*begun) if len(values) == len(step.operands) else frozenset[str]()
    return Outcome(Flow(unknown(channels), spatial), notes, carried=carried)


def _product(step: Step) -> Outcome:
    if (outcome := _with_constant(step, moves_zero=False)) is not None:
        return outcome
    values = _values(step)
    if (one := _alike(values)) is not None:  # x * sigmoid(x)
        one, other = values
        both = {producer for producer, _ in one.spoiled} & {producer for producer, _ in other.spoiled}
        spoiled = frozenset(pair for pair in one.spoiled if pair[0] in both)
        return Outcome(_joined(one, values)._replace(moved=one.moved & other.moved, spoiled=spoiled))
    why = "its outputs are multiplied by others (squeeze and excitation)"
    return Outcome(notes=(*stays(values, why), *_gates(step)))


def _division(step: Step) -> Outcome:
    """By what is no channel: a number, a parameter, a norm over all of them."""
    above, below = [*step.node.args[:2], *([step.node.kwargs["other"]] if "other" in step.node.kwargs else [])][:2]
    flow = step.flows[above] if isinstance(above, fx.Node) else None
    if flow is None or (isinstance(below, fx.Node) and step.flows[below] is not None):
        return _unknown(step)
    if isinstance(below, fx.Node) and step.ancestors[below]:
        return Outcome(notes=mixed([flow], f"they enter {step.name}"), carried=_zeros(flow))
    return Outcome(flow, full_width([flow], "they meet a parameter") if isinstance(below, fx.Node) else ())


def _joined(one: Flow, values: list[Flow]) -> Flow:
    """Of several with the same channels: what one of them has lost, all have."""
    return one._replace(
        moved=frozenset[str]().union(*(flow.moved for flow in values)),
        spoiled=frozenset[tuple[str, str]]().union(*(flow.spoiled for flow in values)),
        pooled=all(flow.pooled for flow in values),
    )


def _zeros(flow: Flow) -> frozenset[str]:
    """The producers that zeros stand for."""
    return frozenset(producers_of(flow.origins)) - flow.moved


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
        notes = mixed(known, "they are joined with others")
        return Outcome(notes=notes, carried=frozenset[str]().union(*map(_zeros, known)))
    behind = _joined(known[0], known)
    return Outcome(behind._replace(origins=joined([flow.origins for flow in known])))


# --- what is not known ---------------------------------------------------------------------------------------


def _unknown(step: Step) -> Outcome:
    """Neither in the table nor, perhaps, in what a probe finds: then nothing may be left out of what arrives."""
    enters = f"they enter {step.name}"
    if step.module is not None and (why := tampered(step.module)) is not None:
        return Outcome(notes=stays(step.sources, f"{enters}: {why}"))
    probed = step.answers.channels(step.node, step.module, step.flows)
    zeros = frozenset[str]().union(*map(_zeros, step.sources))
    if probed is None:
        if (carries := mixes(step)) is None:
            return Outcome(notes=stays(step.sources, f"{enters}, which may make anything of them"))
        return Outcome(notes=mixed(step.sources, enters), carried=zeros if carries else frozenset())
    if probed.kind == "size":
        return Outcome()
    if probed.kind == "width":
        return _width_is_read(step)
    if probed.flow is None:
        return Outcome(notes=mixed(step.sources, enters), carried=zeros if probed.zeros == "kept" else frozenset())
    return _apart(step, probed.flow, probed.zeros)


def _apart(step: Step, found: Flow, zeros: str) -> Outcome:
    """What a probe has found to keep channels apart."""
    flow = _joined(step.sources[0], step.sources)
    flow = flow._replace(spatial=found.spatial, pooled=found.pooled, dtype=found.dtype)
    if zeros == "kept":
        return Outcome(flow)
    lost = f"{step.name} makes of zeros what is no number"
    notes = [Note(name, "not zero", lost) for name in producers_of(flow.origins) if zeros == "lost"]
    return Outcome(_moved(flow, step.name), tuple(notes))


def _norm_function(step: Step) -> Outcome:
    """Of what stands for each channel nothing would be held still, and start anew."""
    own = any(source.op == "get_attr" or not step.flows[source] for source in step.node.all_input_nodes)
    over_positions = step.node.target in LAYER_NORMS
    if not own and (over_positions or _keeps_apart(step)):
        return _unknown(step)
    why = f"they enter {'a batch norm' if 'batch' in step.name else 'a norm'} that is no module"
    return Outcome(notes=stays(step.sources, why))


def _keeps_apart(step: Step) -> bool:
    probed = step.answers.channels(step.node, step.module, step.flows)
    return probed is not None and probed.flow is not None


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
    Operation.VIEW: _view,
    Operation.ONE_LESS: _one_less,
    Operation.SUM: _sum,
    Operation.PRODUCT: _product,
    Operation.DIVISION: _division,
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
