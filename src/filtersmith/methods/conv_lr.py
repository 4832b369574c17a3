"""conv-lr: plain training with the convolutions' learning rate times r, the control that WAU needs.

**Source.** No paper. WAU at rate r (https://doi.org/10.1007/s41095-020-0185-5) moves a convolution on average r times
as far as its optimizer would, while batch norms and classifiers move at full rate. A gain of WAU that this control
shows, too, is a gain by a smaller learning rate and not by asynchrony.

**What it does.** Puts the weights of all convolutions into parameter groups of their own with ``rate`` times the
learning rate, and changes nothing else.

**When to use it.** Beside WAU, with WAU's rate. After the optimizer is made and before its learning-rate schedule::

    training = fs.compose("conv-lr(rate=0.5)")  # in any loop
    control = fs.ConvLR(model, rate=0.5).attach(optimizer)  # alone

**When not to use it.** To gain accuracy: it is a control. With a schedule that sets learning rates anew instead of
multiplying them (OneCycleLR, CyclicLR), which would undo it.

**Options.** ``rate`` 0.5, in (0, 1]; 1.0 switches it off exactly. ``layers``: by name, by default all convolutions.

**Compatibility.** Any optimizer with learning rates in its parameter groups, and any schedule that multiplies them;
wrappers that share their groups with what they wrap (accelerate, Lightning, Lookahead, SAM). Refused: LBFGS, which
has one learning rate for all, and wrappers with groups of their own (ZeroRedundancyOptimizer). The network that is
deployed does not change.

**Measured results.** At rate 0.5 and of plain training, on CIFAR-10 (JPEG), 2 seeds: C^3(32), 6 epochs, 67.1% and
68.1%; ResNet-20, 3 epochs, 67.8% and 70.4%. WAU ended as low there (67.0% and 68.0%). On digits with 200 images, 20
seeds, the difference is −0.26 [−0.55, +0.02] points (95% interval). All tables: ``results/README.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar

from torch import nn
from torch.optim import LBFGS, Optimizer

from filtersmith.common.options import Check, check_state, fraction, names_or_none
from filtersmith.filters import Need, filter_layers, layers_left_out
from filtersmith.optim.beside import schedules_of_others
from filtersmith.optim.groups import levels_with_groups, scheduled
from filtersmith.optim.ownership import warn_of_unowned
from filtersmith.optim.wrappers import innermost_of

_TAKE_NEW_GROUPS = ("StepLR", "MultiStepLR", "ExponentialLR", "ConstantLR", "LinearLR", "PolynomialLR")
"""Schedules that multiply whatever rates the groups have; others keep a number for each group."""


@dataclass
class _Moved:
    """A group that was split. Groups go by their lists of parameters: an optimizer that loads a state keeps those
    and makes the dictionaries anew."""

    optimizer: Optimizer
    rest: list[Any]
    slow: list[Any]
    before: dict[str, list[Any]]


class ConvLR:
    """Train convolutions with ``rate`` times the learning rate of everything else, the control for WAU.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 10))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> control = fs.ConvLR(model, rate=0.5).attach(optimizer)  # before the learning-rate schedule is made
        >>> [(group["lr"], len(group["params"])) for group in optimizer.param_groups]
        [(0.1, 3), (0.05, 1)]

    Args:
        model: the network; wrapped in DDP or compiled as well.
        rate: factor on the learning rate, in (0, 1]; 0.5 by default, 1 is plain training.
        layers: names of the layers, linear ones allowed; by default all convolutions.

    Raises:
        ValueError: a rate out of range, an unknown layer, a network without convolutions; from `attach` an LBFGS,
            which has one learning rate for all, a wrapper that does not share its groups, an optimizer that has a
            schedule, or is attached to, already.

    Source: a control for *Weight Asynchronous Update*, https://doi.org/10.1007/s41095-020-0185-5
    """

    checks: ClassVar[dict[str, Check]] = {"rate": fraction, "layers": names_or_none}

    def __init__(self, model: nn.Module, rate: float = 0.5, *, layers: Iterable[str] | None = None) -> None:
        self.rate: float = fraction("rate", rate)
        self._layers = filter_layers(model, layers)
        self._moved: list[_Moved] = []

    @staticmethod
    def why_not(model: nn.Module, *, layers: Iterable[str] | None = None, **_: Any) -> dict[str, str]:
        """Layer -> why its learning rate stays, for `filtersmith.why_not`."""
        return layers_left_out(model, layers, Need(trained=True))

    def attach(self, optimizer: Any) -> ConvLR:
        """Move the convolutions of ``optimizer`` into groups of their own, before a schedule is made for it."""
        weights = {layer.name: layer.weight for layer in self._layers}
        ids = {id(weight) for weight in weights.values()}
        optimizers = scheduled(optimizer)
        if others := [kind for kind in schedules_of_others(optimizers) if kind not in _TAKE_NEW_GROUPS]:
            raise ValueError(
                f"optimizer must have no schedule yet, got one with {others[0]}, which knows its parameter groups as "
                "they are: attach conv-lr first and make the schedule then"
            )
        for one in innermost_of(optimizer):
            if any(one in innermost_of(moved.optimizer) for moved in self._moved):
                raise ValueError(f"already attached to this {type(one).__name__}: call detach() first")
        for one in optimizers:
            _refuse_what_has_no_groups(one, ids)
        before = list(self._moved)
        try:
            for one in optimizers:
                self._split_groups(one, ids)
        except BaseException:
            self._put_back(self._moved[len(before) :])
            self._moved = before
            raise
        warn_of_unowned("ConvLR", weights, {id(p) for moved in self._moved for p in moved.slow})
        return self

    def _split_groups(self, optimizer: Optimizer, weights: set[int]) -> None:
        """Move the convolutions of one optimizer, at all of its levels."""
        lists = list({id(level.param_groups): level for level in levels_with_groups(optimizer)}.values())
        for level in reversed(lists):  # from the inside out; an outer list has what was split there already
            for group in list(level.param_groups):
                slow = [id(p) in weights for p in group["params"]]
                if not any(slow) or any(group["params"] is moved.slow for moved in self._moved):
                    continue
                before: dict[str, list[Any]] = {key: group[key] for key in ("params", "param_names") if key in group}
                slower = {k: v * self.rate if k in ("lr", "initial_lr") else v for k, v in group.items()}
                for key, values in before.items():
                    slower[key] = list(compress(values, slow))
                    group[key] = list(compress(values, (not s for s in slow)))
                self._moved.append(_Moved(optimizer, group["params"], slower["params"], before))
                level.add_param_group(slower)
                self._moved[-1].slow = slower["params"]  # torch makes a list of its own
                for other in lists:
                    held = {id(one) for one in other.param_groups}
                    if id(group) in held and id(slower) not in held:
                        other.param_groups.append(slower)

    def detach(self) -> None:
        """Give every group its parameters back."""
        self._put_back(self._moved)
        self._moved.clear()

    @staticmethod
    def _put_back(every: Iterable[_Moved]) -> None:
        for moved in every:
            for level in levels_with_groups(moved.optimizer):
                groups = level.param_groups
                groups[:] = [group for group in groups if group["params"] is not moved.slow]
                for group in groups:
                    if group["params"] is moved.rest:
                        group.update(moved.before)

    def state_dict(self) -> dict[str, Any]:
        """Nothing changes over training: the rate, for comparison."""
        return {"rate": self.rate}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """``ValueError`` if the state was saved with another rate."""
        check_state("ConvLR", state, self.state_dict(), ("rate",))


def _refuse_what_has_no_groups(optimizer: Optimizer, weights: set[int]) -> None:
    """``ValueError`` where there are no groups with learning rates that could be split for all levels."""
    for level in levels_with_groups(optimizer):
        if isinstance(level, LBFGS):
            raise ValueError("LBFGS has one learning rate for all parameters: conv-lr needs parameter groups")
        ours = [group for group in level.param_groups if any(id(p) in weights for p in group["params"])]
        if any("lr" not in group for group in ours):
            raise ValueError(
                f"{type(level).__name__} has no learning rate in its parameter groups: conv-lr needs one"
            )
        shared = {id(group) for group in level.param_groups}
        for inner in levels_with_groups(level)[1:] if ours else ():
            if any(id(group) not in shared for group in inner.param_groups):
                raise ValueError(
                    f"{type(level).__name__} does not share its parameter groups with the {type(inner).__name__} "
                    "inside: instead of conv-lr, make it with the convolutions in a group of their own, at rate * lr"
                )
