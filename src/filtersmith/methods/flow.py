"""ASA and SAS: asynchronous and synchronous training in turns.

**Paper.** *Weight Asynchronous Update*, Computational Visual Media 6(4), 2020, Sec. 5, Algorithm 1, Sec. 6.3,
https://doi.org/10.1007/s41095-020-0185-5

**What it does.** Trains in three phases of equal length with WAU's rate r in some and plain updates in others:
ASA is r, 1, r and SAS is 1, r, 1 (paper: r = 0.5, 164 epochs a phase). Weights, batch-norm parameters and running
statistics go on from phase to phase; the optimizer's state and the learning-rate schedule start anew.

**When to use it.** With a budget for several complete trainings one after the other. ``step()`` once at the end of
every epoch, in place of the scheduler's::

    training = fs.compose("asa(rate=0.5)")  # "sas", "flow(rates=[0.5,1,0.5])"; the epochs are split evenly
    wau = fs.WAU(model, rate=0.5).attach(optimizer)  # alone
    flow = fs.ASA(wau, optimizer, scheduler=make_scheduler, epochs=164)  # fs.SAS likewise

Train the control ``flow(rates=[1,1,1])`` beside it, three plain phases: without it a gain by restarts cannot be told
from one by asynchrony. The paper has no such control.

**When not to use it.** With the budget of one training: each phase has a third of it. To fine-tune a trained network:
each phase goes back to the initial learning rate. In a comparison with one phase of plain training: three phases are
three times the budget.

**Options.** ``scheduler`` makes the schedule of one phase from the optimizer; ``step_scheduler=False`` leaves
``flow.step_schedule()`` to your loop, once per batch for instance. ``fs.Flow([(rate, epochs), ...], wau,
optimizer)`` runs any phases, such as ``[(1.0, 164)] * 3``.

**Where paper, authors' code and we differ.** Algorithm 1 has the reset inside the epoch loop; we reset once per
phase, as Sec. 6.3 says. The released log shows no real reset in phase 2. The log drops the rate at epochs 61 and
122 of a phase, the training notes at 81 and 122. Table 4 lists best test epochs.

**Compatibility.** As WAU. The schedule is made for the optimizer that you hold, and reaches those inside (accelerate,
Lightning, ZeroRedundancyOptimizer, SAM, Lookahead). A second schedule beside it is warned of. The network that is
deployed does not change. Gradient scalers keep their scale.

**Measured results.** ASA and plain training on CIFAR-10 (JPEG), 2 seeds: C^3(32), 6 epochs, 67.0% and 68.1%;
ResNet-20, 3 epochs, 66.6% and 70.4%. On digits with 200 images, 20 seeds, ASA differs by −0.08 [−0.43, +0.26] points
(95%), SAS by +0.01 [−0.15, +0.17], three plain phases by +0.06 [−0.10, +0.21]. All tables: ``results/README.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from filtersmith.common.options import Check, check_state
from filtersmith.common.phases import Phase, phase_at, split, starts
from filtersmith.common.rates import check_rates, checked_phases, phases_in
from filtersmith.common.words import plural
from filtersmith.filters import Need, Unit, layers_left_out
from filtersmith.methods.wau import WAU, Draw
from filtersmith.optim.beginning import Beginning
from filtersmith.optim.lr import MakeScheduler, Schedules
from filtersmith.optim.wrappers import given_optimizers

Event = Literal["phase", "finished"]


class Mask(Protocol):
    """What a flow needs of WAU: a rate that may be set, hooks on an optimizer, a state."""

    rate: float

    def attach(self, optimizer: Any) -> Any: ...
    def attached_to(self, optimizer: Any) -> bool: ...
    def detach(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def asa_rates(rate: float) -> tuple[float, float, float]:
    """Rates of the three phases of ASA (Sec. 5)."""
    return rate, 1.0, rate


def sas_rates(rate: float) -> tuple[float, float, float]:
    """Rates of the three phases of SAS (Sec. 5)."""
    return 1.0, rate, 1.0


class Flow:
    """Train in phases with WAU rates of their own, each with a fresh optimizer state and schedule.

    At the start of a phase the rate of ``wau`` is set, the optimizer forgets its state (momentum, moments, counters),
    learning rates go back to their initial values, and a new schedule is made. Weights and batch-norm buffers go on.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> make_scheduler = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        >>> flow = fs.Flow([(0.5, 2), (1.0, 2)], fs.WAU(model), optimizer, scheduler=make_scheduler)
        >>> for epoch in range(4):
        ...     optimizer.step()  # stands for an epoch of training
        ...     print(flow.step(), optimizer.param_groups[0]["lr"])
        None 0.05
        phase 0.1
        None 0.05
        finished 0.05

    Args:
        phases: ``(rate, epochs)`` of each phase: a rate in (0, 1], and at least 1 epoch.
        wau: the `WAU` whose rate is set; attached to ``optimizer`` if it is not yet.
        optimizer: one or a list of several, with initial learning rates; they hold again at the start of each phase.
        scheduler: makes one phase's schedule from an optimizer. Without it (default) the learning rates stay.
        step_scheduler: whether `step` steps the schedule (default). ``False``: your loop calls
            ``flow.step_schedule()``.

    Attributes: ``phases`` as given; ``epoch``, how many epochs are over, of all phases.

    Raises:
        ValueError: no phases, a rate or a number of epochs out of range, a ``scheduler`` that cannot be called.

    Source: *Weight Asynchronous Update*, Sec. 5, Algorithm 1, Sec. 6.3, https://doi.org/10.1007/s41095-020-0185-5
    """

    checks: ClassVar[dict[str, Check]] = {
        **{k: v for k, v in WAU.checks.items() if k != "rate"},
        "rates": check_rates,
    }

    def __init__(
        self,
        phases: Iterable[tuple[float, int]],
        wau: Mask,
        optimizer: Any,
        *,
        scheduler: MakeScheduler | None = None,
        step_scheduler: bool = True,
    ) -> None:
        self.phases: tuple[tuple[float, int], ...] = checked_phases(phases)
        self.epoch: int = 0
        self._wau = wau
        self._beginnings = [Beginning(one) for one in given_optimizers(optimizer)]
        self._schedules = Schedules(optimizer, scheduler)
        self._step_scheduler = step_scheduler
        self._initial = self._schedules.options()
        self._schedules.start()
        if not wau.attached_to(optimizer):
            wau.attach(optimizer)
        wau.rate = self.phases[0][0]

    @classmethod
    def for_training(
        cls,
        model: nn.Module,
        optimizer: Any,
        epochs: int,
        scheduler: MakeScheduler | None = None,
        *,
        rates: Sequence[float],
        seed: int = 0,
        unit: Unit = "filter",
        draw: Draw = "exact",
        layers: Iterable[str] | None = None,
    ) -> Flow:
        """Phases of these rates in a budget of epochs, with a `WAU`; stepping the schedule is left to the caller."""
        check_rates("rates", rates)
        wau = WAU(model, seed=seed, unit=unit, draw=draw, layers=layers)
        return Flow(phases_in(epochs, rates), wau, optimizer, scheduler=scheduler, step_scheduler=False)

    @staticmethod
    def schedule_epochs(epochs: int, rates: Sequence[float]) -> int:
        """The epochs of the longest phase; where they are unequal, the first ones end before the schedule does."""
        return max(split(epochs, len(rates)))

    @property
    def scheduler(self) -> LRScheduler | None:
        """The schedule of the current phase (of the first of several optimizers), or ``None``."""
        return self._schedules.made[0] if self._schedules.made else None

    @staticmethod
    def why_not(model: nn.Module, *, layers: Iterable[str] | None = None, **_: Any) -> dict[str, str]:
        """Layer -> why its filters are never held, for `filtersmith.why_not`."""
        return layers_left_out(model, layers, Need(trained=True))

    @property
    def phase(self) -> int:
        """Index of the current phase; the number of phases when all are over."""
        return phase_at(self.epoch, [epochs for _, epochs in self.phases])[0]

    def step(self) -> Event | None:
        """Call at the end of each epoch.

        Returns:
            ``"phase"`` if a new phase has begun (the optimizer has forgotten the old one), ``"finished"`` after the
            last epoch of the last phase, else ``None``.

        Raises:
            RuntimeError: all phases are over.
        """
        lengths = [epochs for _, epochs in self.phases]
        if self.epoch >= sum(lengths):
            raise RuntimeError(
                f"all {plural(len(lengths), 'phase')} are over after {plural(sum(lengths), 'epoch')}: "
                "make a new flow to go on"
            )
        for initial, now in zip(self._initial, self._schedules.options(), strict=True):
            initial += now[len(initial) :]  # groups added meanwhile
        self.epoch += 1
        phase, within = phase_at(self.epoch, lengths)
        if phase == len(self.phases):
            return "finished"
        if within == 0:
            self._begin(phase)
            return "phase"
        if self._step_scheduler:
            self.step_schedule()
        return None

    def step_schedule(self) -> None:
        """One step of the current schedule, for whoever made the flow with ``step_scheduler=False``."""
        self._schedules.step()

    def timeline(self, epochs: int) -> list[Phase]:
        """The phases by name, with their first and last epochs."""
        lengths = [length for _, length in self.phases]
        named = zip(self.phases, starts(lengths), strict=True)
        return [Phase(f"rate {rate:g}", start, start + length) for (rate, length), start in named]

    def detach(self) -> None:
        """Take the mask off; the phase's schedule and optimizer state stay."""
        self._wau.detach()

    def state_dict(self) -> dict[str, Any]:
        """Where the flow stands, with the state of its schedule and of its WAU; not the optimizer's own state."""
        return {
            "phases": [list(phase) for phase in self.phases],
            "epoch": self.epoch,
            "schedule": self._schedules.state_dict(),
            "initial": [[dict(options) for options in groups] for groups in self._initial],
            "wau": self._wau.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was saved. ``ValueError`` if it was another flow."""
        check_state("a flow", state, self.state_dict(), ("phases",))
        self._schedules.check(state["schedule"])
        self._wau.load_state_dict(state["wau"])
        self.epoch = state["epoch"]
        self._initial = [[dict(options) for options in groups] for groups in state["initial"]]
        self._schedules.load_state_dict(state["schedule"])

    def _begin(self, phase: int) -> None:
        """A new phase: another rate, an optimizer that has forgotten all, initial learning rates, a new schedule."""
        self._wau.rate = self.phases[phase][0]
        self._schedules.start_anew(self._initial, self._forget)

    def _forget(self) -> None:
        """Make the optimizers what they were before the first phase, but for their options."""
        for beginning in self._beginnings:
            beginning.reset()


class ASA(Flow):
    """Train asynchronously, synchronously, asynchronously: a `Flow` of rates r, 1, r with ``r = wau.rate``.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> fs.ASA(fs.WAU(model, rate=0.5), optimizer, epochs=164).phases  # then its step() after each of 492 epochs
        ((0.5, 164), (1.0, 164), (0.5, 164))

    Args:
        wau, optimizer, scheduler, step_scheduler: as of `Flow`; r is the rate that ``wau`` has.
        epochs: of each of the three phases, at least 1; 164 is the paper's.

    Raises as `Flow`. Source: its paper, Algorithm 1, https://doi.org/10.1007/s41095-020-0185-5
    """

    checks: ClassVar[dict[str, Check]] = WAU.checks

    @staticmethod
    def rates_of(rate: float) -> tuple[float, float, float]:
        """`asa_rates`: those of the three phases."""
        return asa_rates(rate)

    def __init__(
        self,
        wau: Mask,
        optimizer: Any,
        *,
        scheduler: MakeScheduler | None = None,
        epochs: int = 164,
        step_scheduler: bool = True,
    ) -> None:
        phases = [(rate, epochs) for rate in self.rates_of(wau.rate)]
        super().__init__(phases, wau, optimizer, scheduler=scheduler, step_scheduler=step_scheduler)

    @classmethod
    def for_training(  # type: ignore[override]  # what a flow of any rates is asked for, here follows from one
        cls,
        model: nn.Module,
        optimizer: Any,
        epochs: int,
        scheduler: MakeScheduler | None = None,
        *,
        rate: float = 0.5,
        seed: int = 0,
        unit: Unit = "filter",
        draw: Draw = "exact",
        layers: Iterable[str] | None = None,
    ) -> Flow:
        """As `Flow.for_training`, with the three phases of this flow."""
        rates = cls.rates_of(rate)
        drawn: dict[str, Any] = {"seed": seed, "unit": unit, "draw": draw, "layers": layers}
        return super().for_training(model, optimizer, epochs, scheduler, rates=rates, **drawn)

    @staticmethod
    def schedule_epochs(epochs: int) -> int:  # type: ignore[override]
        """The epochs of the longest of three phases."""
        return max(split(epochs, 3))


class SAS(ASA):
    """Train synchronously, asynchronously, synchronously: a `Flow` of rates 1, r, 1 with ``r = wau.rate``.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> fs.SAS(fs.WAU(model, rate=0.3), optimizer, epochs=10).phases
        ((1.0, 10), (0.3, 10), (1.0, 10))

    Args and Raises as `ASA`. Source: its paper, Sec. 6.3, https://doi.org/10.1007/s41095-020-0185-5
    """

    @staticmethod
    def rates_of(rate: float) -> tuple[float, float, float]:
        """`sas_rates`: those of the three phases."""
        return sas_rates(rate)
