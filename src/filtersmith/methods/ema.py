"""EMA: exponential moving average of the weights.

**Paper.** *Acceleration of Stochastic Approximation by Averaging*, Polyak and Juditsky, SIAM Journal on Control and
Optimization 30(4), 1992, https://doi.org/10.1137/0330046; a comparison of KFLO (Sec. 4). The average is torch's
``AveragedModel``.

**What it does.** After every step it moves a second set of parameters a little towards the trained ones, and deploys
that one. Training itself does not change::

    average <- decay * average + (1 - decay) * parameter

The average starts as the parameters after the first step. At the next ones the decay is warmed up: with t steps in
the average, it is ``min(decay, (1 + t) / (10 + t))``, so that the average reaches back about a tenth of the training
until ``decay`` is reached (0.999: after 9,000 steps). Buffers (running statistics of batch norms) are copied.

**When to use it.** With a learning rate that stays high to the end, whose last weights are noisy. Once the optimizer
is made; deploy ``ema.network``::

    training = fs.compose("ema(decay=0.999)")  # in any loop; joined with others: "wau+ema"
    ema = fs.EMA(model, decay=0.999, warmup=True).attach(optimizer)  # alone

**When not to use it.** With a learning rate that ends at zero: the last weights hardly move, and their average is
nearly what they are. Without the warm-up and with few steps: a decay of 0.999 reaches back 1,000 steps, to weights
that were worse. With pruning for good, whose zeros the average would lack (``fs.compose`` refuses it).

**Options.** ``decay`` 0.999 (the KFLO paper does not state its own); 0 makes it the trained network exactly.
``warmup=False``: the decay is the same from the second step on, as in the papers.

**Where paper, authors' code and we differ.** Neither paper warms the decay up; the rule is that of TensorFlow's
``ExponentialMovingAverage`` with ``num_updates``, which counts one more: it starts from the untrained network, where
we start from the first step's. Polyak and Juditsky weigh all steps alike, which no decay does. The KFLO paper gains
at most 0.07 points.

**Compatibility.** Every optimizer that moves the weights that are deployed (``docs/compatibility.md``), gradient
scalers, DDP, ``torch.compile``; not FSDP, whose shards are no network to deploy. Of an expanded network (KFLO and its
family) the factors are averaged, not their products: ``fs.collapse(ema.network)`` deploys it. Expand before.
What RePr or DSD leave out for a time, the average still has: test and save a copy of it, with ``leave_out_of(copy)``
of theirs, or what ``fs.compose`` deploys, where that is done.

**Measured results.** With ``warmup=False`` on CIFAR-10 (JPEG) with Cifar-quick, 15 epochs, 2 seeds: 79.0% against
79.3% of plain training (KFLO paper, 150 epochs: no difference). The decay reaches back 2.6 epochs there, in which the
weights still got better. On C^3(32) 71.5% against 71.6%. Both schedules end at zero. On digits with 200 images, 20
seeds, with the warm-up, the difference is −0.01 [−0.04, +0.02] points (95% interval). All tables:
``results/README.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from filtersmith.common.modules import is_sharded, unwrap
from filtersmith.common.options import Check, below_one, check_state, yes_or_no
from filtersmith.filters import Need, cannot, layers_left_out
from filtersmith.optim.steps import AVERAGED, Rounds
from filtersmith.pruning.deployed import whole


def decay_after(steps: int, decay: float, warmup: bool) -> float:
    """The share of an average of so many steps that stays when the next one comes.

    >>> [round(decay_after(steps, 0.999, warmup=True), 3) for steps in (1, 8, 80, 8_989, 8_990)]
    [0.182, 0.5, 0.9, 0.999, 0.999]
    """
    return min(decay, (1 + steps) / (10 + steps)) if warmup else decay


class EMA:
    """Average the weights of a network over its training, and deploy the average.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        >>> ema = fs.EMA(model, decay=0.9, warmup=False).attach(optimizer)
        >>> start = model.weight.item()
        >>> model.weight.sum().backward()
        >>> for step in range(2):  # each moves the weight by -1, and the second the average by a tenth of that
        ...     optimizer.step()
        ...     print(f"{model.weight.item() - start:.1f} {ema.network.weight.item() - start:.1f}")
        -1.0 -1.0
        -2.0 -1.1

    Args:
        model: the network; wrapped in DDP or compiled as well. Expand it before.
        decay: share of the old average that stays at each step, in [0, 1); 0.999 by default. 0 is plain training.
        warmup: whether no more than ``(1 + t) / (10 + t)`` of it stays while few steps t are in it; so by default.

    Attributes:
        network: the averaged network, the one to deploy, a copy: call its own ``eval()`` before testing it.

    Raises:
        ValueError: an option out of range, a layer that is still lazy, sharded weights (FSDP); from `attach` what is
            no optimizer, or a second one; from a step where the network was expanded since.

    Source: Polyak and Juditsky, 1992, https://doi.org/10.1137/0330046; the average is ``torch.optim.swa_utils``'s
    """

    checks: ClassVar[dict[str, Check]] = {"decay": below_one, "warmup": yes_or_no}

    def __init__(self, model: nn.Module, decay: float = 0.999, warmup: bool = True) -> None:
        self.decay: float = below_one("decay", decay)
        self.warmup: bool = yes_or_no("warmup", warmup)
        self._refuse(model)
        self._model = unwrap(model)
        self._averaged = AveragedModel(self._model, multi_avg_fn=self._average)
        whole(self._averaged)  # it averages all filters, also those that are left out now
        self._rounds: Rounds | None = None

    @staticmethod
    def why_not(model: nn.Module, **_: Any) -> dict[str, str]:
        """Layer -> why its weights are not averaged, for `filtersmith.why_not`."""
        return layers_left_out(model, need=Need(linear="always", rows=False, whole=True))

    @classmethod
    def _refuse(cls, model: nn.Module) -> None:
        for name, reason in cls.why_not(model).items():
            raise cannot(name, "be averaged", reason, way_out="")
        if is_sharded(model):
            raise ValueError(
                "cannot average sharded weights, of which no process rank has all (use DistributedDataParallel)"
            )

    @property
    def network(self) -> nn.Module:
        """The averaged network; before the first step, a copy of the trained one."""
        self._close()
        return self._averaged.module

    def attach(self, optimizer: Any) -> EMA:
        """Average after every step of ``optimizer``; of several, when all of them have stepped."""
        if self._rounds is not None:
            raise ValueError("already attached to an optimizer: call detach() first")
        self._refuse(self._model)  # it may have been sharded since
        self._rounds = Rounds("EMA", AVERAGED, optimizer, self._after, has_state=True)
        return self

    def detach(self) -> None:
        """Stop averaging; the average stays. Harmless where nothing is attached."""
        if self._rounds is not None:
            self._rounds.steps.warn_if_unseen()
            self._rounds.detach()
        self._rounds = None

    def state_dict(self) -> dict[str, Any]:
        """The average and how far it is."""
        self._close()
        return {"decay": self.decay, "warmup": self.warmup, "averaged": self._averaged.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved average. ``ValueError`` if it was saved with other options."""
        if isinstance(state, Mapping) and "decay" in state:
            state = {"warmup": False, **state}  # one from before there was a warm-up: the plain rule
        check_state("EMA", state, self.state_dict(), ("decay", "warmup"))
        self._averaged.load_state_dict(state["averaged"])
        if self._rounds is not None:
            self._rounds.steps.own_state_was_loaded()

    def _close(self) -> None:
        """Average what all optimizers that take part have done since."""
        if self._rounds is not None:
            self._rounds.close()

    def _average(self, averages: Any, parameters: Any, _: Any) -> None:
        """Move averages towards parameters, as `AveragedModel` asks for it from the second step on."""
        # Its own count is on the CPU; the one that it hands over is on the parameters' device, and reading it waits.
        decay = decay_after(int(self._averaged.n_averaged), self.decay, self.warmup)
        get_ema_multi_avg_fn(decay)(averages, parameters, None)

    def _after(self) -> None:
        if len(list(self._model.parameters())) != len(list(self._averaged.module.parameters())):
            raise ValueError("the network has other parameters than when EMA was made: expand it before")
        self._averaged.update_parameters(self._model)
