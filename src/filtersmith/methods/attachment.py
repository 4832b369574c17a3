"""Methods at work on one network and its optimizers: made, told of batches and epochs, saved, taken away."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor

from filtersmith.common.modules import unwrap
from filtersmith.common.options import bad_option, seed_number, whole_number
from filtersmith.common.phases import Phase
from filtersmith.common.said import warn_user
from filtersmith.common.words import plural
from filtersmith.methods.advice import OWN, UNKNOWN, levelled, short_of_rate
from filtersmith.methods.lifecycle import asks_for, call, maker
from filtersmith.methods.parts import Part, attach_order, refuse_together
from filtersmith.optim.groups import saved_groups, scheduled
from filtersmith.optim.lr import MakeScheduler, Schedules, rates_ahead, useful_epochs
from filtersmith.optim.no_steps import has_stepped
from filtersmith.optim.steps import warn_of_unseen
from filtersmith.optim.wrappers import groups_of, innermost_of, owned_by
from filtersmith.reparam import Branches, Expansion, collapse


@dataclass(frozen=True)
class Training:
    """What methods are put to work on."""

    model: nn.Module
    optimizer: Any
    epochs: int
    seed: int
    scheduler: MakeScheduler | None
    by_batch: bool
    held_out: Iterable[Any] | None

    @classmethod
    def checked(
        cls, model: Any, optimizer: Any, epochs: Any, seed: Any, scheduler: Any, schedule_by: Any, held_out: Any
    ) -> Training:
        """``ValueError`` for what can be no training."""
        if not isinstance(model, nn.Module):
            raise bad_option("model", type(model).__name__, "a torch.nn.Module")
        if scheduler is not None and not callable(scheduler):
            raise bad_option("scheduler", type(scheduler).__name__, "a function that makes one from the optimizer")
        if schedule_by not in ("epoch", "batch"):
            raise bad_option("schedule_by", schedule_by, "'epoch' or 'batch'")
        if held_out is not None and (isinstance(held_out, Iterator) or not isinstance(held_out, Iterable)):
            raise bad_option(
                "held_out", type(held_out).__name__, "batches that are there more than once (a list, a DataLoader)"
            )
        whole_number("epochs", epochs, 1)
        seed_number("seed", seed)
        innermost_of(optimizer)  # which refuses what is none
        return cls(model, optimizer, epochs, seed, scheduler, schedule_by == "batch", held_out)


class Attachment:
    """Methods that were made for a training and are at work in it.

    Attributes:
        parts: those of the composition.
        phases: of the training.
        warnings: what will run, but hardly as it was meant.
    """

    def __init__(self, parts: Sequence[Part], training: Training) -> None:
        self.parts: tuple[Part, ...] = tuple(parts)
        self._training = training
        self._finished = False
        self._epoch = 0
        self._put_back = saved_groups(training.optimizer)
        self._scheduled = any("initial_lr" in group for group in groups_of(training.optimizer))
        self._rates = self._rates_ahead()
        self._attached: list[Part] = []
        self._made: list[Part] = []
        self._schedules = Schedules(training.optimizer, training.scheduler)
        self._refuse_untrained()  # what was made before
        try:
            split: list[float] | None = None
            for part in attach_order(self.parts):
                if part.restarts and split is None:
                    split = self._learning_rates()  # before a schedule changes them
                self._attach(part)
            refuse_together(self.parts)  # what only the objects show
            self._refuse_untrained()
            split = self._learning_rates() if split is None else split
            if not any(part.restarts for part in self.parts):
                self._schedules.start()
            self.phases: tuple[Phase, ...] = self._phases()
            self.warnings: list[str] = self._advice(split)
        except BaseException:
            self.undo()
            raise

    @property
    def begun(self) -> bool:
        """Whether the optimizer has a state of steps, also of those before."""
        return any(
            has_stepped(state) for one in innermost_of(self._training.optimizer) for state in one.state.values()
        )

    @property
    def source(self) -> nn.Module:
        """What the deployed network is made of: the trained network or its average."""
        averages = [part.made.network for part in self.parts if part.has("network")]
        return averages[0] if averages else unwrap(self._training.model)

    def deployed(self) -> nn.Module:
        """A copy of `source`, collapsed, without what is left out now; of sharded weights the network itself."""
        source = self.source
        sharded = any(isinstance(parameter, DTensor) for parameter in source.parameters())
        if sharded and not any(isinstance(module, (Branches, Expansion)) for module in source.modules()):
            return source
        network = collapse(source)
        for part in self.parts:
            if part.has("leave_out_of"):
                part.made.leave_out_of(network)
        return network

    def end_batch(self) -> None:
        for part in self.parts:
            if part.has("end_batch"):
                part.made.end_batch()
        if self._training.by_batch:
            self._step_schedules()

    def end_epoch(self) -> str | None:
        """After each epoch: the methods' own steps, then the schedule's, unless it was started anew just now."""
        if self._finished:
            raise ValueError("end_epoch() must not come after finish(): compose anew to train on")
        if self._epoch == self._training.epochs:
            warn_user(
                f"end_epoch() comes more often than the {plural(self._epoch, 'epoch')} of attach(): "
                "they were the budget"
            )
        warn_of_unseen(self._training.optimizer)
        before = self._own_schedules()
        events = [part.made.step() for part in self.parts if part.has("step")]
        started = any(now is not then for now, then in zip(self._own_schedules(), before, strict=True))
        if not self._training.by_batch and not started:
            self._step_schedules()
        self._epoch += 1
        return next((event for event in events if event in ("pruned", "restored", "phase")), None)

    def finish(self) -> None:
        if not self._finished:
            for part in self._attached:
                _end(part)
        self._finished = True

    def undo(self) -> None:
        """Take everything away again, when attaching has failed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for part in reversed(self._attached):
                _end(part)
        for part in self._made:
            part.made = None
        self._put_back()

    def state_dict(self) -> dict[str, Any]:
        states = [part.made.state_dict() if part.has("state_dict") else None for part in self.parts]
        return {"epoch": self._epoch, "parts": states, "schedule": self._schedules.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._finished:
            raise ValueError("load_state_dict() must not come after finish(): compose anew, and attach")
        self._schedules.check(state["schedule"])
        schedule = copy.deepcopy(self._schedules.state_dict())
        before = [
            copy.deepcopy(part.made.state_dict()) if part.has("load_state_dict") else None for part in self.parts
        ]
        done: list[tuple[Part, Any]] = []
        try:
            for part, saved, old in zip(self.parts, state["parts"], before, strict=True):
                if part.has("load_state_dict") and saved is not None:
                    done.append((part, old))
                    part.made.load_state_dict(saved)
            self._schedules.load_state_dict(state["schedule"])
        except BaseException:
            for part, old in done:
                part.made.load_state_dict(old)
            self._schedules.load_state_dict(schedule)
            raise
        self._epoch = state["epoch"]

    # --- help -----------------------------------------------------------------------------------------------

    def _attach(self, part: Part) -> None:
        training = self._training
        given = {
            "model": training.model,
            "optimizer": training.optimizer,
            "epochs": training.epochs,
            "seed": training.seed,
            "scheduler": training.scheduler,
            "held_out": training.held_out,
            "useful_epochs": useful_epochs(training.epochs, self._rates),
        }
        if part.made is None and not part.prepares:
            part.make(given)
            self._made.append(part)
        self._attached.append(part)
        if part.has("attach"):
            call(part.made.attach, given)

    def _rates_ahead(self) -> list[float] | None:
        """The rates to come, if a method asks how long they are useful and somebody can know."""
        training = self._training
        if training.scheduler is None or not any(map(_looks_ahead, self.parts)):
            return None
        return rates_ahead(scheduled(training.optimizer)[0], training.scheduler, training.epochs, training.by_batch)

    def _refuse_untrained(self) -> None:
        """``ValueError`` where a method trains a parameter that no optimizer has."""
        owned = owned_by(self._training.optimizer)
        for part in self.parts:
            if any(parameter.requires_grad and id(parameter) not in owned for parameter in part.parameters()):
                raise ValueError(
                    f"optimizer must have every parameter that {part.spelled.name} trains, it lacks some: make it "
                    "with training.param_groups(model, weight_decay)"
                )

    def _learning_rates(self) -> list[float]:
        groups = [group for one in scheduled(self._training.optimizer) for group in one.param_groups]
        return [float(group["lr"]) for group in groups if "lr" in group]

    def _advice(self, before: Sequence[float]) -> list[str]:
        """Warnings, given the groups' learning rates before a schedule was started."""
        training = self._training
        blind = training.scheduler is not None and self._rates is None and len(self.phases) > 1
        restarts = any(part.restarts for part in self.parts)
        return [
            *short_of_rate(self.phases, self._rates),
            *levelled(before, self._learning_rates()),
            *([UNKNOWN] if blind and any(map(_looks_ahead, self.parts)) else []),
            *([OWN] if self._scheduled and restarts and training.scheduler is None else []),
        ]

    def _own_schedules(self) -> list[Any]:
        """The schedules of methods that start them by themselves."""
        return [part.made.scheduler for part in self.parts if part.restarts]

    def _step_schedules(self) -> None:
        for part in self.parts:
            if part.restarts:
                part.made.step_schedule()
        self._schedules.step()

    def _phases(self) -> tuple[Phase, ...]:
        epochs = self._training.epochs
        for part in self.parts:
            if part.has("timeline"):
                return tuple(part.made.timeline(epochs))
        return (Phase("full", 0, epochs),)


def _looks_ahead(part: Part) -> bool:
    """Whether what a method does depends on the learning rates to come."""
    asked = (*asks_for(maker(part.cls)), *(asks_for(part.cls.attach) if hasattr(part.cls, "attach") else ()))
    return "useful_epochs" in asked or (part.has("timeline") and not part.restarts)


def _end(part: Part) -> None:
    for name in ("finish", "detach"):
        if part.has(name):
            getattr(part.made, name)()
            return
