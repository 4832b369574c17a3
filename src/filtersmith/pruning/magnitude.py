"""Which filters or weights are the smallest: of equal ones, those that come first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import prune


def smallest(weight: Tensor, portion: float) -> Tensor:
    """Which ``round(portion * weights)`` weights are the smallest by magnitude: bool, of the weight's shape.

    Of equal ones those that come first in ``weight.flatten()``.
    """
    order = weight.detach().abs().flatten().argsort(stable=True)
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[order[: round(portion * weight.numel())]] = True
    return mask.view(weight.shape)


def smallest_filters(rows: Tensor, share: float) -> Tensor:
    """Which ``round(share * n)`` filters have the smallest L1 norm (Li et al., Sec. 3.1): bool, shape ``(n,)``.

    At least one stays. Of equal ones the first go.

    Args:
        rows: the layer's filters, filter-major, shape ``(n, c/g, *k)``.
    """
    copy, n = _Copy(rows), len(rows)
    prune.ln_structured(copy, "weight", amount=min(round(share * n), n - 1), n=1, dim=0)
    norms = torch.linalg.vector_norm(copy.weight_orig, ord=1, dim=tuple(range(1, rows.ndim)))
    return _first_of_equals(_gone(copy).flatten(1).all(dim=1), norms.detach())


def smallest_weights(weights: Sequence[Tensor], share: float) -> list[Tensor]:
    """Which ``round(share * n)`` of the ``n`` weights of all tensors have the smallest magnitude (Han et al., 2015).

    At least one stays. Of equal ones the first go, in the order of the tensors and of ``weight.flatten()``.

    Returns:
        For each tensor a mask, bool, of its shape.
    """
    copies = [_Copy(weight) for weight in weights]
    total = sum(weight.numel() for weight in weights)
    count = min(round(share * total), total - 1)
    prune.global_unstructured([(copy, "weight") for copy in copies], prune.L1Unstructured, amount=count)
    sizes = [torch.cat([part(copy).flatten() for copy in copies]) for part in (_gone, _magnitudes)]
    gone = _first_of_equals(*sizes)
    parts = gone.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]


class _Copy(nn.Module):
    """A weight's copy for `torch.nn.utils.prune` to decide on.

    The live network never carries its reparametrization: the weight would be no parameter any more but a result,
    a tensor that is no leaf, and such a network cannot be deep-copied. Flat memory, which ``channels_last`` is not,
    and the precision that sums need; on the CPU, so that every device decides alike.
    """

    weight_orig: Tensor
    weight_mask: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        kind = torch.promote_types(weight.dtype, torch.float32)
        flat = weight.detach().to("cpu", kind).clone(memory_format=torch.contiguous_format)
        self.weight = nn.Parameter(flat)


def _gone(copy: _Copy) -> Tensor:
    return copy.weight_mask == 0


def _magnitudes(copy: _Copy) -> Tensor:
    return copy.weight_orig.detach().abs()


def _first_of_equals(gone: Tensor, sizes: Tensor) -> Tensor:
    """``topk`` leaves open which of those that are as large as the largest that goes are chosen: here the first."""
    if not gone.any():
        return gone
    equal = sizes == sizes[gone].max()
    chosen = equal.nonzero().flatten()[: int((gone & equal).sum())]
    return (gone & ~equal).index_fill(0, chosen, True)
