"""The row of modules that the channels of one layer pass alone, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith.graph.last import operation_on_last
from filtersmith.graph.ops import ELEMENTWISE, Operation, is_activation, of_module, operation, original_class
from filtersmith.graph.sites import dimensions, is_depthwise
from filtersmith.graph.trace import Part

Spine = list[nn.Module]


def spines(modes: Sequence[Sequence[Part]], calls: Counter[int]) -> dict[nn.Module, Spine]:
    """For each convolution and linear layer the modules that its channels alone pass, itself first.

    The same in all modes.

    Args:
        modes: the parts of the network in each mode.
        calls: how often each module is called in a mode, by its id.
    """
    found: dict[nn.Module, Spine] = {}
    for mode in modes:
        of_mode = dict(_spines(mode, calls))
        for convolution, spine in of_mode.items():
            before = found.get(convolution, spine)
            found[convolution] = [one for one, other in zip(before, spine, strict=False) if one is other]
    return found


def _spines(mode: Sequence[Part], calls: Counter[int]) -> Iterator[tuple[nn.Module, Spine]]:
    for part in mode:
        for node in part.graph.nodes:
            module = part.called(node) if node.op == "call_module" else None
            if isinstance(module, _ConvNd) and not is_depthwise(module):
                yield module, [module, *_following(part, node, dimensions(module), calls)]
            elif module is not None and original_class(module) is nn.Linear:
                yield module, [module, *_following(part, node, None, calls)]


def _following(part: Part, node: fx.Node, spatial: int | None, calls: Counter[int]) -> Iterator[nn.Module]:
    """Those behind a call; ``spatial`` is ``None`` where channels stand last."""
    while len(node.users) == 1 and (node := next(iter(node.users))).op == "call_module":
        module = part.called(node)
        kind = operation_on_last(node, module, 0) if spatial is None else operation(node, module, spatial)
        kept = kind in (*ELEMENTWISE, Operation.PER_CHANNEL, Operation.BATCH_NORM)
        depthwise = spatial is not None and is_depthwise(module)
        if calls[id(module)] != 1 or not (kept or depthwise) or len(node.args) != 1 or node.kwargs:
            return
        yield module


def activation(part: Part, node: fx.Node) -> fx.Node:
    """The value behind the norms and the activation that alone follow a convolution, if there are any."""
    while len(node.users) == 1:
        following = next(iter(node.users))
        module = part.called(following) if following.op == "call_module" else None
        if is_activation(following, module):
            return following
        if module is None or of_module(module) not in (Operation.BATCH_NORM, Operation.PER_CHANNEL):
            break
        node = following
    return node
