"""ortho-loss: a penalty on filters of one layer that overlap.

**Paper.** *RePr: Improved Training of Convolutional Filters*, Prakash et al., CVPR 2019, Sec. 6 ("Orthogonal Loss"),
Eq. 1, Table 1, https://arxiv.org/abs/1811.07275

**What it does.** Adds to the loss how far the filters of each convolution are from orthogonal:

    loss + lambda * sum_l sum_ij |Wn_l Wn_l^T - I|_ij,   rows of Wn_l: the filters of layer l, scaled to length 1

It acts on directions alone: its gradient is orthogonal to every filter.

**When to use it.** As the control of RePr: it asks for orthogonal filters without pruning any. In the loop, where the
loss is made::

    training = fs.compose("ortho-loss(weight=0.01)")  # in any loop: training.penalty(...) is the term
    loss = criterion(model(images), labels) + 0.01 * fs.ortho_loss(model)  # alone
    penalty = fs.OrthoLoss(model, weight=0.01)  # or so, before the loop, and then: loss + penalty()

**When not to use it.** To gain accuracy: it lost here, alone and with RePr, and the paper finds no significant gain
(Sec. 5 and 6). With the paper's factor in wide networks: as a sum it grows with the square of a layer's filters. In
layers with more filters than weights in each: these cannot be orthogonal, and the penalty never gets to 0.

**Options.** The factor lambda is 0.01 in the paper; 0 switches it off exactly. ``layers``: by name, by default all
convolutions.

**Where paper, authors' code and we differ.** There is no code by the authors. The paper does not say whether it sums
over the entries or averages, nor which norm it divides the weights by: we sum, as the formula reads, and divide each
filter by its own length, without which the diagonal would not be 0.

**Compatibility.** Every optimizer, DDP, ``torch.compile``, gradient scalers and autocast (it is computed outside of
it, in float32 at least). Filters are compared within their group, so a depthwise convolution adds 0; those of
transposed convolutions are columns. Of a layer that KFLO expanded, what is deployed counts, the computed kernel and
not its underlying filters. Other computed weights (DO-Conv, ACNet, DBB, weight norm) and sharded ones (FSDP) are
refused. The network that is deployed does not change.

**Measured results.** On CIFAR-10 (JPEG) with C^3(32), 20 epochs at a constant rate, augmentation, 2 seeds: 70.0%
against 70.7% of plain training; with RePr 66.6% against 67.6% of RePr alone. On digits with 200 images, 20 seeds, the
difference is −0.33 [−0.64, −0.03] points (95% interval; nothing remains after Holm's correction over 22 rows). All
tables: ``results/README.md``; what a step costs: ``benchmarks/README.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.common.options import Check, check_options, check_state, names_or_none, number
from filtersmith.common.precision import without_autocast
from filtersmith.common.words import plural
from filtersmith.filters import (
    FilterLayer,
    Need,
    Surroundings,
    cannot,
    filter_layers,
    filter_major,
    layers_left_out,
    reason_against,
    transposed_groups,
)
from filtersmith.measure.overlap import cosines
from filtersmith.pruning.subnetwork import left_out

NEED = Need(whole=True)
"""What a layer needs to have its filters compared."""


def ortho_loss(model: nn.Module, *, layers: Iterable[str] | None = None) -> Tensor:
    """The sum of ``|cosine|`` over all ordered pairs of filters of a layer, and over layers, to add to a loss.

    Example:
        >>> import torch, filtersmith as fs
        >>> conv = torch.nn.Conv2d(1, 2, (1, 2))
        >>> conv.weight.data = torch.tensor([[3.0, 0.0], [3.0, 4.0]]).view(2, 1, 1, 2)  # two filters, cosine 0.6
        >>> penalty = fs.ortho_loss(conv)
        >>> print(f"{penalty.item():.2f}")
        1.20
        >>> (0.01 * penalty).backward()  # in a loop: loss + 0.01 * fs.ortho_loss(model)

    Args:
        model: the network; wrapped in DDP or compiled as well.
        layers: names of the layers; by default all convolutions. A tensor that layers share counts once.

    Returns:
        A scalar, differentiable, float32 or float64, without the factor lambda; 0 where all filters are orthogonal.

    Raises:
        ValueError: an unknown layer, a network without convolutions, a weight that is sharded or computed otherwise
            than by KFLO.

    Source: *RePr*, Sec. 6, Eq. 1, Table 1, https://arxiv.org/abs/1811.07275
    """
    return _sum(filter_layers(model, layers, NEED, "be compared"))


class OrthoLoss:
    """Penalise overlapping filters: `ortho_loss` times a weight, with the layers looked up once.

    Call it once a step, and add what it returns to the loss.

    Example:
        >>> import torch, filtersmith as fs
        >>> conv = torch.nn.Conv2d(1, 2, (1, 2))
        >>> conv.weight.data = torch.tensor([[3.0, 0.0], [3.0, 4.0]]).view(2, 1, 1, 2)  # two filters, cosine 0.6
        >>> penalty = fs.OrthoLoss(conv, weight=0.01)
        >>> print(f"{penalty().item():.3f}")
        0.012

    Args:
        model: the network; wrapped in DDP or compiled as well.
        weight: lambda, a number of at least 0; 0.01 by default (paper). 0 is plain training.
        layers: names of the layers; by default all convolutions. A tensor that layers share counts once.

    Raises:
        ValueError: a weight out of range, and as `ortho_loss`.

    Source: *RePr*, Sec. 6, Eq. 1, Table 1, https://arxiv.org/abs/1811.07275
    """

    checks: ClassVar[dict[str, Check]] = {
        "weight": lambda option, value: number(
            option, value, lambda x: 0 <= x < math.inf, "a finite number of at least 0"
        ),
        "layers": names_or_none,
    }

    def __init__(self, model: nn.Module, weight: float = 0.01, *, layers: Iterable[str] | None = None) -> None:
        self.weight: float = check_options(self.checks, weight=weight)["weight"]
        self._layers = filter_layers(model, layers, NEED, "be compared")

    @staticmethod
    def why_not(model: nn.Module, *, layers: Iterable[str] | None = None, **_: Any) -> dict[str, str]:
        """Layer -> why its filters are not compared, for `filtersmith.why_not`."""
        reasons = layers_left_out(model, layers, NEED)
        for name, module in Surroundings.of(model).layers.items():
            filters = module.out_features if isinstance(module, nn.Linear) else getattr(module, "out_channels", None)
            if name not in reasons and filters == getattr(module, "groups", 1):
                reasons[name] = "none of its filters has another in its group to overlap with"
        return reasons

    def __call__(self) -> Tensor:
        """What to add to the loss; for a weight of 0 a constant 0."""
        if self.weight == 0:
            return torch.zeros((), device=self._layers[0].weight.device)
        return self.weight * _sum(self._layers)

    def penalty(self) -> Tensor:
        """What a composition adds to the loss of a batch: what calling it gives."""
        return self()

    def state_dict(self) -> dict[str, Any]:
        """Nothing changes over training: the weight, for comparison."""
        return {"weight": self.weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """``ValueError`` if the state was saved with another weight."""
        check_state("OrthoLoss", state, self.state_dict(), ("weight",))

    def __repr__(self) -> str:
        return f"OrthoLoss(weight={self.weight}, {plural(len(self._layers), 'layer')})"


def _sum(layers: Iterable[FilterLayer]) -> Tensor:
    terms = [cosines(_deployed_filters(layer), layer.groups).abs().sum() for layer in layers]
    return torch.stack([term.to(terms[0].device) for term in terms]).sum()


def _deployed_filters(layer: FilterLayer) -> Tensor:
    """The filters that the layer computes with, filter-major, differentiable."""
    weight = layer.weight
    if (reason := reason_against(layer.name, layer.module, NEED)) is not None:  # it may have been sharded since
        raise cannot(layer.name, "be compared", reason)
    if is_parametrized(layer.module, "weight"):
        weight = _computed(layer.module.parametrizations["weight"])  # type: ignore[index]
    filters = filter_major(weight, transposed_groups(layer.module))
    if (gone := left_out(layer.module)) is not None:  # RePr: filters that are left out repel no others
        filters = filters.masked_fill(gone.to(filters.device).view(-1, *[1] * (filters.ndim - 1)), 0)
    return filters


def _computed(how: Any) -> Tensor:
    """A computed kernel without its weight decay, which is the forward pass's to add, and without autocast."""
    expansion, decay = how[0], how[0].decay
    try:
        expansion.decay = 0.0
        with without_autocast(how.original0):
            # Called itself and not by the attribute, which torch may cache for the forward pass.
            return how()  # type: ignore[no-any-return]
    finally:
        expansion.decay = decay
