"""Checks of RePr and DSD: what is left out stays as it is, and what comes back is to the optimizer as new.

"As new" is what a newly made optimizer holds of the same weights, before its first step or after one in which their
gradient is zero. What all filters share goes on (a step counter, a matrix that mixes them), so that the first step of
a restored filter is compared in direction and order only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

import filtersmith as fs
from benchmarks.sweep.outcome import expect, made
from benchmarks.sweep.twins import OWN, Setup, Twin

FULL, SUB, STILL = 4, 8, 9
"""Steps before something is left out, while it is, and with zero gradients afterwards."""
NEXT = 100
"""The batch of the first step after a restore."""
Masks = Mapping[str, Tensor]
"""Parameter -> bool: which of its filters (of one dimension) or which of its entries (of its shape) are meant."""
Key = tuple[str, str, int]
"""A parameter, "value" or a key of its state, and a number where several parts of one tensor are meant."""


def left_out(setup: Setup) -> None:
    """While filters are left out, their weights and their rows of the optimizer's state keep their values."""
    run = Twin(setup)
    cycle = _repr(run)
    run.steps(0, FULL)
    expect(cycle.step() == "pruned", "nothing was pruned")
    masks, start = _of_filters(cycle.pruned), run.weights()
    kept = parts(run, masks)
    mixed = functools.cache(lambda: _mixed(setup, masks))
    for n in range(FULL, FULL + SUB):
        run.step(n)
        now = parts(run, masks)
        for key, right in kept.items():
            still = key in now and torch.equal(now[key], right)
            expect(still or key[:2] in mixed(), f"{_what(key)} moves while filters are left out")
        kept = {**now, **kept}  # what was first made in this phase is held from then on
    for name in (name for owned in OWN.values() for name in owned):
        expect(not torch.equal(start[name], run.parameters[name]), f"no row of {name} moves in the sub-phase")


def restored(setup: Setup) -> None:
    """Restored filters have the state of a new optimizer, stay on zero gradients and move on the next one."""
    setup = setup.without_decay()
    run, masks = _through_a_cycle(setup)
    as_new(setup, run, masks)
    run, masks = _through_a_cycle(setup)
    first_step(setup, run, masks)


def zeroed(setup: Setup) -> None:
    """Weights that DSD masks are 0 after every step; afterwards their state is that of a new optimizer."""
    run = Twin(setup)
    dsd = made(lambda: fs.DSD(run.model, run.optimizer, s1=1, s2=1, cycles=1, prune=0.3))
    run.steps(0, FULL)
    expect(dsd.step() == "pruned", "nothing was masked")
    masks = {f"{layer}.weight": mask.clone() for layer, mask in dsd.pruned.items()}
    expect(len(masks) == 4 and all(mask.any() for mask in masks.values()), f"masked are {', '.join(masks)} only")
    for n in range(FULL, FULL + SUB):
        run.step(n)
        for name, mask in masks.items():
            count = int((run.parameters[name][mask] != 0).sum())
            expect(not count, f"{count} of {int(mask.sum())} masked weights of {name} are not 0 after a step")
    expect(dsd.step() == "restored", "the masks were not removed")
    as_new(setup, run, masks)


def as_new(setup: Setup, run: Twin, masks: Masks) -> None:
    """Whether an optimizer knows no more of what came back than a new one, and leaves it where it is."""
    mixed = functools.cache(lambda: _mixed(setup, masks))
    fresh = Twin(setup, run.weights())
    at_first, largest = parts(run, masks), _largest(run)
    for twin in (run, fresh):
        twin.step(NEXT, masks)
    after, right = parts(run, masks), parts(fresh, masks)
    fresh.step(NEXT + 1, masks)
    by_itself = {key: (value - right[key]).abs() for key, value in parts(fresh, masks).items() if key in right}
    run.steps(NEXT + 1, STILL, masks)
    fresh.steps(NEXT + 2, STILL - 1, masks)
    ends = parts(run, masks), parts(fresh, masks)
    right = {**ends[1], **right}  # with what a new optimizer makes later
    for key, start in at_first.items():
        if key[1] == "value":
            size = float(run.parameters[key[0]].detach().norm())
            moved, new = (float((end[key] - start).norm()) / size for end in ends)
            still = moved <= 1e-5 + 10 * new  # a new one moves them, too, where it mixes a tensor's entries
            expect(still, f"what came back of {key[0]} moves on zero gradients, by {moved:.0e}")
    for key, value in at_first.items():
        if key[1] != "value" and key in right:
            drift = 2 * by_itself.get(key, 0.0)  # what a step does without a gradient: a decay, or a random number
            near = any(_near(one, right[key], largest[key[:2]], drift) for one in (value, after.get(key)))
            expect(near or key[:2] in mixed(), f"{_what(key)} is not what a new optimizer holds of what came back")


def first_step(setup: Setup, run: Twin, masks: Masks) -> None:
    """Whether the next step moves restored filters as a new optimizer's does, in direction and order.

    In order: at least a tenth and at most ten times of what a new optimizer, or this one in other filters, moves.
    """
    start = run.weights()
    fresh = Twin(setup, start)
    weights = {name: mask.to(setup.device) for name, mask in masks.items() if run.parameters[name].ndim > 1}
    for n in range(NEXT, NEXT + 3):
        for twin in (run, fresh):
            twin.step(n)
        if all(not torch.equal(fresh.parameters[name], start[name]) for name in weights):
            break  # some optimizers only look at the first gradient
    for name, mask in weights.items():
        mine, new = ((twin.parameters[name].detach() - start[name]).flatten(1) for twin in (run, fresh))
        for filter_ in mask.nonzero().flatten().tolist():
            one, other = mine[filter_], new[filter_]
            sizes = torch.stack([other.norm(), *mine[~mask].norm(dim=1)])
            size = float(one.norm())
            right = float(sizes.min()) / 10 <= size <= float(sizes.max()) * 10
            expect(
                right,
                f"filter {filter_} of {name} moves by {size:.0e} in the next step, a new optimizer's by "
                f"{float(other.norm()):.0e}",
            )
            expect(float(one @ other) > 0, f"filter {filter_} of {name} moves against a new optimizer's next step")


def parts(run: Twin, masks: Masks) -> dict[Key, Tensor]:
    """Copies of what is meant of the parameters and of their state."""
    tensors = {(name, "value"): run.parameters[name].detach() for name in masks}
    tensors |= {key: value for key, value in run.live_state().items() if key[0] in masks and torch.is_tensor(value)}
    return {
        (name, key, number): part.clone()
        for (name, key), tensor in tensors.items()
        for number, part in enumerate(_parts_of(tensor, masks[name].to(tensor.device)))
    }


def _parts_of(tensor: Tensor, mask: Tensor) -> list[Tensor]:
    """What is meant of a tensor: entries, or filters in each dimension that has an entry for each filter."""
    if mask.ndim > 1:
        return [tensor[mask]] if tensor.shape == mask.shape else []
    index = mask.nonzero().flatten()
    return [tensor.index_select(d, index) for d, size in enumerate(tensor.shape) if size == len(mask)]


def _mixed(setup: Setup, masks: Masks) -> set[tuple[str, str]]:
    """What a zero gradient does not keep still in plain training: of optimizers that mix a tensor's entries (Muon).

    Empty unless the weights themselves move.
    """
    setup = setup.without_decay()
    run, once = Twin(setup), Twin(setup)
    at_first = parts(run, masks)
    once.step(0, masks)
    run.steps(0, FULL + SUB, masks)
    at_first |= {key: value for key, value in parts(once, masks).items() if key[1] != "value"}
    largest = _largest(run) | {(name, "value"): float(run.parameters[name].detach().norm()) for name in masks}
    now = parts(run, masks)
    moved = {key[:2] for key, value in at_first.items() if not _near(now[key], value, largest[key[:2]])}
    return moved if any(key == "value" for _, key in moved) else set()


def _largest(run: Twin) -> dict[tuple[str, str], float]:
    """The largest entry of each tensor of the state."""
    tensors = {key: value for key, value in run.live_state().items() if torch.is_tensor(value) and value.numel()}
    return {key: float(value.abs().max()) for key, value in tensors.items()}


def _near(one: Tensor | None, other: Tensor, size: float, drift: Tensor | float = 0.0) -> bool:
    """Equal but for a drift, and for what is nothing beside the tensor's largest entry."""
    if one is None or one.shape != other.shape:
        return False
    return bool(((one - other).abs() <= 1e-5 * size + 1e-12 + drift).all())


def _what(key: Key) -> str:
    return key[0] if key[1] == "value" else f"state {key[1]!r} of {key[0]}"


def _of_filters(pruned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same filters in every parameter of which each has a row."""
    expect(all(pruned[layer].any() for layer in OWN), "a layer loses no filter")
    return {name: mask for layer, mask in pruned.items() for name in OWN[layer]}


def _repr(run: Twin) -> fs.RePr:
    """With filters chosen at random, so that each layer loses some."""
    return made(lambda: fs.RePr(run.model, run.optimizer, s1=1, s2=1, cycles=1, prune=0.3, rank="random"))


def _through_a_cycle(setup: Setup) -> tuple[Twin, dict[str, Tensor]]:
    """A network whose filters have just come back, and which they are."""
    run = Twin(setup)
    cycle = _repr(run)
    run.steps(0, FULL)
    expect(cycle.step() == "pruned", "nothing was pruned")
    masks = _of_filters(cycle.pruned)
    run.steps(FULL, SUB)
    expect(cycle.step() == "restored", "nothing was restored")
    return run, masks
