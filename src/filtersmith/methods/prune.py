"""Prune: pruning by magnitude, once and for good.

**Paper.** *Pruning Filters for Efficient ConvNets*, Li et al., ICLR 2017, Sec. 3 (``"filter"``),
https://arxiv.org/abs/1608.08710; *Learning both Weights and Connections for Efficient Neural Networks*, Han et al.,
NeurIPS 2015, Sec. 3 (``"weight"``), https://arxiv.org/abs/1506.02626; what DACNN is compared with (Table 8).

**What it does.** Trains the network for ``after`` epochs, prunes it once, trains what is left, and deploys that:

    "filter": of every layer the share of the filters f with the smallest s(f) = sum |W_f| goes (Li)
    "weight": of all layers together the share of the weights w with the smallest |w| goes (Han)

With ``"filter"`` training goes on in the really smaller network, which is cheaper. What the filters have for
themselves and what reads their channels is 0, so that the deployed network of full shape gives what the smaller one
does. With ``"weight"`` the pruned weights are 0 after every step; nothing gets cheaper.

**When to use it.** As a comparison at an equal number of parameters. ``step()`` at the end of every epoch::

    training = fs.compose("prune(share=0.5)")  # in any loop; pruned after half of the epochs
    pruning = fs.Prune(model, optimizer, after=10, share=0.5)  # alone
    event = pruning.step()  # once per epoch: None or "pruned"; pruning.finish() before deploying

**When not to use it.** To deploy a network that is faster or smaller in memory: the shapes stay, with zeros in them.
Where the smaller network can be trained from the start: at 38 thousand parameters that gave 75.0%, pruned filters
73.3%. With a schedule that has no useful rate left after ``after``.

**Options.** ``after=10`` epochs and ``share=0.5`` are ours, for no paper has one number; a share of 0 switches
everything off exactly. ``unit`` ``"filter"`` or ``"weight"``. ``layers``: by name, by default every convolution that
may lose filters, or all convolutions and linear layers. ``first_layer=True``: the first convolution loses filters,
too. One filter of each layer stays; of weights a layer of small ones may lose all.

**Where paper, authors' code and we differ.** Li et al. choose a share for each layer by its sensitivity, Han et al. a
threshold for each layer, in several rounds: here one share and one round for all. In residual networks Li et al.
prune a block's output as its shortcut's; here only the branch's contribution goes, as in RePr. DACNN's six rows are
cited from others; their ratios are of parameters: ``share=s`` leaves about ``(1-s)^2`` of a plain network's.

**Compatibility.** ``"filter"``: as RePr, transposed networks too; `Prune.left_whole` says which convolutions stay
whole and why. A weight that cannot be 0 in places (weight norm, a shared kernel, a standardised one) stays as it is:
channels that come to it as 0 by themselves may go, others stay. ``"weight"``: all layers, as DSD.
Layers that the optimizer does not have, or that are frozen, stay as they are, and nothing is written into what is
frozen: where a frozen norm or reader would have to have zeros, the layer before it stays whole. Optimizers: see
``docs/compatibility.md``. Gradient scalers, DDP (rank 0 decides; filters not with ``static_graph``),
``torch.compile``, and resuming. Once pruned, ``model.state_dict()`` is the model at any time, and a copy
(``deepcopy``) is plain and has the zeros. An average (EMA) made before keeps a fading rest of what was pruned: make
it when ``step`` gave ``"pruned"``. Expanded networks (KFLO and its family) and sharded weights are refused; of
kernels that layers share weights may go (once for all), filters not.

**Measured results.** On CIFAR-10 (JPEG), nine layers of 32 channels (75 thousand parameters), 10 epochs, pruned after
5, 2 seeds: 76.7% whole; half of the weights gone 76.2%, 85% gone 70.8%; 30% of each layer's filters gone 73.3% (38
thousand parameters left), 60% gone 64.5% (16 thousand). On digits with 200 images, 20 seeds, pruning 30% of the
filters differs by −0.08 [−0.40, +0.23] points (95% interval), a free network of that size by −0.17 [−0.68, +0.35].
All tables: ``results/README.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from filtersmith.common.distributed import follow_first
from filtersmith.common.modules import unwrap
from filtersmith.common.options import (
    Check,
    at_least,
    bad_option,
    below_one,
    check_options,
    check_state,
    names_or_none,
    one_of,
    whole_number,
    yes_or_no,
)
from filtersmith.common.phases import Phase
from filtersmith.common.said import warn_user
from filtersmith.common.subphase import Owner, refuse_sub_phase
from filtersmith.common.words import plural
from filtersmith.filters import FilterLayer, filter_major, layers_left_out, transposed_groups
from filtersmith.graph.channels import ChannelGraph, channel_graph
from filtersmith.optim.ownership import warn_of_unowned
from filtersmith.optim.state import refuse_unclear
from filtersmith.optim.wrappers import owned_by
from filtersmith.pruning.eligibility import (
    layers_not_pruned,
    log_what_stays,
    moved_by,
    prunable_layers,
    refuse_kernels,
)
from filtersmith.pruning.frozen import held_by_frozen
from filtersmith.pruning.magnitude import smallest_filters, smallest_weights
from filtersmith.pruning.masks import (
    SINGLE_WEIGHTS,
    forget_statistics,
    single_weights,
    without_filters,
)
from filtersmith.pruning.plan import plan
from filtersmith.pruning.subnetwork import leave_out, restore
from filtersmith.pruning.zeros import KeptAtZero

PruneUnit = Literal["filter", "weight"]
UNITS: tuple[PruneUnit, ...] = ("filter", "weight")

_log = logging.getLogger("filtersmith")


class Prune:
    """Prune the smallest filters or weights once and for good, and train the rest.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 2, 3))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> pruning = fs.Prune(model, optimizer, after=2, share=0.5)
        >>> [pruning.step() for epoch in range(3)], pruning.parameters_kept, pruning.finish()  # step() each epoch
        ([None, 'pruned', None], 590, None)

    Args:
        model: the network; wrapped in DDP or compiled as well.
        optimizer: of its weights, one or a list of several.
        after: calls of `step` (epochs, as a rule) before it is pruned, at least 1; 10 by default.
        share: of each layer's filters, or of all layers' weights, that goes, in [0, 1); 0.5 by default. 0: off.
        unit: ``"filter"`` (default) or ``"weight"``.
        first_layer: whether the first convolution may lose filters, too; not by default. Weights it may always lose.
        layers: names of the layers; by default all that may be pruned.

    Attributes: ``left_whole``, convolution -> why it never loses filters; empty for weights.

    Raises:
        ValueError: an option out of range; an unknown layer, or one that cannot lose filters; none that can;
            expanded, sharded or lazy kernels; no optimizer. The model is as it was.

    Source: Li et al., Sec. 3, https://arxiv.org/abs/1608.08710; Han et al., https://arxiv.org/abs/1506.02626
    """

    after: int
    share: float
    unit: PruneUnit
    first_layer: bool
    in_epochs: ClassVar[tuple[str, ...]] = ("after",)
    checks: ClassVar[dict[str, Check]] = {
        "after": at_least(1),
        "share": below_one,
        "unit": one_of(UNITS),
        "first_layer": yes_or_no,
        "layers": names_or_none,
    }

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        after: int = 10,
        share: float = 0.5,
        *,
        unit: PruneUnit = "filter",
        first_layer: bool = False,
        layers: Iterable[str] | None = None,
    ) -> None:
        vars(self).update(check_options(self.checks, after=after, share=share, unit=unit, first_layer=first_layer))
        if not isinstance(model, nn.Module):
            raise bad_option("model", type(model).__name__, "a torch.nn.Module")
        self._network = unwrap(model)
        self._owner = Owner("Prune")
        refuse_sub_phase(self._network.modules(), "make Prune")
        owned = owned_by(optimizer)  # refuses what is none, before anything is looked up
        self._given = optimizer  # has all parameters also where the innermost one has those of one rank
        self._channels: ChannelGraph | None = None
        self._alone: Container[str] = ()  # layers whose weights stay as they are
        self.left_whole: dict[str, str] = {}
        if unit == "weight":
            self._layers = {layer.name: layer for layer in single_weights(model, layers)}
        else:
            refuse_kernels(self._network)
            self._channels = channel_graph(self._network)
            self._layers, self.left_whole, self._alone = prunable_layers(
                self._network, self._channels, first_layer, layers, optimizer
            )
            restore(self._channels)  # a copy that was made of another one's sub-network
        warn_of_unowned("Prune", {name: layer.weight for name, layer in self._layers.items()}, owned)
        refuse_unclear("Prune", optimizer, self._layers.values())
        self._epochs = 0
        self._finished = False
        self._pruned: dict[str, Tensor] = {}
        self._zeros = KeptAtZero("Prune", optimizer)
        log_what_stays("Prune", self.left_whole)

    @classmethod
    def for_training(
        cls,
        model: nn.Module,
        optimizer: Any,
        epochs: int,
        useful_epochs: int,
        *,
        after: int | None = None,
        **options: Any,
    ) -> Prune:
        """Pruned after half the budget where no epoch is given. ``ValueError`` where none follows the pruning."""
        if after is None:
            after = max(1, min(epochs // 2, useful_epochs))
        if whole_number("after", after, 1) >= epochs:
            raise bad_option("epochs", epochs, f"above after={after}, so that the pruned network is trained, too")
        return cls(model, optimizer, after, **options)

    def timeline(self, epochs: int) -> list[Phase]:
        """Before and after the pruning; a single phase where nothing is pruned."""
        if not self.share:
            return [Phase("full", 0, epochs)]
        return [Phase("full", 0, self.after), Phase("sub", self.after, epochs)]

    @staticmethod
    def why_not(
        model: nn.Module,
        *,
        unit: PruneUnit = "filter",
        first_layer: bool = False,
        layers: Iterable[str] | None = None,
        **_: Any,
    ) -> dict[str, str]:
        """Layer -> why it is not pruned, for `filtersmith.why_not`; where Prune refuses the network, why."""
        if unit == "weight":
            return layers_left_out(model, layers, replace(SINGLE_WEIGHTS, trained=True))
        return layers_not_pruned(unwrap(model), channel_graph(unwrap(model)), first_layer, layers)

    @property
    def phase(self) -> Literal["full", "sub"]:
        """``"sub"`` from the event ``"pruned"`` on, for good."""
        return "sub" if self._pruned else "full"

    @property
    def pruned(self) -> dict[str, Tensor]:
        """Layer name -> bool, shape ``(filters,)`` or the weight's, on the CPU: what went. Empty before."""
        return {name: mask.clone() for name, mask in self._pruned.items()}

    @property
    def parameters_kept(self) -> int:
        """How many parameters of the network are not pruned; before the event ``"pruned"`` all of them.

        Without filters: those of the smaller network, which has neither what the filters have for themselves nor the
        input channels that others have for them.
        """
        total = sum(parameter.numel() for parameter in self._network.parameters())
        return total - sum(int(mask.sum()) for mask in self._zeros.entries.values())

    def step(self) -> Literal["pruned"] | None:
        """Call at the end of each epoch.

        Returns:
            ``"pruned"`` at the end of epoch ``after``, else ``None``.

        Raises:
            ValueError: after `finish`.
        """
        if self._finished:
            raise ValueError("step() must not be called after finish(): make a new Prune to go on")
        self._zeros.steps.warn_if_unseen()
        now = self._epochs + 1 == self.after and self.share > 0
        if now:
            self._prune()
        self._epochs += 1
        return "pruned" if now else None

    def finish(self) -> None:
        """Give the network its full shape, with zeros for what was pruned, and remove the hook. Harmless if done."""
        if self._finished:
            return
        if self.share and not self._pruned:
            warn_user(f"Prune: nothing was pruned: finish() before the end of epoch {self.after}")
        self._zeros.apply()
        self._finished = True
        self._zeros.detach()
        self._settle()

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, and what was pruned; weights and optimizer have their own."""
        return {**self._options(), "epochs": self._epochs, "finished": self._finished, "pruned": self.pruned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was saved. ``ValueError`` if it was another set-up; nothing has changed then."""
        check_state("Prune", state, self.state_dict(), self._options())
        for name, mask in state["pruned"].items():
            layer = self._layers.get(name)
            if layer is None or mask.shape != ((layer.filters,) if self.unit == "filter" else layer.weight.shape):
                raise ValueError(f"not a state of Prune: a mask of shape {tuple(mask.shape)} for layer {name!r}")
        refuse_sub_phase(self._network.modules(), "load the state of Prune", self._owner)
        if state["finished"]:
            self._zeros.detach()
        else:
            self._zeros.attach()
        self._zeros.steps.own_state_was_loaded()
        self._epochs, self._finished = state["epochs"], state["finished"]
        self._pruned = {name: mask.to("cpu", copy=True) for name, mask in state["pruned"].items()}
        self._settle()

    def __repr__(self) -> str:
        options = f"after={self.after}, share={self.share}, unit={self.unit!r}"
        return f"Prune({options}, {plural(len(self._layers), 'layer')})"

    def _options(self) -> dict[str, Any]:
        """What two runs must have in common for one to go on where the other stopped."""
        options = {name: getattr(self, name) for name in ("after", "share", "unit", "first_layer")}
        return options | {"layers": {name: list(layer.weight.shape) for name, layer in self._layers.items()}}

    def _prune(self) -> None:
        layers = moved_by(self._given, self._layers.values())
        if self._channels is not None:
            refuse_sub_phase(self._network.modules(), "prune", self._owner)
            held = held_by_frozen(self._channels, self._alone)  # as it is now
            self.left_whole |= {layer.name: held[layer.name] for layer in layers if layer.name in held}
            layers = [layer for layer in layers if layer.name not in held]
            gone = {layer.name: smallest_filters(_filters(layer), self.share) for layer in layers}
        else:
            masks = smallest_weights([layer.weight for layer in layers], self.share) if layers else []
            gone = {layer.name: mask for layer, mask in zip(layers, masks, strict=True)}
        for mask in gone.values():  # in the last bits of the weights, ranks may differ
            follow_first(mask)
        if not any(mask.any() for mask in gone.values()):
            warn_user(f"Prune: share={self.share} of so few {self.unit}s is none: nothing is pruned")
        self._pruned = gone
        self._settle()
        if self._channels is not None:
            forget_statistics(plan(self._channels, gone, self._alone))
        self._zeros.apply()
        of = ", ".join(f"{int(mask.sum())} of {mask.numel()} in {name}" for name, mask in gone.items())
        _log.info("Prune takes away %s %ss; %s parameters are left", of, self.unit, self.parameters_kept)

    def _settle(self) -> None:
        """What follows of what is pruned now: which entries are 0, and whether filters are left out."""
        if self._channels is None:
            self._zeros.entries = {(self._layers[name].module, "weight"): mask for name, mask in self._pruned.items()}
        else:
            smaller = plan(self._channels, self._pruned, self._alone)
            if self._finished:
                restore(self._channels, self._owner)
            else:
                leave_out(smaller, owner=self._owner)
            self._zeros.entries = without_filters(smaller)


def _filters(layer: FilterLayer) -> Tensor:
    return filter_major(layer.weight.detach(), transposed_groups(layer.module))
