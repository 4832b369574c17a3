"""Starting an optimizer over: afterwards it is what it was when it was made, but for its options.

State lives in three places: in ``state``, which is forgotten, or made again by the constructor; in the groups, where
those keys count that a step changes; and in attributes, likewise. What a step changes is seen on scratch copies.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from filtersmith.optim.apart import apart
from filtersmith.optim.chains import Chain, chain_of, name_of, stores, walk
from filtersmith.optim.places import same
from filtersmith.optim.scratch import duplicate
from filtersmith.optim.trial import Trial
from filtersmith.optim.twins import Twin, remake, twins

NOT_STATE = frozenset(
    ("param_groups", "state", "defaults", "grad_scale", "found_inf", "step", "_step_count", "_opt_called")
)
"""Attributes that are looked at elsewhere, or are a schedule's or a gradient scaler's."""
OPTIONS = frozenset(("params", "param_names", "lr", "initial_lr"))
"""Keys of a group that are never state."""
_ABSENT: Any = object()


def reset(optimizer: Any) -> None:
    """Forget everything: the state is what it was when the optimizer was made. Learning rates and options stay.

    What an attribute was then, only a `Beginning` knows that was made before the first step, or the constructor.
    """
    Beginning(optimizer).reset()


class Beginning:
    """What an optimizer is when a training begins, to be started over from.

    Args:
        optimizer: as its user has it; best before its first step.

    Raises:
        ValueError: it cannot be started over: its constructor makes what it keeps, and its arguments are not known;
            or it has begun, and keeps something as attributes of parameters.
    """

    def __init__(self, optimizer: Any) -> None:
        self._chain = chain = chain_of(optimizer)
        self._keys, names, on_parameters, tried = changed_by_a_step(chain)
        first = twins(chain, self._keys, whole=False)
        self._makes_state = any(twin.made is not None and _keeps(vars(twin.made).get("state")) for twin in first)
        if not tried and any(map(_keeps, stores(chain))) and all(twin.made is None for twin in first):
            raise ValueError(
                f"{name_of(chain)} cannot be started over: its constructor may make what it keeps, and takes "
                "arguments that are neither in its defaults nor attributes of their names"
            )
        self._begun = any(_has_begun(level, twin, on_parameters) for level, twin in zip(chain, first, strict=True))
        # Tensors in attributes tell nothing of steps; a twin's are fresh for sure.
        by_hand = any(_tensors(level, name) for level, of in zip(chain, names, strict=True) for name in of)
        none = [Twin(None, {})] * len(chain)
        whole = twins(chain, self._keys, whole=True) if self._begun or by_hand else none
        pairs = list(zip(chain, whole if self._begun else none, strict=True))
        self._groups = [
            [self._fresh_options(level, twin.made, number) for number in range(len(_groups(level)))]
            for level, twin in pairs
        ]
        self._attributes = [
            {
                name: _Attribute(level, whole[n] if _tensors(level, name) else pairs[n][1], name, chain)
                for name in names[n]
            }
            for n, level in enumerate(chain)
        ]
        if self._begun and on_parameters and any(twin.made is None for twin in whole):
            raise ValueError(
                f"{name_of(chain)} cannot be started over: it has begun, and keeps something as attributes of "
                f"parameters ({min(on_parameters)!r}): make the flow before the first step"
            )
        shown = {id(real): made for twin in whole for made, real in twin.real.items()} if self._begun else {}
        self._on_parameters = [
            (p, {name: _copied(vars(shown.get(id(p), p)), name) for name in on_parameters})
            for p in _parameters(chain)
            if on_parameters
        ]

    @torch.no_grad()
    def reset(self) -> None:
        """Make the optimizer what it was. Learning rates and all other options stay as they are now."""
        for store in stores(self._chain):
            store.clear()
        for level, known, attributes in zip(self._chain, self._groups, self._attributes, strict=True):
            for number, group in enumerate(_groups(level)):
                later = number >= len(known)  # it was added since
                for key, value in (
                    self._fresh_options(level, None, number, later) if later else known[number]
                ).items():
                    _put(group, key, value)
            for name, attribute in attributes.items():
                _put(vars(level), name, attribute.fresh())
        for parameter, known_of_it in self._on_parameters:
            for name, value in known_of_it.items():
                _put(vars(parameter), name, _ABSENT if value is _ABSENT else duplicate(value, {}))
        if self._makes_state:
            remake(self._chain)

    def _fresh_options(self, level: Any, twin: Any, number: int, added: bool = False) -> dict[str, Any]:
        """What a group's state keys are in a fresh optimizer: as they are now, in a twin, or in the defaults."""
        if self._begun or added:
            of_twin = _groups(twin)[number] if twin is not None else {}
            shown = {**of_twin, **getattr(level, "defaults", {})}
        else:
            shown = _groups(level)[number]
        keys = {key: shown.get(key, _ABSENT) for key in self._keys}
        return {key: value.clone() if isinstance(value, Tensor) else value for key, value in keys.items()}


class _Attribute:
    """What an attribute was; where it held the weights of then (slow weights), it will hold those of now."""

    def __init__(self, level: Any, twin: Twin, name: str, chain: Chain) -> None:
        self._chain = chain
        memo = _kept_as_they_are(chain) | {id(made): real for made, real in twin.real.items()}
        shown = vars(level if twin.made is None else twin.made)
        self._was = duplicate(shown[name], memo) if name in shown else _ABSENT
        parameters = _parameters(chain)
        found = {path: [p for p in parameters if _is_copy(value, p)] for path, value in walk(self._was)}
        sure = any(equal and equal[0].unique().numel() > 1 for equal in found.values())
        self._weights = {path: equal for path, equal in found.items() if equal} if sure else {}

    def fresh(self) -> Any:
        value = duplicate(self._was, _kept_as_they_are(self._chain)) if self._was is not _ABSENT else _ABSENT
        used: set[int] = set()
        tensors = dict(walk(value))
        for path, equal in self._weights.items():  # of several that were alike, each one once
            parameter = next((p for p in equal if id(p) not in used), equal[0])
            used.add(id(parameter))
            tensors[path].copy_(parameter)
        return value


def changed_by_a_step(chain: Chain) -> tuple[set[str], list[set[str]], set[str], bool]:
    """What a few steps change: keys of groups, attributes of each level and of parameters; whether one was tried."""
    keys: set[str] = set()
    names: list[set[str]] = [set() for _ in chain]
    on_parameters: set[str] = set()
    tried = False
    for parameter in _samples(chain):
        with apart(chain):
            trial = Trial(chain, parameter, None)
            if not trial.find_way():
                continue
            tried = True
            scratch = trial.new()
            memo = _kept_as_they_are(scratch.chain)
            before = [{k: duplicate(v, memo) for k, v in _own(level).items()} for level in scratch.chain]
            groups = [[duplicate(dict(g), memo) for g in _groups(level)] for level in scratch.chain]
            trial.train(scratch)
            on_parameters |= vars(scratch.parameter).keys()
            for level, was, of_groups, changed in zip(scratch.chain, before, groups, names, strict=True):
                changed |= _changed(was, _own(level))
                for old, group in zip(of_groups, _groups(level), strict=True):
                    keys |= _changed(old, group) - OPTIONS
    return keys, names, on_parameters, tried


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    return {key for key, value in now.items() if key not in before or not alike(before[key], value)}


def alike(a: Any, b: Any, depth: int = 6) -> bool:
    """Whether two values are the same, by what they hold: tensors, generators, containers, objects."""
    if a is b or depth == 0:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return _equal(a, b)
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(alike(a[key], b[key], depth - 1) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(alike(x, y, depth - 1) for x, y in zip(a, b, strict=True))
    if isinstance(a, random.Random):
        return bool(a.getstate() == b.getstate())
    if isinstance(a, torch.Generator):
        return torch.equal(a.get_state(), b.get_state())
    if hasattr(a, "bit_generator"):  # numpy's
        return bool(repr(a.bit_generator.state) == repr(b.bit_generator.state))
    if getattr(type(a), "__eq__", None) is object.__dict__["__eq__"] and hasattr(a, "__dict__"):
        return alike(vars(a), vars(b), depth - 1)
    try:
        return bool(a == b)
    except Exception:
        return False


def _equal(a: Tensor, b: Tensor) -> bool:
    if a is b or a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return a is b
    return bool(same(a, b).all())


def _is_copy(value: Tensor, parameter: Tensor) -> bool:
    """Whether it has a parameter's values, in its own precision: some keep them in a higher one."""
    return value.shape == parameter.shape and torch.equal(value, parameter.detach().to(value))


def _tensors(level: Any, name: str) -> bool:
    """Whether an attribute has tensors in it."""
    return any(tensor.ndim for _, tensor in walk(vars(level).get(name)))


def _own(level: Any) -> dict[str, Any]:
    """The attributes that may be an optimizer's own memory."""
    return {k: v for k, v in vars(level).items() if k not in NOT_STATE and not k.endswith("_hooks")}


def _groups(level: Any) -> list[dict[str, Any]]:
    return getattr(level, "__dict__", {}).get("param_groups") or []


def _parameters(chain: Chain) -> list[Tensor]:
    return list({id(p): p for level in chain for group in _groups(level) for p in group["params"]}.values())


def _samples(chain: Chain) -> list[Tensor]:
    """The smallest matrix or kernel and the smallest vector of every group."""
    found: dict[tuple[int, bool], Tensor] = {}
    for group in (group for level in chain for group in _groups(level)):
        for p in group["params"]:
            kind = id(group), p.ndim > 1
            if p.numel() and (kind not in found or p.numel() < found[kind].numel()):
                found[kind] = p
    return list({id(p): p for p in found.values()}.values())


def _keeps(store: Any) -> bool:
    """Whether there is something in a state."""
    return isinstance(store, Mapping) and any(map(bool, store.values()))


def _has_begun(level: Any, twin: Twin, on_parameters: Collection[str]) -> bool:
    """Whether it has made a step: it keeps something, also on parameters, that its constructor does not make.

    Of the parameters those that the twin has are looked at, and all where there is no twin.
    """
    known = {id(real): vars(made) for made, real in twin.real.items()}
    for p in _parameters((level,)) if twin.made is None else twin.real.values():
        if any(name in vars(p) and name not in known.get(id(p), {}) for name in on_parameters):
            return True
    kept = vars(level).get("state")
    if not _keeps(kept) or kept is None:
        return False
    if twin.made is None:
        return True
    made = vars(twin.made).get("state", {})
    return not all(alike(dict(made.get(a, {})), dict(kept.get(b, {}))) for a, b in twin.real.items())


def _kept_as_they_are(chain: Chain) -> dict[int, Any]:
    """A memo by which parameters, optimizers, groups and states are not copied."""
    kept: list[Any] = [*chain, *stores(chain), *_parameters(chain)]
    for level in chain:
        kept += [vars(level)["param_groups"]] if _groups(level) else []
        kept += [each for group in _groups(level) for each in (group, group["params"])]
    return {id(each): each for each in kept}


def _copied(mapping: Mapping[str, Any], name: str) -> Any:
    return duplicate(mapping[name], {}) if name in mapping else _ABSENT


def _put(mapping: Any, key: str, value: Any) -> None:
    """Write a value; tensors keep being the objects that they are, since compiled optimizers hold on to them."""
    if value is _ABSENT:
        mapping.pop(key, None)
    elif isinstance(mapping.get(key), Tensor) and isinstance(value, (Tensor, int, float)):
        mapping[key].copy_(torch.as_tensor(value))
    else:
        mapping[key] = value.clone() if isinstance(value, Tensor) else value
