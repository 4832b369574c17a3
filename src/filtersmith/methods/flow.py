r"""ASA and SAS: asynchronous and synchronous training in turns.

**Paper.** *Weight Asynchronous Update*, Computational Visual Media 6(4), 2020, Sec. 5, Algorithm 1, Sec. 6.3.

**What it does.** Trains in three phases of equal length with WAU's rate r in some and plain updates in others:
ASA is r, 1, r and SAS is 1, r, 1 (paper: r = 0.5, 164 epochs a phase). Weights, batch-norm parameters and running
statistics go on from phase to phase; the optimizer's state and the learning-rate schedule start anew.

**When to call it.** ``step()`` once at the end of every epoch, in place of the scheduler's::

    wau = fs.WAU(model, rate=0.5).attach(optimizer)
    flow = fs.ASA(wau, optimizer, scheduler=make_scheduler, epochs=164)  # fs.SAS likewise

**Options.** ``scheduler`` makes the schedule of one phase from the optimizer; ``step_scheduler=False`` leaves
stepping it (``flow.scheduler``) to your loop, once per batch for instance. ``fs.Flow([(rate, epochs), ...], wau,
optimizer)`` runs any phases, the controls among them: three plain ones, ``[(1.0, 164)] * 3``, without which a gain
by restarts cannot be told from one by asynchrony (the paper has no such control).

**Where paper, authors' code and we differ.** Algorithm 1 has the reset inside the epoch loop; we reset once per
phase, as Sec. 6.3 says. The released log shows no real reset in phase 2. The log drops the rate at epochs 61 and
122 of a phase, the training notes at 81 and 122. Table 4 lists best test epochs.

**Compatibility.** As WAU. The network that is deployed does not change. Gradient scalers keep their scale.
In the laboratory the epochs of a run are split evenly over the phases, so that every method has one budget.

**Measured results.** See the tables in the README, generated from ``results/``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from filtersmith.common.options import bad_option, share
from filtersmith.common.phases import phase_at
from filtersmith.filters import layers_left_out
from filtersmith.optim.state import reset
from filtersmith.optim.wrappers import innermost

MakeScheduler = Callable[[Optimizer], LRScheduler]
Event = Literal["phase", "finished"]


class Mask(Protocol):
    """What a flow needs of WAU: a rate that may be set, hooks on an optimizer, a state."""

    rate: float

    def attach(self, optimizer: Any) -> Any: ...
    def attached_to(self, optimizer: Any) -> bool: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def asa_rates(rate: float) -> tuple[float, float, float]:
    """Rates of the three phases of ASA (Sec. 5)."""
    return rate, 1.0, rate


def sas_rates(rate: float) -> tuple[float, float, float]:
    """Rates of the three phases of SAS (Sec. 5)."""
    return 1.0, rate, 1.0


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter group's own options (learning rate, momentum, decay), tensors copied, without its parameters."""
    own = {k: v for k, v in group.items() if k not in ("params", "param_names")}
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in own.items()}


def _set_options(group: dict[str, Any], options: Mapping[str, Any]) -> None:
    for key, value in options.items():
        if isinstance(group.get(key), Tensor):
            group[key].copy_(torch.as_tensor(value))  # compiled and captured optimizers hold on to the tensor itself
        else:
            group[key] = value.clone() if isinstance(value, Tensor) else value


class Flow:
    """Phases of training with WAU rates of their own, each with a fresh optimizer state and schedule.

    Args:
        phases: ``(rate, epochs)`` of each phase.
        wau: the `WAU` whose rate is set; attached to ``optimizer`` if it is not yet.
        optimizer: with its initial learning rates; they hold again at the start of each phase.
        scheduler: makes one phase's learning-rate schedule from the optimizer; called at the start of each phase.
            Without it the rates stay as they are.
        step_scheduler: whether `step` steps the schedule. ``False``: your loop calls ``flow.scheduler.step()``.

    Attributes:
        scheduler: the schedule of the current phase, or ``None``.
        phase: index of the current phase; the number of phases when all are over.
        epoch: epochs that are over, of all phases.

    Raises:
        ValueError: no phases, a rate outside (0, 1], epochs that are not a whole number of at least 1, a
            ``scheduler`` that cannot be called.
    """

    def __init__(
        self,
        phases: Iterable[tuple[float, int]],
        wau: Mask,
        optimizer: Any,
        *,
        scheduler: MakeScheduler | None = None,
        step_scheduler: bool = True,
    ) -> None:
        self.phases = _checked(phases)
        if scheduler is not None and not callable(scheduler):
            raise bad_option("scheduler", type(scheduler).__name__, "a function that makes one from the optimizer")
        self.epoch = 0
        self.scheduler: LRScheduler | None = None
        self._wau = wau
        self._optimizer = innermost(optimizer)
        self._make_scheduler = scheduler
        self._step_scheduler = step_scheduler
        self._initial = [_options(group) for group in self._optimizer.param_groups]
        self._new_schedule()
        if not wau.attached_to(optimizer):
            wau.attach(optimizer)
        wau.rate = self.phases[0][0]

    @staticmethod
    def why_not(model: nn.Module, *, layers: Iterable[str] | None = None, **_: Any) -> dict[str, str]:
        """Layer -> why its filters are never held, for `filtersmith.why_not`."""
        return layers_left_out(model, layers)

    @property
    def phase(self) -> int:
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
                f"all {len(lengths)} phases are over after {sum(lengths)} epochs: make a new flow to go on"
            )
        groups = self._optimizer.param_groups
        self._initial += [_options(group) for group in groups[len(self._initial) :]]  # those added meanwhile
        self.epoch += 1
        phase, within = phase_at(self.epoch, lengths)
        if phase == len(self.phases):
            return "finished"
        if within == 0:
            self._wau.rate = self.phases[phase][0]
            reset(self._optimizer)
            for group, options in zip(groups, self._initial, strict=True):
                _set_options(group, options)
            self._new_schedule()
            return "phase"
        if self.scheduler is not None and self._step_scheduler:
            self.scheduler.step()
        return None

    def state_dict(self) -> dict[str, Any]:
        """Where the flow stands, with the state of its schedule and of its WAU; not the optimizer's own state."""
        return {
            "phases": [list(phase) for phase in self.phases],
            "epoch": self.epoch,
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "initial": [dict(options) for options in self._initial],
            "groups": [_options(group) for group in self._optimizer.param_groups],
            "wau": self._wau.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was saved. ``ValueError`` if it was another flow."""
        own = self.state_dict()
        if missing := own.keys() - state.keys():
            raise ValueError(f"not a state of a flow: {', '.join(sorted(missing))} missing")
        for what, saved, here in (
            ("phases", [list(phase) for phase in state["phases"]], own["phases"]),
            ("a schedule", state["scheduler"] is not None, self.scheduler is not None),
            ("parameter groups", len(state["groups"]), len(own["groups"])),
        ):
            if saved != here:
                raise ValueError(f"the flow was saved with {what}: {saved}, this one has {what}: {here}")
        self._wau.load_state_dict(state["wau"])
        self.epoch = state["epoch"]
        self._initial = [dict(options) for options in state["initial"]]
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        for group, options in zip(self._optimizer.param_groups, state["groups"], strict=True):
            _set_options(group, options)

    def _new_schedule(self) -> None:
        for group in self._optimizer.param_groups:
            group.pop("initial_lr", None)  # else the schedule would start from the last one's
        self.scheduler = self._make_scheduler(self._optimizer) if self._make_scheduler is not None else None


class ASA(Flow):
    """Asynchronous, synchronous, asynchronous: rates r, 1, r with ``r = wau.rate`` (Algorithm 1).

    Args as `Flow`; ``epochs``: of each of the three phases (paper: 164, so 492 in all).
    """

    def __init__(
        self,
        wau: Mask,
        optimizer: Any,
        *,
        scheduler: MakeScheduler | None = None,
        epochs: int = 164,
        step_scheduler: bool = True,
    ) -> None:
        phases = [(rate, epochs) for rate in asa_rates(wau.rate)]
        super().__init__(phases, wau, optimizer, scheduler=scheduler, step_scheduler=step_scheduler)


class SAS(Flow):
    """Synchronous, asynchronous, synchronous: rates 1, r, 1 with ``r = wau.rate``. Args as `ASA`."""

    def __init__(
        self,
        wau: Mask,
        optimizer: Any,
        *,
        scheduler: MakeScheduler | None = None,
        epochs: int = 164,
        step_scheduler: bool = True,
    ) -> None:
        phases = [(rate, epochs) for rate in sas_rates(wau.rate)]
        super().__init__(phases, wau, optimizer, scheduler=scheduler, step_scheduler=step_scheduler)


def _checked(phases: Iterable[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    try:
        checked: Sequence[tuple[float, int]] = tuple((rate, epochs) for rate, epochs in phases)
    except (TypeError, ValueError):
        raise bad_option("phases", phases, "a sequence of (rate, epochs)") from None
    if not checked:
        raise bad_option("phases", [], "at least one (rate, epochs)")
    for rate, epochs in checked:
        share("rate", rate)
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise bad_option("epochs", epochs, "a whole number of at least 1")
    return tuple(checked)
