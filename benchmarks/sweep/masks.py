"""Checks of WAU, flows and EMA: twins that take the same steps."""

from __future__ import annotations

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR

import filtersmith as fs
from benchmarks.sweep.outcome import expect, made
from benchmarks.sweep.twins import LAYERS, Setup, State, Twin, first_difference

STEPS = 13
"""Enough for the second time that Lookahead looks back (every 6 steps)."""
FOLLOWS = ("lookahead_slow_buff",)
"""State that is moved towards the weights after each step: with held filters it is another than the twin's."""


def off(setup: Setup) -> None:
    """At rate 1 WAU changes nothing, bit for bit."""
    plain, run = Twin(setup), Twin(setup)
    made(lambda: fs.WAU(run.model, rate=1.0).attach(run.optimizer))
    for n in range(STEPS):
        plain.step(n)
        run.step(n)
        expect_same(plain, run, f"step {n + 1}")


def held(setup: Setup) -> None:
    """At rate 0.5 held filters keep their values; the others, and the state, become what a plain step makes them."""
    plain, run = Twin(setup), Twin(setup)
    wau = made(lambda: fs.WAU(run.model, rate=0.5, layers=LAYERS).attach(run.optimizer))
    for n in range(STEPS):
        before = run.weights()
        plain.load(before)
        plain.step(n)
        run.step(n)
        after, right = run.weights(), plain.weights()
        active = wau.active
        expect(set(active) == set(LAYERS), f"step {n + 1}: a mask was drawn for the layers {list(active)} only")
        for layer, mask in active.items():
            weight = f"{layer}.weight"
            moved = (after[weight] != before[weight]).flatten(1).any(1).cpu()
            expect(int(mask.sum()) == max(1, len(mask) // 2), f"{int(mask.sum())} of {len(mask)} filters are updated")
            count = int((moved & ~mask).sum())
            expect(not count, f"step {n + 1}: {count} of {int((~mask).sum())} held filters of {weight} moved")
            right[weight][~mask.to(right[weight].device)] = before[weight][~mask.to(before[weight].device)]
        name = first_difference(right, after)
        expect(name is None, f"step {n + 1}: what is not held of {name} does not move as in a plain step")
        expect_same_state(plain.state(), run.state(), f"step {n + 1}")
        _follow(plain, run)


def restart(setup: Setup) -> None:
    """From the start of a phase on, weights and state are those of a new optimizer on the same weights."""
    run = Twin(setup)
    phases = [(1.0, 2), (1.0, 9)]
    flow = made(lambda: fs.Flow(phases, fs.WAU(run.model), run.optimizer, scheduler=_halved))
    run.steps(0, 4)
    flow.step()
    run.steps(4, 4)
    expect(flow.step() == "phase", "the second phase did not begin after two epochs")
    fresh = Twin(setup, run.weights())
    schedules = [_halved(one) for one in fresh.optimizers]
    for n in range(STEPS):
        fresh.step(n)
        run.step(n)
        expect_same(fresh, run, f"step {n + 1} of the new phase")
        if n % 4 == 3:
            flow.step()
            for schedule in schedules:
                schedule.step()


def average(setup: Setup) -> None:
    """The averaged network is the average of the weights after each step."""
    run = Twin(setup)
    ema = made(lambda: fs.EMA(run.model, decay=0.6).attach(run.optimizer))
    by_hand: dict[str, torch.Tensor] = {}
    for n in range(STEPS):
        run.step(n)
        now = run.weights()
        decay = min(0.6, (1 + n) / (10 + n)) if n else 0.0  # n steps are in it
        by_hand = {name: decay * by_hand.get(name, now[name]) + (1 - decay) * now[name] for name in now}
        averaged = dict(ema.network.named_parameters())
        for name, right in by_hand.items():
            close = torch.allclose(averaged[name], right, rtol=1e-4, atol=1e-6)
            expect(close, f"step {n + 1}: the average of {name} is not that of the weights after each step")


def plain(setup: Setup) -> None:
    """Without any method: twins agree, all weights move, and none is lost. What fails here cannot be judged."""
    one, other = Twin(setup), Twin(setup)
    start = one.weights()
    one.steps(0, STEPS)
    other.steps(0, STEPS)
    expect_same(one, other, "plain training")
    for name, weight in one.weights().items():
        expect(bool(weight.isfinite().all()), f"plain training loses {name}")
        expect(not torch.equal(weight, start[name]), f"plain training does not move {name}")


def expect_same(right: Twin, found: Twin, when: str) -> None:
    name = first_difference(right.weights(), found.weights())
    expect(name is None, f"{when}: {name} differs")
    expect_same_state(right.state(), found.state(), when)


def expect_same_state(right: State, found: State, when: str) -> None:
    """All but what follows the weights."""
    right, found = ({key: v for key, v in state.items() if key[1] not in FOLLOWS} for state in (right, found))
    key = first_difference(right, found)
    expect(key is None, f"{when}: state {key and key[1]!r} of {key and key[0]} differs")


def _follow(twin: Twin, run: Twin) -> None:
    """Give a twin what follows the weights."""
    theirs = run.live_state()
    for key, value in twin.live_state().items():
        if key[1] in FOLLOWS:
            value.copy_(theirs[key])


def _halved(optimizer: Optimizer) -> LRScheduler:
    return StepLR(optimizer, 1, gamma=0.5)
