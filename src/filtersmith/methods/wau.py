r"""WAU: weight asynchronous update.

**Paper.** *Weight Asynchronous Update: Improves the Diversity of Filters in Deep Convolutional Network*,
Computational Visual Media 6(4), 2020, doi 10.1007/s41095-020-0185-5, Sec. 4, Eqs. (2)-(8).

**What it does.** At every step, in every convolution, only a fresh random part of the filters receives its
update; the others keep their values bit for bit. Forward and backward passes do not change. With ``delta`` the
displacement that the optimizer would apply (learning rate, momentum, adaptive scaling and weight decay included):

    W[f] <- W[f] + delta[f]  for the k = max(1, floor(rate * n)) chosen filters of n,  W[f] otherwise

**When to use it.** Once, after the optimizer is made::

    wau = fs.WAU(model, rate=0.5, seed=0).attach(optimizer)

It suits training from scratch. On average a convolution moves as far as with ``rate`` times the learning rate
while batch norms and classifiers move at full rate, so judge a gain against the control ``conv-lr(rate)``, too.

**Options.** ``rate`` 0.5 (paper; 1.0 switches it off exactly). ``unit="filter"`` as in the text;
``"input-channel"`` as in the authors' code; ``"element"`` a control. ``draw="exact"``: the same number of filters
in every step; ``"stochastic"``: the number is rounded up or down at random, which alone makes Eq. (2) exact;
``"bernoulli"``: each filter on its own; ``"with-replacement"``: as in the authors' code.

**Where paper, authors' code and we differ.** The released optimizer masks *input* channels and draws their
indices with replacement, so that about 39% of them move at rate 0.5 and 63% at rate 1.0, and a layer with
``floor(rate * c) = 0`` draws (RGB input at rate 0.3 or less) never trains. That is
``WAU(unit="input-channel", draw="with-replacement")``. We follow the text: filters, without replacement. The paper
reports the best test epoch; we report the last, and the best beside it.

**Compatibility.** Every torch optimizer (foreach, fused, closures), gradient scalers, accumulation, DDP (all
ranks hold the same filters), FSDP2, ``torch.compile``. Batch norms, biases and linear layers are never held
(name linear layers in ``layers`` to include them). FSDP1 and weights computed by a parametrization are refused.
The network that is deployed does not change. Two masks on one optimizer both hold. With a fused optimizer and a
gradient scaler on a GPU, asking whether the step is skipped waits for the device.

**Measured results.** On CIFAR-10 (JPEG), 2 seeds, for WAU, plain training and the control ``conv-lr(0.5)``: C^3(32),
6 epochs, 67.0%, 68.1% and 67.1%; ResNet-20, 3 epochs, 68.0%, 70.4% and 67.8%. So far below the paper's 164 epochs WAU
acts like the smaller learning rate that it is on average. All tables: README and ``results/``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from filtersmith.common.options import (
    Check,
    check_options,
    check_state,
    fraction,
    one_of,
    seed_number,
)
from filtersmith.filters import UNITS, FilterLayer, Slice, Unit, filter_layers, layers_left_out, locate
from filtersmith.optim.hold import Hold
from filtersmith.optim.wrappers import innermost_of, warn_if_idle

Draw = Literal["exact", "stochastic", "bernoulli", "with-replacement"]
DRAWS: tuple[Draw, ...] = ("exact", "stochastic", "bernoulli", "with-replacement")


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
    """Update only a random part of every convolution's filters at each step (paper Sec. 4).

    Args:
        model: the network; wrapped in DDP or compiled as well.
        rate: share of the filters that is updated, in (0, 1]; may be set anew at any time.
        seed: of its own random generator; the global ones are not touched. All ranks take the same.
        unit: what is chosen: ``"filter"``, ``"input-channel"`` or ``"element"``.
        draw: how: ``"exact"``, ``"stochastic"``, ``"bernoulli"`` or ``"with-replacement"``.
        layers: names of the layers; by default all convolutions. A tensor that layers share counts once.

    Raises:
        ValueError: an option out of range, an unknown layer, a network without convolutions.
    """

    checks: ClassVar[dict[str, Check]] = {
        "rate": fraction,
        "seed": seed_number,
        "unit": one_of(UNITS),
        "draw": one_of(DRAWS),
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
    ) -> None:
        check_options(self.checks, rate=rate, unit=unit, draw=draw, seed=seed)
        self.rate = rate
        self.unit: Unit = unit
        self.draw: Draw = draw
        self._layers = filter_layers(model, layers)
        self._generator = Generator("cpu").manual_seed(seed)
        self._active: dict[str, Tensor] = {}
        self._hold = Hold(self._choose)

    @staticmethod
    def why_not(model: nn.Module, *, layers: Iterable[str] | None = None, **_: Any) -> dict[str, str]:
        """Layer -> why its filters are never held, for `filtersmith.why_not`."""
        return layers_left_out(model, layers)

    @property
    def rate(self) -> float:
        """Share of the units that is updated at each step; takes effect at the next one."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = fraction("rate", rate)

    @property
    def active(self) -> dict[str, Tensor]:
        """What the last step updated: layer name -> bool, shape ``(units,)``, on the CPU. Empty before it."""
        return dict(self._active)

    def attach(self, optimizer: Any) -> WAU:
        """Mask the steps of ``optimizer`` from now on: of one, of a list of several, or call it for each."""
        for inner in innermost_of(optimizer):
            self._hold.attach(inner)
        return self

    def attached_to(self, optimizer: Any) -> bool:
        """Whether the steps of ``optimizer``, or of all of several, are masked."""
        return all(self._hold.attached_to(inner) for inner in innermost_of(optimizer))

    def detach(self) -> None:
        """Remove the hooks from every optimizer."""
        self._hold.detach()

    def state_dict(self) -> dict[str, Any]:
        """All that decides the masks to come."""
        return {
            "rate": self.rate,
            "unit": self.unit,
            "draw": self.draw,
            "layers": {layer.name: layer.units(self.unit) for layer in self._layers},
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the masks of the run that saved ``state``. ``ValueError`` if it was another set-up."""
        check_state("WAU", state, self.state_dict(), ("unit", "draw", "layers"))
        self.rate = state["rate"]
        self._generator.set_state(state["generator"].cpu())

    def __repr__(self) -> str:
        layers = f"{len(self._layers)} layers"
        return f"WAU(rate={self.rate}, unit={self.unit!r}, draw={self.draw!r}, {layers})"

    def _owned_by(self, optimizer: Optimizer) -> list[FilterLayer]:
        """The layers whose weights an optimizer has."""
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return [layer for layer in self._layers if id(layer.weight) in owned]

    def _choose(self, optimizer: Optimizer) -> Iterator[Slice]:
        """Draw anew for the layers of this optimizer, and yield where their held units stand."""
        mine = self._owned_by(optimizer)
        if not mine and not any(self._owned_by(other) for other in self._hold.optimizers):
            warn_if_idle("WAU", len(self._layers), 0)
        for layer in mine:
            self._active.pop(layer.name, None)
        # A weight that was frozen with its gradient still there moves once more.
        layers = [layer for layer in mine if layer.weight.requires_grad or layer.weight.grad is not None]
        if not layers:
            return
        sizes = [layer.units(self.unit) for layer in layers]
        if self.rate == 1 and self.draw != "with-replacement":
            self._active |= {
                layer.name: torch.ones(n, dtype=torch.bool, device="cpu")
                for layer, n in zip(layers, sizes, strict=True)
            }
            return
        active = draw_active(sizes, self.rate, self.draw, self._generator).split(sizes)
        self._active |= {layer.name: mask for layer, mask in zip(layers, active, strict=True)}
        for layer, held in zip(layers, _held(layers, active), strict=True):
            yield locate(layer, held, self.unit)


def _held(layers: list[FilterLayer], active: tuple[Tensor, ...]) -> list[Tensor]:
    """The indices that are not active, each on its layer's device; one transfer where all layers share one."""
    held = [(~mask).nonzero().flatten() for mask in active]
    devices = [layer.weight.device for layer in layers]
    if len(set(devices)) == 1:
        return list(torch.cat(held).to(devices[0], non_blocking=True).split([len(h) for h in held]))
    return [h.to(device, non_blocking=True) for h, device in zip(held, devices, strict=True)]
