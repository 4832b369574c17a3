"""What weights alone tell of filters, layer by layer, beside the same network with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from filtersmith.measure.kernels import Kernels, kernels_of
from filtersmith.measure.overlap import cosines
from filtersmith.measure.spectrum import condition_of, rank_of, singular_values_of
from filtersmith.measure.waste import look_for_dead

BINS = 50
"""Of the histograms of |cosine|, from 0 to 1."""
ALIKE = 0.95
"""|cosine| of filters that are nearly the same, as `fs.measure.near_duplicates` has it."""


@dataclass(frozen=True)
class Shape:
    """How the filters of a layer lie, of one network.

    Attributes:
        overlap: mean O_f.
        rank: effective rank of the filter matrix; filters of other groups lie in other dimensions.
        full_rank: the most that it can be.
        condition: of it.
        duplicates: filters that are nearly the same as another one, or its opposite.
        cosines: how many pairs of filters have which |cosine|.
    """

    overlap: float
    rank: float
    full_rank: int
    condition: float
    duplicates: int
    cosines: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer by its weights.

    Attributes:
        name: of it.
        size: of its kernel, ``(filters, channels of a group, *kernel)``.
        depthwise: whether its filters read a channel each, so that none overlap.
        own: how its filters lie.
        random: how those of the random network do.
        dead: filters that give the same whatever they read.
        not_finite: filters with NaN or infinite weights; they count nowhere else.
        random_dead: filters that are dead in the random network.
        same_as: the first layer with the same kernel, where this one is not the first.
        unseen: why the batch norm behind it was not looked at for dead filters; empty where it was.
    """

    name: str
    size: tuple[int, ...]
    depthwise: bool
    own: Shape
    random: Shape
    dead: tuple[int, ...]
    not_finite: tuple[int, ...]
    random_dead: tuple[int, ...] = ()
    same_as: str = ""
    unseen: str = ""

    @property
    def filters(self) -> int:
        return self.size[0]

    @property
    def rank_shares(self) -> tuple[float, float]:
        """The ranks, own and random, as shares of the most that they can be."""
        own, null = (one.rank / max(one.full_rank, 1) for one in (self.own, self.random))
        return own, null


def by_weights(network: nn.Module, random: nn.Module, step: Callable[[], None] = lambda: None) -> list[Layer]:
    """Every convolution of a network; ``step`` is told after each, of both networks.

    Raises:
        ValueError: no convolution, or weights without values.
    """
    kernels = kernels_of(network)
    names = [one.name for one in kernels]  # known, so that no graph is made for them again
    dead, others = look_for_dead(network, layers=names), kernels_of(random, names)
    of_random = look_for_dead(random, layers=names).filters
    first = {name: group[0] for group in of_one_kernel(network, names) for name in group[1:]}
    for one, null in zip(kernels, others, strict=True):
        if one.filters.shape != null.filters.shape:
            kind = type(network).__name__
            raise ValueError(f"{kind} must be the same each time that it is made: layer {one.name} is not")
    found = []
    for one, null in zip(kernels, others, strict=True):
        finite = one.filters.flatten(1).isfinite().all(1)
        found.append(
            Layer(
                one.name,
                tuple(one.filters.shape),
                one.depthwise,
                _shape(one, finite),
                _shape(null, torch.ones_like(finite)),
                tuple(dead.filters[one.name]),
                tuple((~finite).nonzero().flatten().tolist()),
                tuple(of_random[one.name]),
                first.get(one.name, ""),
                dead.unseen.get(one.name, ""),
            )
        )
        step()
    return found


def of_one_kernel(network: nn.Module, layers: Iterable[str]) -> list[list[str]]:
    """The layers that have the same kernel, in groups; those that share none are no group."""
    kernels = dict(network.named_parameters(remove_duplicate=False))
    sharing: dict[int, list[str]] = {}
    for layer in layers:
        if (kernel := kernels.get(f"{layer}.weight".lstrip("."))) is not None:  # a network may be one layer
            sharing.setdefault(id(kernel), []).append(layer)
    return [group for group in sharing.values() if len(group) > 1]


@torch.no_grad()
def _shape(one: Kernels, finite: Tensor) -> Shape:
    """Of the filters that are finite; all from one matrix of cosines, which takes the most time."""
    if not finite.any():
        nan = float("nan")
        return Shape(nan, nan, 0, nan, 0, (0,) * BINS)
    clean = one.filters
    if not finite.all():
        clean = clean.masked_fill(~finite.view(-1, *[1] * (clean.ndim - 1)), 0)
    products = cosines(clean, one.groups).abs_().clamp_(max=1).cpu()
    size = products.shape[-1]
    overlap = products.sum(-1).flatten()[finite.cpu()] / size
    counts = torch.histc(products.flatten(), BINS, 0, 1).double()
    counts[0] -= len(clean)  # the diagonals
    twins = (products >= ALIKE).any(-1).sum()
    values = singular_values_of(one, finite)
    return Shape(
        float(overlap.mean()),
        rank_of(values),
        len(values),
        condition_of(values),
        int(twins),
        tuple(int(count) // 2 for count in counts),
    )
