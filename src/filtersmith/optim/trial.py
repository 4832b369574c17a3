"""Trials with scratch copies of an optimizer: what it makes of gradients that are known."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Literal

import torch
from torch import Tensor

from filtersmith.filters import FilterLayer
from filtersmith.optim.apart import seed
from filtersmith.optim.chains import Chain, Path, entries
from filtersmith.optim.places import mask_of, same
from filtersmith.optim.scratch import Scratch, Way, probing_weights
from filtersmith.optim.ways import find_way

Kept = Literal["all", "others", "filter", "none"]
"""Which gradients are not 0: all, those of the other filters, those of one filter, none."""


class Trial:
    """Scratch copies for one parameter, all with the same weights and the same random numbers."""

    def __init__(self, chain: Chain, parameter: Tensor, layer: FilterLayer | None) -> None:
        self.chain: Chain = chain
        self.real: Tensor = parameter
        self.layer: FilterLayer | None = layer
        self.weights: Tensor = probing_weights(parameter)
        self.count: int = layer.filters if layer is not None else (parameter.shape[0] if parameter.ndim else 1)
        self.unit: int = self.count - 1
        self.own: Tensor = (
            mask_of(layer, self.unit, self.weights) if self.weights.ndim else self.weights == self.weights
        )
        self.way: Way = Way()
        self._drawn: dict[tuple[int, int], list[Tensor]] = {}

    def new(self, weights: Tensor | None = None, learn: bool = True) -> Scratch:
        seed(self.weights.device)
        return Scratch(self.chain, self.real, self.weights if weights is None else weights, self.way, learn)

    def gradients(self, number: int, kept: Kept) -> Iterator[Tensor]:
        """One for each step: all of it, without or only the filter's, or 0."""
        if kept == "none":
            yield from (torch.zeros_like(self.weights) for _ in range(self.way.steps))
            return
        for drawn in self._draw(number, self.way.steps):
            if kept != "all":
                yield drawn.masked_fill(self.own if kept == "others" else ~self.own, 0)
            else:
                yield drawn

    def _draw(self, number: int, steps: int) -> list[Tensor]:
        """Random gradients, drawn once: that takes longer than most steps."""
        if (number, steps) not in self._drawn:
            generator, device = torch.Generator("cpu").manual_seed(number), self.weights.device
            shape, dtype = self.weights.shape, torch.float32
            drawn = [torch.randn(shape, generator=generator, dtype=dtype).to(device) for _ in range(steps)]
            self._drawn[number, steps] = drawn
        return self._drawn[number, steps]

    def find_way(self, keys: Set[Path] = frozenset()) -> bool:
        """Find out how copies are stepped; whether they can be. ``keys``: of tensors that they should then keep."""
        found = find_way(self.chain, self.real, self.weights, keys)
        self.way = found or self.way
        return found is not None

    def train(self, scratch: Scratch) -> None:
        """Some steps with random gradients."""
        for gradient in self.gradients(1, "all"):
            scratch.step(gradient)

    def stepped(self, kept: Kept = "all", other: Tensor | None = None) -> Scratch:
        """After some steps; with ``other`` gradients and weights for the one filter."""
        weights = self.weights if other is None else torch.where(self.own, other, self.weights)
        scratch = self.new(weights)
        seed(self.weights.device)
        for gradient in self.gradients(1, kept):
            if other is not None:
                gradient = torch.where(self.own, other.to(gradient), gradient)
            scratch.step(gradient)
        return scratch


def starts(trial: Trial, keys: set[Path], weights: Tensor | None = None) -> dict[Path, float | str]:
    """What each tensor starts as."""
    scratch, first, last = fresh_values(trial, keys, weights)
    found: dict[Path, float | str] = {}
    for path, value in {**last, **first}.items():
        after = last.get(path, value)
        began = trial.weights if weights is None else weights
        if _is_weight(value, began) or _is_weight(after, scratch.parameter):
            found[path] = "weight"
        elif value.numel() and bool(same(value, value.flatten()[0].expand(value.shape)).all()):
            found[path] = value.flatten()[0].item()
        else:
            found[path] = "other"
    return found


def fresh_values(
    trial: Trial, keys: set[Path], weights: Tensor | None = None
) -> tuple[Scratch, dict[Path, Tensor], dict[Path, Tensor]]:
    """A copy that saw gradients of 0, what its state's tensors were first, and what they are now."""
    for learn_rate in (False, True):  # with the rate of now; a few do not work with a rate of 0
        try:
            scratch = trial.new(weights, learn_rate)
            for _ in range(trial.way.steps if len(trial.chain) > 1 else 1):
                scratch.step(torch.zeros_like(trial.weights))
            for _ in range(64):  # some of it may come late
                if keys <= {path for path, _ in entries(scratch.chain, scratch.parameter)}:
                    break
                scratch.step(torch.zeros_like(trial.weights))
            break
        except Exception:
            if learn_rate:
                raise
    last = dict(entries(scratch.chain, scratch.parameter))
    first = {path: value for path, value in scratch.first().items() if path in last}
    return scratch, first, last


def _is_weight(value: Tensor, weight: Tensor) -> bool:
    if value.numel() != weight.numel() or weight.numel() < 2 or not value.is_floating_point():
        return False
    return torch.equal(value.reshape(weight.shape), weight.detach().to(value.dtype))
