"""RePr: prune the most overlapping filters, train the rest, bring them back orthogonal, again and again.

**Paper.** *RePr: Improved Training of Convolutional Filters*, Prakash, Storer, Florencio and Zhang, CVPR 2019, Secs.
4 and 5, Algorithm 1, Eqs. (1)-(2), appendix, https://arxiv.org/abs/1811.07275

**What it does.** ``cycles`` times: trains the network for ``s1`` epochs, ranks its filters and prunes the share
``prune`` of least importance, trains the sub-network for ``s2`` epochs, and restores the filters. The importance is

    s(f) = -O_f,    O_f = 1/J sum_j |Wn Wn^T - I|_fj     Wn: the layer's J filters, flattened, each of length 1

A restored filter is orthogonal to what it was and to the filters that stayed: it is from the null space of all of
them, where there is room. A pruned filter does not exist: its output, bias and batch norm, and what they would add
anywhere downstream, are absent, and no optimizer moves them. The sub-network computes fewer filters, on the same
parameters.

**When to use it.** To train from scratch for 100 epochs and more (paper), at a rate that stays useful to the end::

    training = fs.compose("repr")  # in any loop; phases that the text leaves open follow from the epochs
    cycle = fs.RePr(model, optimizer, s1=20, s2=10, cycles=3, prune=0.3, seed=0)  # alone
    event = cycle.step()  # each epoch, after the schedule's: None | "pruned" | "restored"; at the end cycle.finish()

The schedule runs on through all phases. Phases that are left open are placed so that a tenth of the training, counted
in learning rate, follows the last restore, as in the paper: with cosine it comes before six tenths of the epochs.
Train the controls ``repr(rank=random)`` and ``repr(reinit=none)`` beside it.

**When not to use it.** With phases of your own whose last restore comes when the rate is nearly gone (10 epochs of
cosine, the last restore after the 9th: 49.4% against 67.6%). With augmentation and few epochs: it lost three points.
In a training of a few steps: two cycles in 16 steps lost four. Above ``prune=0.5``, in the paper unstable.

**Options.** ``s1=20``, ``s2=10``, ``cycles=3``, ``prune=0.3`` (of all eligible filters together) as in the paper.
``rank``: a criterion of `fs.rank`, or any function of the network, such as ``functools.partial(fs.rank,
criterion="taylor", data=loader)``. ``reinit="random"`` and ``"none"`` (the old filters return) are controls. For deep
networks the appendix asks for short new filters (``scale=0.1``) and small kernels that read them
(``reinit_next="small"``). ``gradual_steps`` spreads the pruning over so many optimizer steps; ``decay_steps`` shrinks
the filters to a thousandth first. ``keep_min`` of each layer stay. ``first_layer=True`` ranks the first one, too.

**Where paper, authors' code and we differ.** No code was released. The paper does not say how ``W/||W||`` normalises
(we: each filter), how long new filters are, what running statistics become (we: 0 and 1), or what to do where no
orthogonal direction is left: we then take directions orthogonal to the filters that stayed, then those of least
overlap, then random ones (`RePr.restarts` counts them). Literally read, the filters chosen at the start are all of
the first layer, whose short filters overlap most by chance; so it is left out.

**Compatibility.** Plain, residual, dense, grouped and depthwise networks, ConvNeXt's pointwise linear layers, as far
as their graph (torch.fx) tells who reads a channel. Left whole, and logged (`RePr.left_whole`, ``fs.why_not(model,
"repr")``): 1x1 projections of shortcuts, what squeeze-and-excitation gates or makes gates, the network's own outputs,
what the graph cannot follow. Optimizers: see ``docs/compatibility.md``. Gradient scalers, DDP (rank 0 decides; not
with ``static_graph``), ``torch.compile`` (anew at each event), resuming in either phase from ``model.state_dict()``.
The model to save is ``cycle.deployed_state_dict()``, with zeros for what is left out; so is any copy (``deepcopy``).
An average (EMA) has these filters as they were: test and save a copy after ``cycle.leave_out_of(copy)``. Expanded
networks (KFLO and its family), sharded and lazy weights, in a sub-phase other methods that change filters: refused.
Shared and computed kernels (weight norm) stay whole, what is frozen as it is. The deployed network does not change.

**Measured results.** On CIFAR-10 (JPEG) with C^3(32), 20 epochs at a constant rate where the paper trains 100,
``s1=4``, ``s2=2``, 2 seeds: 64.1% against 63.9% of plain training, with augmentation 67.6% against 70.7%. The paper's
gain, 4.3 points, did not show at this length. Overlap told little of what a filter is worth (greedy Oracle): a rank
correlation of 0.12, in the paper 0.58. On digits with 200 images, 20 seeds, the difference is +0.06 [−0.37, +0.48]
points (95% interval), with a random choice +0.12 [−0.17, +0.42], with filters that come back as they were 0.00
[−0.25, +0.25]. All tables: ``results/README.md``; what a step costs: ``benchmarks/README.md``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from filtersmith.common import options as check
from filtersmith.common.modules import unwrap
from filtersmith.common.phases import CYCLE_CHECKS, CYCLE_LENGTHS, Phase, cycle_event, cycle_phases, fit_cycle
from filtersmith.common.said import warn_user
from filtersmith.common.words import plural
from filtersmith.graph.channels import channel_graph
from filtersmith.measure import choice
from filtersmith.optim.ownership import warn_of_unowned
from filtersmith.optim.steps import COUNTED, Rounds
from filtersmith.optim.wrappers import owned_by
from filtersmith.pruning.absence import Absence, Queue
from filtersmith.pruning.deployed import leave_out_of, plain_state_dict
from filtersmith.pruning.eligibility import (
    eligible_layers,
    layers_kept_whole,
    log_what_stays,
    refuse_kernels,
    share_of_filters,
)
from filtersmith.pruning.masks import by_zeros
from filtersmith.pruning.reinit import REINITS, REINITS_NEXT, Reinit, ReinitNext
from filtersmith.pruning.subnetwork import log_what_is_masked

_log = logging.getLogger("filtersmith")


class RePr:
    """Prune the most overlapping filters for a while, and bring them back orthogonal; again and again.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 2, 3))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> cycle = fs.RePr(model, optimizer, s1=2, s2=1, cycles=1, prune=0.25)
        >>> [cycle.step() for epoch in range(3)], cycle.restarts["orthogonal"], cycle.finish()  # step() each epoch
        ([None, 'pruned', 'restored'], 2, None)

    Args:
        model: the network; wrapped in DDP or compiled as well.
        optimizer: of its weights, one or a list of several.
        s1, s2: calls of `step` (epochs, as a rule) of a full and a sub-network phase, at least 1; 20 and 10 (paper).
        cycles: how often, at least 0; 3 (paper). Training goes on with all filters after the last one.
        prune: share of the eligible filters that is left out, in [0, 1); 0.3 (paper). 0: off, exactly.
        rank: ``"ortho"`` (default), ``"l1"``, ``"l2"``, ``"random"``, or a function as `filtersmith.rank` takes.
        reinit: how filters come back: ``"orthogonal"`` (default), ``"random"`` or ``"none"`` (as they were).
        scale: length of new filters relative to the mean of those that stayed in the layer, above 0; 1 by default.
        reinit_next: kernels that read new filters: ``"none"`` (kept, default), ``"small"``, ``"random"``, ``"zero"``.
        gradual_steps: optimizer steps over which filters are left out, the worst first; 0 (default): at once.
        decay_steps: optimizer steps in which filters shrink before they are left out; 0 (default): at once.
        keep_min: filters that stay in each layer, at least 1 (default).
        first_layer: whether the first convolution is ranked, too; not by default.
        seed: of its own random generator; the global ones are not touched.

    Attributes:
        restarts: how many filters came back in which way, over all cycles: ``"orthogonal"`` (to their old value and
            to all that stayed), ``"kept only"`` (to those that stayed), ``"least overlap"``, ``"random"``.
        left_whole: convolution -> why none of its filters is ever left out.

    Raises:
        ValueError: an option out of range; more to be left out than ``keep_min`` allows; no eligible convolution;
            expanded, sharded or lazy kernels. The model is as it was.

    Source: *RePr*, Sec. 4, Algorithm 1, https://arxiv.org/abs/1811.07275
    """

    s1: int
    s2: int
    cycles: int
    prune: float
    scale: float
    gradual_steps: int
    decay_steps: int
    keep_min: int
    first_layer: bool
    reinit: Reinit
    reinit_next: ReinitNext
    in_epochs = CYCLE_LENGTHS
    checks: ClassVar[dict[str, check.Check]] = CYCLE_CHECKS | {
        "rank": choice.check_criterion,
        "reinit": check.one_of(REINITS),
        "scale": check.above_zero,
        "reinit_next": check.one_of(REINITS_NEXT),
        "gradual_steps": check.at_least(0),
        "decay_steps": check.at_least(0),
        "keep_min": check.at_least(1),
        "first_layer": check.yes_or_no,
        "seed": check.seed_number,
    }

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        s1: int = 20,
        s2: int = 10,
        cycles: int = 3,
        prune: float = 0.3,
        rank: str | Callable[..., Any] = "ortho",
        *,
        reinit: Reinit = "orthogonal",
        scale: float = 1.0,
        reinit_next: ReinitNext = "none",
        gradual_steps: int = 0,
        decay_steps: int = 0,
        keep_min: int = 1,
        first_layer: bool = False,
        seed: int = 0,
    ) -> None:
        given = {"s1": s1, "s2": s2, "cycles": cycles, "prune": prune, "scale": scale, "keep_min": keep_min}
        given |= {"gradual_steps": gradual_steps, "decay_steps": decay_steps, "first_layer": first_layer}
        vars(self).update(check.check_options(self.checks, **given, reinit=reinit, reinit_next=reinit_next))
        if gradual_steps and decay_steps:
            raise check.bad_option("decay_steps", decay_steps, f"0 where gradual_steps is given ({gradual_steps})")
        self._rank: str | Callable[..., Any] = check.check_options(self.checks, rank=rank, seed=seed)["rank"]
        choice.refuse_without_data(self._rank)
        if not isinstance(model, nn.Module):
            raise check.bad_option("model", type(model).__name__, "a torch.nn.Module")
        self._model = unwrap(model)
        owned = owned_by(optimizer)  # refuses what is none, before anything is looked up
        refuse_kernels(self._model)
        graph, known = channel_graph(self._model), choice.knows_linear_layers(rank)
        self.left_whole: dict[str, str]
        self._layers, self.left_whole = eligible_layers(self._model, graph, first_layer, optimizer, known)
        self._count = share_of_filters("prune", self.prune, self._layers.values(), self.keep_min)
        warn_of_unowned("RePr", {name: layer.weight for name, layer in self._layers.items()}, owned)
        self.restarts: dict[str, int] = {}
        self._calls, self._finished, self._generator = 0, False, Generator("cpu").manual_seed(seed)
        self._queue = Queue(self.gradual_steps, self.decay_steps)  # chosen, but not left out yet
        self._absence = Absence(graph, self._layers, optimizer, "RePr", by_zeros(self._model, graph))
        self._rounds = Rounds("RePr", COUNTED, optimizer, self._after_step)
        log_what_stays("RePr", self.left_whole)
        log_what_is_masked("RePr", graph, self._layers)

    @classmethod
    def for_training(
        cls,
        model: nn.Module,
        optimizer: Any,
        epochs: int,
        useful_epochs: int,
        held_out: Iterable[Any] | None = None,
        *,
        s1: int | None = None,
        s2: int | None = None,
        cycles: int | None = None,
        rank: str | Callable[..., Any] = "ortho",
        **options: Any,
    ) -> RePr:
        """With phases that follow from the budget where none are given. ``ValueError`` where they do not fit it."""
        lengths = fit_cycle(epochs, useful_epochs, s1, s2, cycles)
        return cls(model, optimizer, *lengths, rank=choice.with_data(rank, held_out), **options)

    def timeline(self, epochs: int) -> tuple[Phase, ...]:
        """The phases of a training; a single one where nothing is ever left out."""
        return cycle_phases(epochs, self.s1, self.s2, self.cycles if self._count else 0)

    @property
    def deployable(self) -> bool:
        """Whether all filters are there."""
        return self.phase == "full"

    @staticmethod
    def why_not(model: nn.Module, *, first_layer: bool = False, **_: Any) -> dict[str, str]:
        """Layer -> why it never loses filters, for `filtersmith.why_not`; where RePr refuses the network, why."""
        network = unwrap(model)
        return layers_kept_whole(network, channel_graph(network), first_layer)

    @property
    def phase(self) -> Literal["full", "sub"]:
        """Whether filters are left out, or about to be (``"sub"``)."""
        return "sub" if self._absence.dropped or self._queue else "full"

    @property
    def pruned(self) -> dict[str, Tensor]:
        """Name of each eligible layer -> bool, shape ``(filters,)``, on the CPU: what is left out now."""
        none = {name: torch.zeros(layer.filters, dtype=torch.bool) for name, layer in self._layers.items()}
        return none | {name: mask.clone() for name, mask in self._absence.dropped.items()}

    def step(self) -> Literal["pruned", "restored"] | None:
        """Call at the end of each epoch.

        Returns:
            ``"pruned"`` when filters were chosen and left out, ``"restored"`` when they came back, else ``None``.

        Raises:
            ValueError: after `finish`; a criterion that gives no number for each filter. Nothing has changed.
        """
        if self._finished:
            raise ValueError("step() must not be called after finish(): make a new RePr to go on")
        self._rounds.close()
        self._absence.steps.warn_if_unseen()
        event = cycle_event(self._calls + 1, self.s1, self.s2, self.cycles) if self._count else None
        if event == "pruned":
            self._prune()
        elif event == "restored":
            self._restore()
        self._calls += 1
        return event

    def finish(self) -> None:
        """Bring back what is left out, and remove all hooks. Harmless when done already."""
        if self._finished:
            return
        if self.phase == "sub":
            warn_user(
                f"RePr: finish() in a sub-network phase brings back {self._queue.chosen} filters that nothing has "
                "trained since: call it in a full phase"
            )
            self._restore()
        self._finished = True
        self._absence.detach()
        self._rounds.detach()

    def deployed_state_dict(self) -> dict[str, Any]:
        """A copy of the network's ``state_dict`` with zeros for what is left out now: the model that is tested.

        ``ValueError`` where zeros do not make the network without a layer's filters; in full phases nothing needs it.
        """
        return plain_state_dict(self._model)

    def leave_out_of(self, network: nn.Module) -> None:
        """Leave out of a copy of the network, an average for instance, what is left out now, as zeros."""
        leave_out_of(network, self._model)

    def state_dict(self) -> dict[str, Any]:
        """All that decides what is left out now and what comes; weights and optimizer have their own."""
        return {
            **self._options(),
            "calls": self._calls,
            "finished": self._finished,
            "pruned": {name: mask.clone() for name, mask in self._absence.dropped.items()},
            **self._queue.state_dict(),
            "restarts": dict(self.restarts),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was saved. ``ValueError`` if it was another set-up; nothing has changed then."""
        check.check_state("RePr", state, self.state_dict(), self._options())
        if self._finished and not state["finished"]:
            raise ValueError("the state of RePr is of an unfinished one, this one is finished: make a new one")
        self._absence.set(state["pruned"])
        self._calls = state["calls"]
        self._absence.steps.own_state_was_loaded()
        self._queue.load_state_dict(state)
        self.restarts = dict(state["restarts"])
        self._generator.set_state(state["generator"].cpu())
        if state["finished"]:
            self.finish()

    def __repr__(self) -> str:
        phases = f"s1={self.s1}, s2={self.s2}, cycles={self.cycles}"
        return f"RePr({phases}, prune={self.prune}, {plural(len(self._layers), 'layer')})"

    def _prune(self) -> None:
        self._absence.refuse_others("prune")
        of_layers = self._layers, self._count, self.keep_min
        chosen = choice.choose_together(self._model, self._rank, *of_layers, self._generator)
        self._queue.fill(chosen)
        self._absence.add(self._queue.due())
        of = Counter(name for name, _ in chosen)
        _log.info("RePr leaves out %s", ", ".join(f"{n} filters of {name}" for name, n in of.items()))

    def _restore(self) -> None:
        if self._queue:
            warn_user(f"RePr: a sub-network phase ended before its first {self._queue.steps} optimizer steps")
            self._absence.add(self._queue.take(len(self._queue.filters)))
        found = self._absence.end(self.reinit, self.scale, self.reinit_next, self._generator)
        self.restarts = {kind: self.restarts.get(kind, 0) + found.get(kind, 0) for kind in {**self.restarts, **found}}
        _log.info("RePr brings filters back: %s in all", self.restarts)

    def _after_step(self) -> None:
        """Leave more of the queue out, or shrink it, after an optimizer step."""
        if self._queue:
            self._absence.add(self._queue.after_step(self._layers))

    def _options(self) -> dict[str, Any]:
        """What two runs must have in common for one to go on where the other stopped."""
        options = {name: getattr(self, name) for name in self.checks if name not in ("rank", "seed")}
        return options | {"layers": {name: layer.filters for name, layer in self._layers.items()}}
