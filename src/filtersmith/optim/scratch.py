"""A scratch copy of an optimizer, with parameters of its own: stepped to learn what optimizers of its kind keep.

It is built from the optimizer as it is, not by its constructor, so that it works alike whatever its class is; the
optimizer itself, its state, its groups and the random generators of the process are never touched.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from filtersmith.optim.chains import Chain, Path, groups_with, is_innermost, stores, walk
from filtersmith.optim.recording import State, Store, Uninitialised
from filtersmith.optim.twins import construct

LEAST_RATE = 0.01
"""A scratch copy is stepped with no smaller learning rate, so that what is left in the state shows."""

CURVATURE = 0.5
"""Of the loss that a scratch copy descends: quasi-Newton methods learn nothing from a linear one."""


class Way(NamedTuple):
    """How a scratch copy of a chain is stepped.

    Attributes:
        root: position in the chain of the one whose ``step`` is called.
        whole: whether it gets all parameters, not only one and a companion.
        constructed: whether its state is made by its constructor.
        closure: whether ``step`` needs a function that computes the gradients.
        second_order: whether gradients need a graph of their own.
        steps: how many it takes until all that it does has been seen.
    """

    root: int = 0
    whole: bool = False
    constructed: bool = False
    closure: bool = False
    second_order: bool = False
    steps: int = 3


class Scratch:
    """A copy of a chain.

    Args:
        chain: the real one; it is only read.
        parameter: of which there is a copy with ``weights`` as its values.
        way: how it is stepped.
        learn: whether rates are raised to `LEAST_RATE`; else they are those of now.

    Attributes:
        chain: the copies; parameter: the copy of the parameter; others: those beside it.
    """

    def __init__(self, chain: Chain, parameter: Tensor, weights: Tensor, way: Way, learn: bool = True) -> None:
        self._way, self._mode = way, Uninitialised()
        self.parameter: nn.Parameter = nn.Parameter(weights.detach().clone())
        copies = _parameter_copies(chain, parameter, self.parameter, way.whole)
        self.others: list[nn.Parameter] = [p for p in copies.values() if p is not self.parameter and p.numel() > 0]
        if not way.whole:
            self.others = [nn.Parameter(self.parameter.detach()[:2].clone())]
        memo: dict[int, Any] = {id(p): p_copy for p, p_copy in copies.items()}
        for level in chain:
            memo[id(level)] = object.__new__(type(level))
        for store in stores(chain):
            memo[id(store)] = Store(self._mode)
        for level in chain:
            _copy_groups(level, parameter, memo, self.others[:1] if not way.whole else None, learn)
        for level in chain:
            _copy_attributes(level, memo)
        self.chain: Chain = tuple(memo[id(level)] for level in chain)
        if callable(train := getattr(self.chain[way.root], "train", None)):
            train()  # of those that keep two sets of weights (schedule-free)
        if way.constructed:
            for level, made in zip(chain, self.chain, strict=True):
                if is_innermost(level) and made.param_groups:
                    twin = construct(level, [dict(group) for group in made.param_groups])
                    for p, state in (twin.state if twin is not None else {}).items():
                        made.state[p].update(state)

    @property
    def stores(self) -> list[MutableMapping[Any, Any]]:
        return stores(self.chain)

    def step(self, gradient: Tensor) -> None:
        """One step with a gradient, of which 0 stays 0; the others get random ones."""
        parameters = self.parameter, *self.others
        drawn = [gradient.to(self.parameter), *(torch.randn_like(p) for p in self.others)]

        def put_gradients() -> None:
            for p, g in zip(parameters, drawn, strict=True):
                like = p if self._way.second_order else p.detach()
                p.grad = (CURVATURE * like).mul_(g != 0).add_(g)

        def closure() -> Tensor:
            put_gradients()
            return torch.stack([(p.detach() * p.grad.detach()).sum() for p in parameters if p.grad is not None]).sum()

        put_gradients()
        root = self.chain[self._way.root]
        with self._mode:
            root.step(closure) if self._way.closure else root.step()

    def first(self) -> dict[Path, Tensor]:
        """What each tensor was when it was put into a state, where that is known."""
        kept = [store.get(self.parameter) for store in self.stores]
        return dict(walk([state.first if isinstance(state, State) else None for state in kept]))


def _parameter_copies(chain: Chain, parameter: Tensor, scratch: nn.Parameter, whole: bool) -> dict[Any, nn.Parameter]:
    """Every parameter of a chain -> what stands for it: its copy, or something empty."""
    copies: dict[Any, nn.Parameter] = {parameter: scratch}
    nothing = nn.Parameter(torch.zeros(0, device=scratch.device))
    for level in chain:
        for group in getattr(level, "param_groups", None) or ():
            for p in group["params"]:
                if p not in copies:
                    copies[p] = nn.Parameter(p.detach().clone(), p.requires_grad) if whole else nothing
    return copies


def _copy_groups(
    level: Any, parameter: Tensor, memo: dict[int, Any], companion: list[nn.Parameter] | None, learn: bool
) -> None:
    """Put copies of one level's groups into the memo: of all, or of those that have the parameter."""
    groups = getattr(level, "__dict__", {}).get("param_groups")
    if groups is None:
        return
    for group in groups if companion is None else groups_with(level, parameter):
        if id(group) in memo:
            continue
        params = [memo[id(p)] for p in group["params"]] if companion is None else [*companion, memo[id(parameter)]]
        memo[id(group["params"])] = params
        made = {key: params if key == "params" else duplicate(value, memo) for key, value in group.items()}
        if companion is not None and "param_names" in made:
            made["param_names"] = [made["param_names"][0]] * len(params)
        memo[id(group)] = _with_probing_options(made, learn)
    if id(groups) not in memo:
        memo[id(groups)] = [memo[id(group)] for group in groups if id(group) in memo]


def _with_probing_options(group: dict[str, Any], learn: bool) -> dict[str, Any]:
    """No decay, and a learning rate with which something moves."""
    rate = group.get("lr")
    if learn and isinstance(rate, (int, float, Tensor)) and float(rate) < LEAST_RATE:
        group["lr"] = torch.full_like(rate, LEAST_RATE) if isinstance(rate, Tensor) else LEAST_RATE
    return group | _without_decay(group)


def _without_decay(options: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {k: v for k, v in options.items() if isinstance(v, (int, float, Tensor)) and not isinstance(v, bool)}
    return {k: v * 0 for k, v in numbers.items() if "weight_decay" in k or k in ("wd", "l1", "l2", "decay")}


def _copy_attributes(level: Any, memo: dict[int, Any]) -> None:
    made = memo[id(level)]
    for name, value in getattr(level, "__dict__", {}).items():
        if name in ("grad_scale", "found_inf") or (callable(value) and hasattr(type(level), name)):
            continue  # a gradient scaler's, or what a schedule put in the place of a method
        if name.endswith("_hooks") and isinstance(value, Mapping):
            vars(made)[name] = OrderedDict()
        else:
            vars(made)[name] = duplicate(value, memo)
    vars(made).update(_without_decay(vars(made)))


def duplicate(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy in which parameters and optimizers are those of the memo; what cannot be copied is shared."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, Tensor):
        memo[id(value)] = made = value.detach().clone()
        return made
    if type(value) in (list, tuple, set, frozenset):
        memo[id(value)] = made = type(value)(duplicate(inside, memo) for inside in value)
        return made
    if type(value) in (dict, OrderedDict):
        memo[id(value)] = content = type(value)()
        content.update((duplicate(key, memo), duplicate(inside, memo)) for key, inside in value.items())
        return content
    if isinstance(value, torch.Generator):
        memo[id(value)] = generator = torch.Generator(value.device)
        generator.set_state(value.get_state())
        return generator
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # a process group, a lock
        return value


def probing_weights(parameter: Tensor) -> Tensor:
    """Random values for a parameter's copy, on its device, laid out as it is; of a sharded one for all of it."""
    if isinstance(parameter, DTensor):
        local = parameter.to_local()
        return torch.randn(parameter.shape, dtype=local.dtype, device=local.device) * 0.1
    return torch.randn_like(parameter.detach()) * 0.1
