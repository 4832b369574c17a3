"""DSD: dense-sparse-dense training.

**Paper.** *DSD: Dense-Sparse-Dense Training for Deep Neural Networks*, Han et al., ICLR 2017, Algorithm 1,
https://arxiv.org/abs/1607.04381; a comparison of RePr (Table 3).

**What it does.** Trains the dense network, then sets the smallest weights of every layer to 0 and trains the others,
then lets them start again from 0 and trains the dense network on with a smaller learning rate; and all that again:

    repeat ``cycles`` times:
        train for ``s1`` epochs; mask the share ``prune`` of each layer's weights, those with the smallest |w|
        train for ``s2`` epochs; remove the mask

**When to use it.** Where a network overfits at a learning rate that stays high: in such a training it gained here.
``step()`` at the end of every epoch, beside the scheduler's::

    training = fs.compose("dsd")  # in any loop; phases that the text leaves open follow from the epochs
    dsd = fs.DSD(model, optimizer, s1=20, s2=10, cycles=3, prune=0.3)  # alone, once the optimizer is made
    event = dsd.step()  # once per epoch: None, "pruned" or "restored"; dsd.finish() before deploying

**When not to use it.** To get a sparse network: all weights come back (``prune`` keeps the zeros). Where the schedule
lowers the learning rate by itself: most of DSD's gain came with the tenth of the rate after a mask, and a tenth of a
rate near zero trains nothing. With augmentation: there it lost 0.8 points.

**Options.** ``s1=20``, ``s2=10``, ``cycles=3`` as RePr, which trained it for three rounds; one round is the paper's.
``prune`` 0.3: the paper takes 25% to 50%; 0 switches everything off exactly, ``cycles=0`` too. ``lr_factor`` 0.1: in
full phases after a mask, every step is taken with a tenth of the learning rate that the scheduler says (Algorithm 1).
``layers``: by name, by default all convolutions and linear layers. Biases and batch norms are never masked.

**Where paper, authors' code and we differ.** RePr states neither the share nor the learning rates of its three
rounds: we take its own share of filters, and the scheduled rate whenever a mask is on. WAU's text gives DSD a Taylor
criterion; that is another paper's. What the optimizer keeps of masked weights is
kept as a fresh one would have it, of which no paper speaks.

**Compatibility.** Optimizers: see ``docs/compatibility.md``. Gradient scalers, DDP (all ranks find the same masks),
``torch.compile``. An EMA averages what is masked already, and keeps a fading rest of what was there before:
``dsd.leave_out_of`` sets it to 0 in a copy of the average. While a mask is on, ``model.state_dict()`` has its zeros:
it is the model and what resumes. Where an optimizer mixes weights (LBFGS, Kron), all that it keeps of them starts
anew with what comes back. Weights that the optimizer does not have, or that are frozen when a mask is made, stay as
they are. Expanded (KFLO and its family) and sharded weights are refused; computed ones stay. The network that is
deployed does not change.

**Measured results.** On CIFAR-10 (JPEG) with C^3(32), 20 epochs at a constant rate, ``s1=4``, ``s2=2``, 2 seeds:
66.7% against 63.9% of plain training, which never trains at a tenth of the rate; most of it comes in the first epoch
at that rate. With augmentation 70.0% against 70.7%. On digits with 200 images, 20 seeds, the difference is −0.25
[−0.50, 0.00] points (95% interval), without the lower rate 0.00 [−0.17, +0.17]. All tables: ``results/README.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from filtersmith.common.distributed import follow_first
from filtersmith.common.modules import unwrap
from filtersmith.common.options import (
    Check,
    check_options,
    check_state,
    fraction,
    names_or_none,
)
from filtersmith.common.phases import (
    CYCLE_CHECKS,
    CYCLE_LENGTHS,
    Phase,
    cycle_event,
    cycle_phases,
    fit_cycle,
    sub_phases,
)
from filtersmith.common.subphase import refuse_sub_phase
from filtersmith.common.words import plural
from filtersmith.filters import layers_left_out
from filtersmith.optim.ownership import warn_of_unowned
from filtersmith.optim.slower import SlowedSteps
from filtersmith.optim.state import refuse_unclear
from filtersmith.optim.wrappers import owned_by
from filtersmith.pruning.eligibility import moved_by
from filtersmith.pruning.magnitude import smallest
from filtersmith.pruning.masks import SINGLE_WEIGHTS, set_zero_in, single_weights
from filtersmith.pruning.zeros import KeptAtZero


class DSD:
    """Mask the smallest weights of every layer for a while, and let them start again from 0.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> dsd = fs.DSD(model, optimizer, s1=2, s2=1, cycles=1, prune=0.3, layers=["0", "2"])
        >>> [dsd.step() for epoch in range(2)]  # step() at the end of each epoch
        [None, 'pruned']
        >>> {name: int(mask.sum()) for name, mask in dsd.pruned.items()}  # of 40 and 10 weights
        {'0': 12, '2': 3}
        >>> dsd.step(), dsd.finish()
        ('restored', None)

    Args:
        model: the network; wrapped in DDP or compiled as well.
        optimizer: of its weights, one or a list of several.
        s1: calls of `step` (epochs, as a rule) of each full phase, at least 1; 20 by default.
        s2: calls of `step` of each sparse phase, at least 1; 10 by default.
        cycles: how often, at least 0; 3 by default. Training goes on in the full phase after the last one.
        prune: share of the weights of each layer that are masked, in [0, 1); 0.3 by default. 0: off, exactly.
        lr_factor: factor on the learning rate in full phases after a mask, in (0, 1]; 0.1 by default (paper).
        layers: names of the layers; by default all convolutions and linear layers.

    Raises:
        ValueError: an option out of range, an unknown layer, a weight that is computed or sharded, no optimizer.

    Source: *DSD: Dense-Sparse-Dense Training*, Algorithm 1, https://arxiv.org/abs/1607.04381
    """

    s1: int
    s2: int
    cycles: int
    prune: float
    lr_factor: float
    in_epochs = CYCLE_LENGTHS
    checks: ClassVar[dict[str, Check]] = {
        **CYCLE_CHECKS,
        "lr_factor": fraction,
        "layers": names_or_none,
    }

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        s1: int = 20,
        s2: int = 10,
        cycles: int = 3,
        prune: float = 0.3,
        *,
        lr_factor: float = 0.1,
        layers: Iterable[str] | None = None,
    ) -> None:
        vars(self).update(check_options(self.checks, s1=s1, s2=s2, cycles=cycles, prune=prune, lr_factor=lr_factor))
        self._layers = single_weights(model, layers)
        refuse_sub_phase(unwrap(model).modules(), "make DSD")
        refuse_unclear("DSD", optimizer, self._layers)
        self._given = optimizer  # has all parameters also where the innermost one has those of one rank
        self.epoch: int = 0
        self._finished = False
        self._zeros = KeptAtZero("DSD", optimizer)
        self._slowed = SlowedSteps("DSD", optimizer, self.lr_factor, self._slower)
        warn_of_unowned("DSD", {layer.name: layer.weight for layer in self._layers}, owned_by(optimizer))

    @classmethod
    def for_training(
        cls,
        model: nn.Module,
        optimizer: Any,
        epochs: int,
        useful_epochs: int,
        *,
        s1: int | None = None,
        s2: int | None = None,
        cycles: int | None = None,
        **options: Any,
    ) -> DSD:
        """With phases that follow from the budget where none are given. ``ValueError`` where they do not fit it."""
        lengths = fit_cycle(epochs, useful_epochs, s1, s2, cycles)
        return cls(model, optimizer, *lengths, **options)

    def timeline(self, epochs: int) -> tuple[Phase, ...]:
        """The phases of a training; a single one where nothing is ever masked."""
        return cycle_phases(epochs, self.s1, self.s2, self.cycles if self.prune else 0)

    @property
    def deployable(self) -> bool:
        """Whether no mask is on."""
        return self.phase == "full"

    @staticmethod
    def why_not(model: nn.Module, *, layers: Iterable[str] | None = None, **_: Any) -> dict[str, str]:
        """Layer -> why none of its weights is masked, for `filtersmith.why_not`."""
        return layers_left_out(model, layers, replace(SINGLE_WEIGHTS, trained=True))

    @property
    def phase(self) -> Literal["full", "sub"]:
        """Whether masks are on (``"sub"``)."""
        phases = sub_phases(self.epoch + 1, self.s1, self.s2, self.cycles)
        return "sub" if not self._finished and self.prune and phases and phases[-1][1] > self.epoch else "full"

    @property
    def pruned(self) -> dict[str, Tensor]:
        """Layer name -> bool, of the weight's shape: what is masked now. Empty in full phases."""
        named = {layer.module: layer.name for layer in self._layers}
        return {named[module]: mask for (module, _), mask in self._zeros.entries.items()}

    def leave_out_of(self, network: nn.Module) -> None:
        """Set to 0 in a copy of the network, an average for instance, what is masked now."""
        set_zero_in(network, self.pruned)

    def step(self) -> Literal["pruned", "restored"] | None:
        """Call at the end of each epoch.

        Returns:
            ``"pruned"`` when masks were made, ``"restored"`` when they were removed, else ``None``.

        Raises:
            ValueError: after `finish`.
        """
        if self._finished:
            raise ValueError("step() must not be called after finish(): make a new DSD to go on")
        self._zeros.steps.warn_if_unseen()
        self.epoch += 1
        event = cycle_event(self.epoch, self.s1, self.s2, self.cycles) if self.prune else None
        if event == "pruned":
            trained = moved_by(self._given, self._layers)
            masks = {layer.name: smallest(layer.weight, self.prune) for layer in trained}
            for mask in masks.values():  # in the last bits of the weights, process ranks may differ
                follow_first(mask)
            self._mask(masks)
            self._zeros.apply()
        elif event == "restored":
            self._zeros.release()
        return event

    def finish(self) -> None:
        """Remove masks and hooks, after training. Harmless when done already."""
        self._finished = True
        self._mask({})
        self._zeros.detach()
        self._slowed.detach()

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, and the masks."""
        return {
            **{option: getattr(self, option) for option in ("s1", "s2", "cycles", "prune", "lr_factor")},
            "layers": {layer.name: list(layer.weight.shape) for layer in self._layers},
            "epoch": self.epoch,
            "finished": self._finished,
            "pruned": {name: mask.to("cpu", copy=True) for name, mask in self.pruned.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was saved; weights and optimizer load their own. ``ValueError`` if another set-up."""
        own = self.state_dict()
        check_state("DSD", state, own, [key for key in own if key not in ("epoch", "finished", "pruned")])
        self.epoch = state["epoch"]
        self._zeros.steps.own_state_was_loaded()
        self._mask({name: mask.clone() for name, mask in state["pruned"].items()})
        if state["finished"] != self._finished:
            self._finished = state["finished"]
            for hooks in (self._zeros, self._slowed):
                hooks.detach() if self._finished else hooks.attach()

    def __repr__(self) -> str:
        options = f"s1={self.s1}, s2={self.s2}, cycles={self.cycles}, prune={self.prune}, lr_factor={self.lr_factor}"
        return f"DSD({options}, {plural(len(self._layers), 'layer')})"

    def _mask(self, masks: Mapping[str, Tensor]) -> None:
        """Mask these weights from now on, by the names of their layers, and no others."""
        self._zeros.entries = {
            (layer.module, "weight"): masks[layer.name] for layer in self._layers if layer.name in masks
        }

    def _slower(self) -> bool:
        """Whether the learning rate is scaled: in the full phases after a mask that masked something."""
        after = self.cycles > 0 and self.epoch >= self.s1 + self.s2 and self.phase == "full"
        return after and self.prune > 0 and self.lr_factor < 1
