"""What operations do to channels that stand last, ``(batch, *positions, channels)``: those of ConvNeXt's blocks.

There a linear layer is a 1x1 convolution. Little else is met between two of them; what is not known here is unknown.
A convolution takes something else for its channels.
"""

from __future__ import annotations

from torch import fx, nn
from torch.nn import functional as F

from filtersmith.graph.classes import is_torchs, original_class, tampered
from filtersmith.graph.ops import (
    ACTIVATIONS,
    ELEMENTWISE,
    LAYER_NORMS,
    OPERATIONS,
    PERMUTES,
    Operation,
    of_module,
    permuted,
)

NUMBERS = (nn.Identity, nn.Dropout, nn.AlphaDropout, F.dropout, "contiguous", "clone", *ACTIVATIONS)
"""To each number by itself: it is all the same where channels stand."""


def operation_on_last(node: fx.Node, module: nn.Module | None, spatial: int) -> Operation | None:
    """What a call does to channels that stand last; ``None``: unknown.

    Args:
        node: a call of ``module``, or of a function or method.
        module: for a call of one.
        spatial: how many dimensions stand between the batch and the channels.
    """
    if module is None:
        if node.target in PERMUTES:
            return Operation.PERMUTATION if permuted(node, spatial, -1, 1) else None
        if node.target in LAYER_NORMS:
            return Operation.LAYER_NORM
        known, kind = OPERATIONS.get(node.target), node.target
    else:
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            return Operation.LAYER_NORM if is_torchs(module) and tampered(module) is None else None
        known, kind = of_module(module), original_class(module)
        if known in (Operation.LINEAR, Operation.CONVOLUTION):
            return known
    return known if kind in NUMBERS and known in ELEMENTWISE else None
