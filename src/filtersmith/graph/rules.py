"""What follows for channels when they meet an operation: one small pure rule for each kind of operation.

A rule gets a `Step`, a call with all that is known of the tensors that enter it, and gives an `Outcome`: the channels
of its result, and what is to be noted of the convolutions that make those it reads. `RULES` says which rule belongs
to which kind of operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith.graph.chunks import chunks_of, part_of_call
from filtersmith.graph.classes import MORE, is_torchs, original_class, tampered
from filtersmith.graph.flow import Flow, Run, part_of, unknown, width
from filtersmith.graph.joins import concatenation, division_of, product_of, sum_of
from filtersmith.graph.ops import Operation, shape_of
from filtersmith.graph.pooled import pooled
from filtersmith.graph.sites import Site, dimensions
from filtersmith.graph.step import Note, Outcome, Step, full_width, mixed, no_zeros, not_zero, stays
from filtersmith.graph.unknown import moved, norm_function, unknown_call, zeros_of

Rule = Callable[[Step], Outcome]
PLACES = "their places are written into the code"


# --- each channel by itself ----------------------------------------------------------------------------------


def _keeps_zero(step: Step) -> Outcome:
    if not step.alone:
        return unknown_call(step)
    (flow,) = step.sources
    site = None if step.within is None else Site(step.name, step.module, "elementwise", flow.origins, step.within)
    return Outcome(_placed(step, flow, flow.spatial), site=site)


def _placed(step: Step, flow: Flow, spatial: int) -> Flow:
    """The same channels behind a call that keeps them apart."""
    return flow._replace(spatial=spatial, pooled=pooled(step.node, step.module, flow.spatial, flow.pooled))


def _moves_zero(step: Step) -> Outcome:
    outcome = _keeps_zero(step)
    return outcome if outcome.flow is None else outcome._replace(flow=moved(outcome.flow, step.name, step.within))


def _one_less(step: Step) -> Outcome:
    if not step.alone:
        return unknown_call(step)
    (flow,) = step.sources
    return Outcome(_placed(step, flow, flow.spatial - 1))


def _flat(step: Step) -> Outcome:
    if step.often or not step.alone:
        return unknown_call(step)
    (flow,) = step.sources
    behind = _placed(step, flow, 0)
    return Outcome(behind if behind.pooled else behind._replace(pooled=flow.pooled))


def _view(step: Step) -> Outcome:
    """To two dimensions, which is a flattening where the first one is the number of examples."""
    shape, (flow,) = shape_of(step.node), step.sources
    source = step.node.args[0]
    if isinstance(source, fx.Node) and isinstance(shape[0], fx.Node):
        flat = step.batches()[shape[0]] is step.batches()[source]
    else:
        flat = flow.pooled and shape == (-1, width(flow.origins))
    if not flat:
        return unknown_call(step)
    notes = () if shape[1] == -1 else full_width([flow], "their number is written into the code")
    return Outcome(flow._replace(spatial=0), notes)


def _per_channel(step: Step) -> Outcome:
    if isinstance(step.module, nn.PReLU) and tampered(step.module) is None and not (step.usual and _in_space(step)):
        return unknown_call(step)  # it does nothing to zeros
    return _passed(step) if step.usual and _in_space(step) else _would_make_something_of_zeros(step)


def _in_space(step: Step) -> bool:
    return step.sources[0].spatial > 0


def _passed(step: Step) -> Outcome:
    """Through a module that has parameters or statistics for each channel."""
    (flow,) = step.sources
    site = Site(step.name, step.module, "per-channel", flow.origins, step.within)
    if not isinstance(step.module, _ConvNd) and not is_torchs(step.module):
        of_zeros = step.answers.of_zeros(step.module, flow, site.each_by_itself)
        if of_zeros is None:
            return _would_make_something_of_zeros(step, "its class may do more than its parameters say")
        site = replace(site, moves=of_zeros == "something")
    passed = moved(flow._replace(origins=site.outputs), step.name, step.within)
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
    return module.in_channels == width(flow.origins) and dimensions(module) == flow.spatial and not flow.last


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
    odd = tampered(step.module) or (None if step.answers.loses_filters(step.module) else MORE)
    if odd is not None:
        return Outcome(notes=(Note(step.producer, "stays", odd), *stays(step.sources, f"{enters}: {odd}")))
    made = Flow((Run(step.producer, step.module.out_channels),), dimensions(step.module))
    if not step.sources:
        return Outcome(made)
    if not _fits(step):
        return Outcome(made, mixed(step.sources, enters))
    return Outcome(made, site=_consumer(step))


def _linear(step: Step) -> Outcome:
    """Of features, or a 1x1 convolution of images whose channels stand last."""
    if not step.sources:
        return Outcome()
    flow, features = step.sources[0], step.module.in_features
    plain = original_class(step.module) is nn.Linear  # what a subclass does with its weight is not known
    channels = width(flow.origins)
    fits = features == channels if flow.last else not flow.spatial and features % channels == 0
    if tampered(step.module) or step.often or not step.alone or not plain or not fits:
        return unknown_call(step)
    made = None
    if flow.last and step.producer is not None:
        made = Flow((Run(step.producer, step.module.out_features),), flow.spatial, last=True)
    return Outcome(made, site=_consumer(step))


def _part(step: Step) -> Outcome:
    (flow,) = step.sources
    ends = part_of_call(step.node, flow)
    origins = None if ends is None else part_of(flow.origins, *ends)
    if origins is None:
        return unknown_call(step)
    return Outcome(flow._replace(origins=origins, chunks=()), full_width([flow], PLACES))


def _chunks(step: Step) -> Outcome:
    (flow,) = step.sources
    sizes = chunks_of(step.node, flow)
    if sizes is None:
        return unknown_call(step)
    return Outcome(flow._replace(chunks=sizes), full_width([flow], PLACES))


def _permutation(step: Step) -> Outcome:
    """Zeros in full width stand for what is left out."""
    (flow,) = step.sources
    behind = Flow(unknown(width(flow.origins)), flow.spatial, dtype=flow.dtype, last=not flow.last)
    return Outcome(behind, mixed([flow], f"they enter {step.name}"), carried=zeros_of(flow))


def _layer_norm(step: Step) -> Outcome:
    if not step.alone:
        return unknown_call(step)
    (flow,) = step.sources
    behind = flow._replace(origins=unknown(width(flow.origins)))
    return Outcome(behind, mixed([flow], f"they enter {step.name}"))


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


# --- all kinds -----------------------------------------------------------------------------------------------


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
    Operation.PART: _part,
    Operation.CHUNKS: _chunks,
    Operation.PERMUTATION: _permutation,
    Operation.LAYER_NORM: _layer_norm,
    Operation.FLAT: _flat,
    Operation.VIEW: _view,
    Operation.ONE_LESS: _one_less,
    Operation.SUM: sum_of,
    Operation.PRODUCT: product_of,
    Operation.DIVISION: division_of,
    Operation.CONCATENATION: concatenation,
    Operation.NORM_FUNCTION: norm_function,
    Operation.SIZE: _nothing,
    Operation.WIDTH: _width_is_read,
    None: unknown_call,
    # what torch.fx has besides calls
    "placeholder": _nothing,
    "get_attr": _parameter,
    "output": _output,
}
"""Kind of operation, or of a node that is no call -> rule."""
