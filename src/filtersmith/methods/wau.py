"""WAU: weight asynchronous update.

**Paper.** *Weight Asynchronous Update: Improves the Diversity of Filters in Deep Convolutional Network*,
Computational Visual Media 6(4), 2020, Sec. 4, Eqs. (2)-(8), https://doi.org/10.1007/s41095-020-0185-5

**What it does.** At every step, in every convolution, only a fresh random part of the filters receives its
update; the others keep their values bit for bit. Forward and backward passes do not change. With ``delta`` the
displacement that the optimizer would apply (learning rate, momentum, adaptive scaling and weight decay included):

    W[f] <- W[f] + delta[f]  for the k = max(1, floor(rate * n)) chosen filters of n,  W[f] otherwise

**When to use it.** To train from scratch with a long schedule, as the paper does (164 epochs and more). Once the
optimizer is made::

    training = fs.compose("wau(rate=0.5)")  # in any loop; joined with others: "kflo+wau(0.5)"
    wau = fs.WAU(model, rate=0.5, seed=0).attach(optimizer)  # alone: nothing else in the loop changes

Train the control ``conv-lr(0.5)`` beside it. On average a convolution moves as far as with ``rate`` times the
learning rate, while batch norms and classifiers move at full rate: a gain that the control shows, too, is no gain by
asynchrony.

**When not to use it.** With few epochs: there WAU lost 1.1 and 2.4 points, as many as its control. Where the learning
rate is low already, since WAU lowers it further. To save memory: each step keeps a copy of the filters that are held,
on a GPU of all. To save time there is ``mode="skip"``; the paper's update computes all that plain training does.

**Options.** ``rate`` 0.5 (paper; 1.0 switches it off exactly). ``unit="filter"`` as in the text;
``"input-channel"`` as in the authors' code; ``"element"`` a control. ``draw="exact"``: the same number of filters
in every step; ``"stochastic"``: the number is rounded up or down at random, which alone makes Eq. (2) exact;
``"bernoulli"``: each filter on its own; ``"with-replacement"``: as in the authors' code. ``layers``: by name.
``mode="update"``: the paper's; ``mode="skip"``: another update and a cheaper one. There no gradient is computed of
what is held, and of held filters neither momentum and moments nor weight decay move:

    state[f], W[f] <- optimizer(state[f], gradient[f], W[f])  for the chosen filters,  state[f], W[f]  otherwise

A norm of gradients (clipping) is that of the chosen filters alone.

**Where paper, authors' code and we differ.** The released optimizer masks *input* channels and draws their
indices with replacement, so that about 39% of them move at rate 0.5 and 63% at rate 1.0, and a layer with
``floor(rate * c) = 0`` draws (RGB input at rate 0.3 or less) never trains. That is
``WAU(unit="input-channel", draw="with-replacement")``. We follow the text: filters, without replacement. The paper
reports the best test epoch of one run; we report the last, and the best beside it.

**Compatibility.** Every optimizer that moves the weights that are deployed (``docs/compatibility.md``), wrapped as
well; gradient scalers, accumulation, DDP and ZeroRedundancyOptimizer (all ranks hold the same filters), FSDP2,
``torch.compile``. Batch norms, biases and linear layers are never held (name linear layers in ``layers`` to include
them), nor are weights computed by a parametrization (the log says which; refused where ``layers`` names them). FSDP1
and what is expanded is refused; KFLO is the exception, whose underlying filters are held. Two masks on one optimizer
both hold. With a fused optimizer and a gradient scaler on a GPU, asking whether the step is skipped waits for it.

**Measured results.** On CIFAR-10 (JPEG), 2 seeds, for WAU, plain training and the control ``conv-lr(0.5)``: C^3(32),
6 epochs, 67.0%, 68.1% and 67.1%; ResNet-20, 3 epochs, 68.0%, 70.4% and 67.8%. No difference to the smaller learning
rate that WAU is on average was seen; two seeds would show a large one only. The paper, with 164 epochs, gains 0.4 to
4.1 points (Table 1). On digits with 200 images, 20 seeds, the difference is −0.22 [−0.49, +0.05] points (95%
interval), the control's −0.26 [−0.55, +0.02], that of ``mode="skip"`` −0.07 [−0.40, +0.26]. All tables:
``results/README.md``; what a step costs: ``docs/performance.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from filtersmith.common.options import (
    Check,
    bad_option,
    check_options,
    check_state,
    fraction,
    names_or_none,
    one_of,
    seed_number,
)
from filtersmith.common.words import plural
from filtersmith.filters import UNITS, FilterLayer, Need, Unit, filter_layers, layers_left_out, locate
from filtersmith.optim.chains import chains_of
from filtersmith.optim.hold import Hold, Rows, indices
from filtersmith.optim.ownership import warn_of_unowned
from filtersmith.optim.skip import Skipped
from filtersmith.optim.wrappers import given_optimizers, owned_by

Draw = Literal["exact", "stochastic", "bernoulli", "with-replacement"]
DRAWS: tuple[Draw, ...] = ("exact", "stochastic", "bernoulli", "with-replacement")
Mode = Literal["update", "skip"]
MODES: tuple[Mode, ...] = ("update", "skip")


def whole(count: float) -> int:
    """``floor``, safe against binary fractions: 0.29 * 100 is 28.999999999999996 and means 29."""
    return math.floor(count + 1e-9)


def draw_active(sizes: list[int], rate: float, draw: Draw, generator: Generator) -> Tensor:
    """Which units are updated in one step.

    Args:
        sizes: number of units of each layer.
        rate: share to be updated, in (0, 1].
        draw: how (see the module's docstring). Draws of different layers are independent.
        generator: on the CPU; the only source of randomness.

    Returns:
        bool, shape ``(sum(sizes),)``, layer after layer, on the CPU.
    """
    with torch.device("cpu"):  # whatever the default device is
        return _draw_active(sizes, rate, draw, generator)


def _draw_active(sizes: list[int], rate: float, draw: Draw, generator: Generator) -> Tensor:
    size = torch.tensor(sizes)
    total = int(size.sum())
    layer = torch.repeat_interleave(torch.arange(len(sizes)), size)
    start = size.cumsum(0) - size
    if draw == "bernoulli":
        return torch.rand(total, generator=generator, dtype=torch.float64) < rate
    if draw == "with-replacement":
        draws = torch.tensor([whole(rate * n) for n in sizes])
        of = torch.repeat_interleave(torch.arange(len(sizes)), draws)
        chosen = torch.rand(len(of), generator=generator, dtype=torch.float64).mul(size[of]).long()
        active = torch.zeros(total, dtype=torch.bool)
        active[start[of] + chosen] = True
        return active
    if draw == "stochastic":
        raised = torch.rand(len(sizes), generator=generator, dtype=torch.float64)
        count = torch.tensor([whole(rate * n + u) for n, u in zip(sizes, raised.tolist(), strict=True)])
    else:
        count = torch.tensor([max(1, whole(rate * n)) for n in sizes])
    # One sort permutes every layer within itself: the layer is the key's high part, a random number its low part.
    order = (torch.randint(2**40, (total,), generator=generator) + layer * 2**40).argsort()
    active = torch.empty(total, dtype=torch.bool)
    active[order] = torch.arange(total) - start[layer] < count[layer]
    return active


class WAU:
    """Update only a random part of every convolution's filters at each step.

    Make it after the optimizer and attach it; the loop stays as it is. The optimizer sees every gradient, and its
    momentum and moments advance for all filters. A step moves ``max(1, floor(rate*n))`` of each convolution's n
    filters, drawn anew each time; the others keep their values bit for bit. Biases, batch norms and linear layers
    always move.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 10))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> wau = fs.WAU(model, rate=0.5, seed=0).attach(optimizer)
        >>> before = model[0].weight.detach().clone()
        >>> model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        >>> optimizer.step()
        >>> moved = (model[0].weight != before).flatten(1).any(dim=1)
        >>> print(int(moved.sum()), torch.equal(moved, wau.active["0"]))
        4 True

    Args:
        model: the network; wrapped in DDP or compiled as well.
        rate: share of each layer's filters that a step updates, in (0, 1]; 0.5 is the paper's, 1 is plain training
            bit for bit. ``wau.rate`` may be set at any time.
        seed: of its own random generator; the global ones are not touched. All process ranks take the same.
        unit: what is drawn: ``"filter"`` (default), ``"input-channel"`` (the authors' code) or ``"element"``.
        draw: how it is drawn: ``"exact"`` (default, the same number in every step), ``"stochastic"`` (that number
            rounded up or down at random), ``"bernoulli"`` (each unit on its own) or ``"with-replacement"`` (the
            authors' code).
        layers: names of the layers, linear ones allowed; by default all convolutions. A tensor that layers share
            counts once.
        mode: ``"update"`` (default, the paper's) or ``"skip"``: of held filters no gradient is computed, and nothing
            that the optimizer keeps of them moves. Grouped, transposed and linear layers, and those that compute in a
            way of their own, are updated as without it; the log names them. What a step updates is drawn at the end
            of the one before, so that a ``rate`` that is set counts one step later. What an optimizer averages over
            filters (Adafactor) takes the zeros in. Under ``torch.compile`` other draws than ``"exact"`` compute all.

    Attributes:
        active: what the last step updated: layer name -> bool, shape ``(units,)``, on the CPU. Empty before it.

    Raises:
        ValueError: an option out of range, ``mode="skip"`` with another unit than filters, an unknown layer, a
            network without convolutions, a weight that is computed from others (KFLO apart) or that FSDP1 has
            flattened; from `attach` what is no optimizer, one that is attached to already, or with ``"skip"`` one of
            which nobody can tell what it keeps of single filters, or that mixes them (LBFGS).

    Source: *Weight Asynchronous Update*, Sec. 4, Eqs. (2)-(8), https://doi.org/10.1007/s41095-020-0185-5
    """

    checks: ClassVar[dict[str, Check]] = {
        "rate": fraction,
        "seed": seed_number,
        "unit": one_of(UNITS),
        "draw": one_of(DRAWS),
        "layers": names_or_none,
        "mode": one_of(MODES),
    }

    def __init__(
        self,
        model: nn.Module,
        rate: float = 0.5,
        *,
        seed: int = 0,
        unit: Unit = "filter",
        draw: Draw = "exact",
        layers: Iterable[str] | None = None,
        mode: Mode = "update",
    ) -> None:
        check_options(self.checks, rate=rate, unit=unit, draw=draw, seed=seed, mode=mode)
        if mode == "skip" and unit != "filter":
            raise bad_option("unit", unit, "'filter' with mode='skip'")
        self.unit: Unit = unit
        self.draw: Draw = draw
        self._layers = filter_layers(model, layers)
        self.mode: Mode = mode
        self.rate = rate
        self._generator = Generator("cpu").manual_seed(seed)
        self._active = self._before = dict[str, Tensor]()
        self._next: dict[str, Tensor] = {}  # drawn, and no step with it yet
        self._rows = {
            layer.name: Rows(partial(getattr, layer, "weight"), partial(locate, layer, unit=unit))
            for layer in self._layers
        }
        self._hold = Hold("WAU", self._choose, self._not_taken, self._taken)
        self._skipped = Skipped("WAU", model, self._layers if mode == "skip" else (), fixed=draw == "exact")
        self._looked = False

    @staticmethod
    def why_not(model: nn.Module, *, layers: Iterable[str] | None = None, **_: Any) -> dict[str, str]:
        """Layer -> why its filters are never held."""
        return layers_left_out(model, layers, Need(trained=True))

    @property
    def rate(self) -> float:
        """Share of the units that is updated at each step; takes effect when the next ones are drawn."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = fraction("rate", rate)
        if self.mode == "update":
            self._next = {}  # of a step that was none

    @property
    def active(self) -> dict[str, Tensor]:
        """What the last step updated: layer name -> bool, shape ``(units,)``, on the CPU. Empty before it."""
        return dict(self._active)

    def attach(self, optimizer: Any) -> WAU:
        """Mask the steps of ``optimizer`` from now on, of one or of a list of several. Returns the `WAU` itself."""
        for layer in self._layers:
            locate(layer, torch.empty(0, dtype=torch.int64), self.unit)  # refuses what spans process ranks
        self._skipped.check(optimizer)
        self._hold.attach(optimizer)
        self._skipped.start(optimizer)
        self._draw_ahead(self._of(optimizer))
        return self

    def attached_to(self, optimizer: Any) -> bool:
        """Whether the steps of ``optimizer``, or of all of several, are masked."""
        return all(self._hold.steps.attached_to(one) for one in given_optimizers(optimizer))

    def detach(self) -> None:
        """Remove the hooks from optimizers and network: all filters are updated from now on. Harmless when done."""
        self._hold.steps.warn_if_unseen()
        self._hold.detach()
        self._skipped.stop()

    def state_dict(self) -> dict[str, Any]:
        """All that decides the masks to come: options, layers and the random generator; for ``torch.save``."""
        return {
            **{name: getattr(self, name) for name in ("rate", "unit", "draw", "mode")},
            "layers": {layer.name: layer.units(self.unit) for layer in self._layers},
            "generator": self._generator.get_state(),
            "next": dict(self._next),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the masks of the run that saved ``state``. ``ValueError`` if it was another set-up."""
        if isinstance(state, Mapping):  # what was saved before there was a mode
            state = {"mode": "update", "next": {}, **state}
        check_state("WAU", state, self.state_dict(), ("unit", "draw", "layers", "mode"))
        self.rate = state["rate"]
        self._generator.set_state(state["generator"].cpu())
        self._drop_next(self._layers)
        self._set_next({name: mask.cpu() for name, mask in state["next"].items()})
        self._draw_ahead(self._of(list(self._hold.steps.optimizers)))
        self._hold.steps.own_state_was_loaded()

    def __repr__(self) -> str:
        draw = f"draw={self.draw!r}" + ", mode='skip'" * (self.mode == "skip")
        return f"WAU(rate={self.rate}, unit={self.unit!r}, {draw}, {plural(len(self._layers), 'layer')})"

    def _of(self, level: Any) -> list[FilterLayer]:
        """The layers whose weights an optimizer, or wrapper, has."""
        owned = owned_by(level)
        return [layer for layer in self._layers if id(layer.weight) in owned]

    def _draw(self, layers: list[FilterLayer]) -> None:
        """Draw for the next step, unless it is done."""
        layers = [layer for layer in layers if layer.name not in self._next]
        sizes = [layer.units(self.unit) for layer in layers]
        if not layers or (self.rate == 1 and self.draw != "with-replacement"):
            masks = [torch.ones(n, dtype=torch.bool, device="cpu") for n in sizes]
        else:
            masks = list(draw_active(sizes, self.rate, self.draw, self._generator).split(sizes))
        self._set_next(dict(zip([layer.name for layer in layers], masks, strict=True)))

    def _draw_ahead(self, layers: list[FilterLayer]) -> None:
        """Draw now for the next step, where backward passes need it."""
        if self.mode == "skip":
            self._draw([layer for layer in layers if layer.weight.requires_grad])

    def _set_next(self, masks: Mapping[str, Tensor]) -> None:
        self._next |= masks
        self._skipped.compute(masks)

    def _drop_next(self, layers: Sequence[FilterLayer]) -> None:
        self._next = {name: mask for name, mask in self._next.items() if name not in {one.name for one in layers}}
        self._skipped.compute_all(layers)

    def _choose(self, level: Any) -> Iterator[Rows]:
        """Yield where the held units of what steps stand."""
        if not self._looked:  # not before: several may be attached to in turn
            self._looked = True
            known = owned_by(list(self._hold.steps.optimizers))
            warn_of_unowned("WAU", {layer.name: layer.weight for layer in self._layers}, known)
        mine = self._of(level)
        self._before, names = self._active, {layer.name for layer in mine}
        self._active = {name: mask for name, mask in self._active.items() if name not in names}
        # A weight that was frozen with its gradient still there moves once more.
        layers = [layer for layer in mine if layer.weight.requires_grad or layer.weight.grad is not None]
        self._draw(layers)
        active = [self._next[layer.name] for layer in layers]
        self._active |= {layer.name: mask for layer, mask in zip(layers, active, strict=True)}
        chains, on = chains_of(level), [layer.weight.device for layer in layers]
        for layer, held in zip(layers, indices(active, on, false=True), strict=True):
            if len(held):
                self._rows[layer.name].units = held
                yield self._rows[layer.name]
                yield from self._skipped.kept(chains, layer, held)

    def _taken(self, level: Any) -> None:
        self._drop_next(mine := self._of(level))
        self._skipped.clear(level)
        self._draw_ahead(mine)

    def _not_taken(self, level: Any) -> None:  # what was drawn counts for the next step
        self._active = self._before
