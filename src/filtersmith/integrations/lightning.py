"""The methods in a Lightning ``Trainer``: one callback, and the LightningModule stays as it is.

The callback owns a `filtersmith.Composition`: it prepares the network before the optimizers are made and before DDP,
attaches to them when their states have been loaded, adds what methods add to the loss, counts steps and epochs, keeps
the methods' state in the checkpoints, and has the network to deploy when the training has ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from filtersmith import Composition
from filtersmith.common.options import seed_number
from filtersmith.integrations.at_work import Seen, composed, network_in, put
from filtersmith.optim.lr import MakeScheduler
from filtersmith.reparam import Branches, Expansion

try:
    from lightning.pytorch.callbacks import WeightAveraging
except ImportError:  # Lightning 2.5 and older have none
    AVERAGES: tuple[type[Callback], ...] = (StochasticWeightAveraging,)
else:
    AVERAGES = (StochasticWeightAveraging, WeightAveraging)


class FilterMethods(Callback):  # type: ignore[misc]
    """Methods by name in a Lightning ``Trainer``.

    Example::

        methods = FilterMethods("kflo(width=4)+wau(0.5)")
        trainer = lightning.Trainer(max_epochs=90, callbacks=[methods])
        trainer.fit(module, loader)
        deployed = methods.deployed  # the plain network: same class, state_dict keys and cost

    and in the LightningModule, so that what is computed decays as what it is made of (without expansion, or without
    weight decay, ``self.parameters()`` will do)::

        def configure_optimizers(self):
            return torch.optim.SGD(fs.param_groups(self.net, weight_decay=1e-4), lr=0.1, momentum=0.9)

    Manual and automatic optimization, clipping, accumulation, mixed precision and ``strategy="ddp"`` change nothing.
    A checkpoint has the weights in training (expanded ones, say) and the methods' state; ``ckpt_path`` goes on from
    it. Validation tests the network in training: it computes what the deployed one does, but where methods average
    (``ema``) or are in a phase of their own. ``methods.training.deployed`` is a copy of the deployed one at any time.

    What methods add to the loss is added before the backward pass, to the loss of the batch; it is logged as
    ``filter_methods/penalty``. With manual optimization that accumulates, add ``methods.penalty(images, outputs,
    labels)`` to each loss by hand, scaled as the loss is.

    Args:
        methods: as `filtersmith.compose` takes them, or what it has composed.
        module: path of the network inside the LightningModule (``"net"``), ``""`` for all of it. By default the one
            child that has convolutions in training, or the LightningModule where convolutions are its own children.
        seed: of methods that draw at random.
        scheduler: makes a schedule from an optimizer; it is stepped once per epoch, and started anew where a flow
            does. Without it those of ``configure_optimizers`` go on.

    Attributes:
        training: the composition.

    Raises:
        ValueError: what `filtersmith.compose` refuses; when fitting begins what ``prepare`` and ``attach`` refuse, a
            network that cannot be found, averages of weights (StochasticWeightAveraging) that do not go together
            with the methods, a training without an end.

    Source: own work; `lightning.pytorch.Callback`, https://lightning.ai/docs/pytorch/stable/extensions/callbacks.html
    """

    def __init__(
        self,
        methods: str | Iterable[Any] | Composition,
        *,
        module: str | None = None,
        seed: int = 0,
        scheduler: MakeScheduler | None = None,
    ) -> None:
        self.training = composed(methods)
        self._module, self._seed, self._scheduler = module, seed_number("seed", seed), scheduler
        self._owner: LightningModule | None = None
        self._network: nn.Module | None = None
        self._seen: Seen | None = None
        self._epochs = self._ended = self._steps = 0
        self._added_at = -1
        self._loaded: Mapping[str, Any] | None = None
        self._finished = False

    @property
    def deployed(self) -> nn.Module:
        """The network to deploy, a new one: collapsed, averaged, complete. ``ValueError`` before fitting ends."""
        if self._owner is None or not self._finished:
            raise ValueError("deployed is there when fit() has ended; before it, training.deployed is a copy")
        with _without_trainer(self._owner):
            return self.training.deployed

    def penalty(self, images: Any, outputs: Any, labels: Any) -> Tensor | float:
        """What the methods add to the loss of a batch, to be added by hand; then the callback adds nothing."""
        if self._seen is not None:
            self._seen.forget()
        return self.training.penalty(images, outputs, labels)

    # --- what Lightning calls -------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._owner is pl_module:
            if stage == "fit" and self._seen is not None:
                raise ValueError(
                    "FilterMethods has been through a training: make a new one, and a new network, for this"
                )
            return
        if self._owner is not None:
            raise ValueError("FilterMethods is at work on another LightningModule: make a new one for this")
        self._refuse_earlier_copies(trainer)
        path = network_in(pl_module, self._module)
        with _without_trainer(pl_module):
            prepared = self.training.prepare(network := pl_module.get_submodule(path))
        if prepared is not network:
            put(pl_module, path, prepared)
        self._owner, self._network = pl_module, prepared
        self._epochs = trainer.max_epochs or -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._network is not None
        optimizers: list[Optimizer] = trainer.optimizers
        with _without_trainer(pl_module):
            self.training.attach(
                self._network,
                optimizers[0] if len(optimizers) == 1 else optimizers,
                epochs=self._length(trainer),
                seed=self._seed,
                scheduler=self._scheduler,
            )
        self._refuse_averages(trainer)
        for warning in self.training.warnings:
            rank_zero_warn(f"FilterMethods: {warning}")
        self._seen = Seen(self.training, self._network)
        self._steps = trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A checkpoint of the end of an epoch's validation was saved before the epoch ended here.
        while self._ended < min(trainer.current_epoch, self._epochs):
            self._end_epoch()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert self._seen is not None
        self._seen.begin(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if self._seen is None or (found := self._seen.penalty()) is None:
            return
        if not pl_module.automatic_optimization:
            if self._added_at == trainer.global_step:
                raise ValueError(
                    f"{self.training} adds a term to the loss, and by hand several losses make one step: add "
                    "penalty(images, outputs, labels) of FilterMethods to each, scaled as the loss is"
                )
            self._added_at = trainer.global_step
        pl_module.log("filter_methods/penalty", found.detach(), on_step=False, on_epoch=True)
        loss.add_((found / trainer.accumulate_grad_batches).to(loss))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self._steps:  # none where gradients accumulate
            self._steps = trainer.global_step
            self.training.end_batch()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._ended < self._epochs:  # not in the one that averages of weights add
            self._end_epoch()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._seen is not None:
            self._seen.end()
        with _without_trainer(pl_module):
            self.training.finish()
        self._finished = True

    def state_dict(self) -> dict[str, Any]:
        if self._seen is None:
            return dict(self._loaded or {})
        return {"ended": self._ended, "training": self.training.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict:
            self._loaded, self._ended = state_dict, state_dict["ended"]
            self.training.load_state_dict(state_dict["training"])

    # --- help -----------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        event = self.training.end_epoch()
        self._ended += 1
        if event is not None:
            rank_zero_info(f"FilterMethods: after epoch {self._ended}: {event}")

    def _length(self, trainer: Trainer) -> int:
        """Epochs of the training."""
        if trainer.max_steps > 0:
            steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
            whole = math.ceil(trainer.max_steps / steps)
            self._epochs = whole if self._epochs < 1 else min(whole, self._epochs)
        if self._epochs < 1:
            raise ValueError("max_epochs or max_steps must be given: methods place their phases in them, got neither")
        return self._epochs

    def _refuse_earlier_copies(self, trainer: Trainer) -> None:
        """``ValueError`` where averages of weights have copied the network before it is prepared."""
        for other in trainer.callbacks[: trainer.callbacks.index(self)]:
            if isinstance(other, AVERAGES):
                raise ValueError(
                    f"FilterMethods must come before {type(other).__name__} in callbacks: that copies the network"
                )

    def _refuse_averages(self, trainer: Trainer) -> None:
        """``ValueError`` where weights are averaged, and the average is no network of what is trained."""
        assert self._network is not None
        for name in [type(other).__name__ for other in trainer.callbacks if isinstance(other, AVERAGES)]:
            if any(isinstance(module, Branches | Expansion) for module in self._network.modules()):
                raise ValueError(f"{name} does not go with {self.training}: an average of factors is none of kernels")
            if len(self.training.phases) > 1 or self.training.trained is not self._network:
                raise ValueError(
                    f"{name} does not go with {self.training}, which has phases or an average of its own"
                )


@contextmanager
def _without_trainer(module: LightningModule) -> Iterator[None]:
    """In here a copy of the LightningModule has no trainer."""
    prevent = getattr(module, "_prevent_trainer_and_dataloaders_deepcopy", nullcontext)
    with prevent():
        yield
