"""What a fresh optimizer would hold of some filters, learned from a scratch copy of the optimizer.

For each tensor that an optimizer keeps of a parameter, two things are learned. Where one filter stands in it: two
copies see the same gradients except those of one filter, and the entries that differ are the filter's. What it starts
as: the value that was put into the state, a constant as a rule, or the weight itself. Then the claim is tried: a
filter that was started anew must not move where its gradients are 0, as a fresh optimizer would not move it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from filtersmith.filters import FilterLayer
from filtersmith.optim.apart import apart, seed
from filtersmith.optim.chains import Chain, Path, entries, groups_with, name_of, stores
from filtersmith.optim.places import Place, kind_of, place_in, same, write
from filtersmith.optim.scratch import Scratch, Way
from filtersmith.optim.trial import Kept, Trial, fresh_values, starts
from filtersmith.optim.twins import remake

_log = logging.getLogger("filtersmith")
Anew = Literal["entries", "parameter", "optimizer"]
"""What is started anew with a filter: its own entries, all that is kept of the parameter, all of the optimizer's."""
PLAIN = (int, float, str, tuple, type(None))
"""What options are, as a rule."""
ELSEWHERE = ("param_groups", "state", "defaults", "grad_scale", "found_inf", "_step_count", "_opt_called")
"""Attributes that say nothing of how an optimizer works, or are a schedule's or a gradient scaler's."""
UNLIKE = ("params", "param_names", "lr", "initial_lr")
"""Options in which optimizers that work alike differ."""


@dataclass
class Learned:
    """What is known of all that is kept of a parameter.

    Attributes:
        way: how a scratch copy is stepped.
        anew: what is started anew with a filter.
        places: where filters stand, of those tensors that have something of single filters.
        starts: what the tensors start as: a constant, ``"weight"``, or ``"other"``.
        options: of the parameter's groups, at that time.
        tried: whether the claim was; of a single filter there is none.
    """

    way: Way
    anew: Anew = "entries"
    places: dict[Path, Place] = field(default_factory=dict)
    starts: dict[Path, float | str] = field(default_factory=dict)
    options: list[dict[str, Any]] = field(default_factory=list)
    tried: bool = False

    def claims(self) -> tuple[Any, ...]:
        return self.way, self.anew, self.places, self.starts

    def knows(self, paths: set[Path]) -> bool:
        return self.anew != "entries" or paths <= self.starts.keys()


class UnclearError(ValueError):
    """There is no way to tell what an optimizer keeps of single filters."""


def learn(
    chain: Chain, parameter: Tensor, layer: FilterLayer | None, keys: set[Path], tried: Iterable[Learned] = ()
) -> Learned:
    """Learn what a chain keeps of a parameter.

    Args:
        keys: of tensors that it keeps now.
        tried: what was learned of its parameters of other shapes; the same is not tried again.

    Raises:
        UnclearError: no scratch copy can be stepped, or a filter moves although all was started anew.
    """
    with apart(chain):
        trial = Trial(chain, parameter, layer)
        if not trial.find_way(keys):
            raise UnclearError(f"no scratch copy of {name_of(chain)} can be stepped")
        learned = Learned(trial.way, options=_options(chain, parameter))
        learned.starts = starts(trial, keys)
        if trial.count > 1:
            _find_places(trial, learned)
            if not any(one.tried and one.anew == "entries" and one.claims() == learned.claims() for one in tried):
                _try(trial, learned)
            learned.tried = True
        else:  # all of it is the one filter's
            scratch = trial.stepped()
            kept = dict(entries(scratch.chain, scratch.parameter)) if parameter.ndim else {}
            like = [path for path, value in kept.items() if value.shape == parameter.shape]
            learned.places = dict.fromkeys(like, Place(as_parameter=True))
        return learned


def _find_places(trial: Trial, learned: Learned) -> None:
    other = torch.randn_like(trial.weights)
    runs = [trial.stepped(), trial.stepped(other=other), trial.stepped("none"), trial.stepped("filter")]
    found = [dict(entries(run.chain, run.parameter)) for run in runs]
    for path in learned.starts:
        tensors = [each[path] for each in found if path in each]
        place: Place | None
        if not tensors:  # it comes later than any of those steps
            place = None
        elif len(tensors) == len(found) and len({tensor.shape for tensor in tensors}) == 1:
            among, alone = (~same(a, b) for a, b in (tensors[:2], tensors[2:]))
            how = tensors[0].shape, tensors[0].is_contiguous()
            place = place_in(*how, trial.own, trial.unit, trial.count, alone, among)
        else:  # it is kept only after other gradients than those
            alike = {tensor.shape for tensor in tensors} == {trial.weights.shape}
            place = Place(as_parameter=True) if alike else Place()
        if place is None:
            learned.anew = "parameter"
        elif place.as_parameter or place.axes:
            learned.places[path] = place


def _options(chain: Chain, parameter: Tensor) -> list[dict[str, Any]]:
    """The numbers in the groups of a parameter."""
    groups = [g for level in chain for g in groups_with(level, parameter)]
    return [{k: v for k, v in group.items() if isinstance(v, PLAIN)} for group in groups]


def _try(trial: Trial, learned: Learned) -> None:
    """Start one filter of a copy anew, and see it stay; more is started anew where less is not enough."""
    order: tuple[Anew, ...] = ("entries", "parameter", "optimizer")
    still: tuple[Kept, ...] = ("none", "others")  # gradients that move a filter only by what is kept of it
    weights = torch.where(trial.own, -0.5 * trial.weights, trial.weights)
    if _overwrites(trial, weights):
        raise UnclearError("its steps put weights of its own in the place of those of the network")
    noise = 16 * torch.finfo(trial.weights.dtype).eps * float(trial.weights.abs().max())
    allowed = [
        max(noise, 0.01 * _moved(trial, _restored(trial), kept), 2 * _moved(trial, trial.new(weights), kept))
        for kept in still
    ]
    for anew in order[order.index(learned.anew) :]:
        learned.anew = anew
        try:
            moved = [_moved(trial, _restored(trial, learned), kept) for kept in still]
        except Exception:  # what is kept cannot be written to
            continue
        if all(far <= most for far, most in zip(moved, allowed, strict=True)):
            return
    raise UnclearError(f"a filter moves although all that {name_of(trial.chain)} keeps of it was started anew")


def _overwrites(trial: Trial, weights: Tensor) -> bool:
    """Whether steps without gradients end in the same weights, whatever they were."""
    ends = []
    for start in (trial.weights, weights):
        scratch = trial.new(start)
        for gradient in trial.gradients(2, "none"):
            scratch.step(gradient)
        ends.append(scratch.parameter.detach()[trial.own])
    return torch.equal(*ends)


def _restored(trial: Trial, learned: Learned | None = None) -> Scratch:
    """A copy in the middle of a training, in which one filter got new weights and, if ``learned``, a fresh state."""
    scratch = trial.stepped()
    with torch.no_grad():
        scratch.parameter[trial.own] = -0.5 * trial.weights[trial.own]
    if learned is not None:
        start_anew(scratch.chain, scratch.parameter, trial.layer, torch.tensor([trial.unit]), learned)
    return scratch


def _moved(trial: Trial, scratch: Scratch, kept: Kept) -> float:
    """How far some steps with such gradients move the filter."""
    before = scratch.parameter.detach().clone()
    seed(before.device)
    for gradient in trial.gradients(2, kept):
        scratch.step(gradient)
    return float((scratch.parameter.detach() - before)[trial.own].abs().max())


@torch.no_grad()
def start_anew(chain: Chain, parameter: Tensor, layer: FilterLayer | None, units: Tensor, learned: Learned) -> int:
    """Make what a chain keeps of filters what a fresh one would hold for their present weights.

    Returns:
        The number of tensors that were touched.
    """
    kept = dict(entries(chain, parameter))
    if not kept or learned.anew != "entries":
        touched = len(kept)
        if learned.anew == "optimizer":
            forget(chain, None, learned.way)
        elif kept:
            forget(chain, parameter, learned.way)
        return touched
    touched, fresh = 0, None
    for path, value in kept.items():
        place = learned.places.get(path)
        if place is None or not place.is_in(value, parameter.shape):
            continue
        start = learned.starts[path]
        source: Tensor | None = None
        if start == "weight":
            source = torch.empty_like(value)
            source.copy_(parameter.detach().reshape(value.shape) if value.shape != parameter.shape else parameter)
        elif start == "other":
            fresh = present_values(chain, parameter, layer, learned, set(kept)) if fresh is None else fresh
            source = torch.empty_like(value)
            source.copy_(fresh[path])
        write(place, layer, units, parameter.shape, value, start, source)
        touched += 1
    return touched


def present_values(
    chain: Chain, parameter: Tensor, layer: FilterLayer | None, learned: Learned, keys: set[Path]
) -> Mapping[Path, Tensor]:
    """What a fresh optimizer would hold for the parameter's present values."""
    if isinstance(parameter, DTensor):
        raise UnclearError(f"what {name_of(chain)} keeps of sharded weights depends on all of them")
    with apart(chain):
        trial = Trial(chain, parameter, layer)
        trial.way = learned.way
        _, first, last = fresh_values(trial, keys, parameter)
        return {**last, **first}


def forget(chain: Chain, parameter: Tensor | None, way: Way) -> None:
    """Forget what is kept of a parameter, or all: it is as in a fresh optimizer."""
    for store in stores(chain):
        if parameter is None:
            store.clear()
        else:
            store.pop(parameter, None)
    if way.constructed:
        remake(chain, parameter)


_OF_OPTIMIZER: WeakKeyDictionary[Any, dict[Any, Learned]] = WeakKeyDictionary()
"""Optimizer -> what was learned of each of its parameters, and of groups with their options."""
_OF_KIND: dict[Any, Learned] = {}
"""Classes of a chain with all their options, and shape of a parameter -> what was learned."""
MOST_KINDS = 1000


def known(
    chain: Chain,
    parameter: Tensor,
    layer: FilterLayer | None,
    kept: Collection[Path] | None = None,
    *,
    renew: bool = False,
) -> Learned:
    """What `learn` finds, which is done once for optimizers and parameters that are alike.

    Args:
        kept: the paths of what is kept, where they are known.
        renew: whether the constants are learned anew where options of the group are no longer the same.
    """
    mine = _OF_OPTIMIZER.setdefault(chain[0], {})
    keys = {path for path, _ in entries(chain, parameter)} if kept is None else set(kept)
    like = kind_of(layer), parameter.shape, parameter.dtype, parameter.device
    me = (id(parameter), *like)
    learned = mine.get(me)
    if learned is None or not learned.knows(keys):
        settings, options = _settings(chain), _group_settings(chain, parameter)
        kind = tuple(map(type, chain)), settings, options, *like
        alike = {} if options is None else mine if settings is None else _OF_KIND
        learned = alike.get(kind)
        if learned is None or not learned.knows(keys):
            tried = [one for of, one in alike.items() if of[:3] == kind[:3]]
            learned = _learned_now(chain, parameter, layer, keys, tried)
            if len(alike) >= MOST_KINDS:
                alike.clear()
            alike[kind] = learned
        learned = mine[me] = replace(learned, starts=dict(learned.starts))
        renew = True
    if renew and learned.options != (now := _options(chain, parameter)):
        with apart(chain):
            trial = Trial(chain, parameter, layer)
            trial.way = learned.way
            learned.starts |= starts(trial, set(learned.starts))
        learned.options = now
    return learned


def _settings(chain: Chain) -> str | None:
    """The attributes that decide how a chain works; ``None``: some cannot be compared."""
    shown = [{k: v for k, v in vars(level).items() if _decides(k, v, chain)} for level in chain]
    return _spelled(shown)


def _decides(name: str, value: Any, chain: Chain) -> bool:
    """Whether an attribute may decide how an optimizer works. A schedule puts its own count around ``step``."""
    counted = name == "step" and getattr(value, "_wrapped_by_lr_sched", False)
    return not (counted or name in ELSEWHERE or name.endswith("_hooks") or any(value is other for other in chain))


def _group_settings(chain: Chain, parameter: Tensor) -> str | None:
    """The options of a parameter's groups, but for learning rates; ``None``: some cannot be compared."""
    groups = [g for level in chain for g in groups_with(level, parameter)]
    return _spelled([{k: v for k, v in group.items() if k not in UNLIKE} for group in groups])


def _spelled(shown: list[dict[str, Any]]) -> str | None:
    plain = all(isinstance(value, PLAIN) for options in shown for value in options.values())
    return repr(shown) if plain else None


def _learned_now(
    chain: Chain, parameter: Tensor, layer: FilterLayer | None, keys: set[Path], tried: Iterable[Learned]
) -> Learned:
    learned = learn(chain, parameter, layer, keys, tried)
    if learned.anew == "entries" and not learned.knows(keys):
        learned.anew = "parameter"  # it keeps what no copy of it makes
    if learned.anew != "entries":
        what = "all that it keeps" if learned.anew == "optimizer" else "all that it keeps of their parameter"
        _log.info("%s mixes filters: %s starts anew with filters that come back", name_of(chain), what)
    return learned
