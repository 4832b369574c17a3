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
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from filtersmith import Composition
from filtersmith.common.modules import unwrap
from filtersmith.common.options import bad_option, seed_number
from filtersmith.integrations.at_work import Seen, add_to, composed, network_in, put, scale_decay
from filtersmith.optim.lr import MakeScheduler
from filtersmith.reparam import Branches, Expansion

AVERAGES = {"StochasticWeightAveraging", "WeightAveraging"}
"""Callbacks that average weights, by name: Lightning goes by the package ``pytorch_lightning``, too."""


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
    ``filter_methods/penalty``. With manual optimization that accumulates or has several optimizers, add
    ``methods.penalty(images, outputs, labels)`` to each loss of the network by hand, scaled as the loss is.

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
            with the methods, a training without an end, a checkpoint without the methods' state, a second schedule,
            processes that leave the network behind (``ddp_spawn``).

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
        self.training: Composition = composed(methods)
        self._module, self._seed, self._scheduler = module, seed_number("seed", seed), scheduler
        self._owner: LightningModule | None = None
        self._network: nn.Module | None = None
        self._seen: Seen | None = None
        self._epochs = self._ended = self._steps = 0
        self._loaded: Mapping[str, Any] | None = None
        self._finished = self._replaced = self._ours = False

    @property
    def deployed(self) -> nn.Module:
        """The network to deploy, a new one: collapsed, averaged, complete. ``ValueError`` before fitting ends.

        Of the weights that the LightningModule has: after ``trainer.test(ckpt_path="best")`` of the best ones.
        ``ValueError`` then where more than the weights makes it: phases, or an average.
        """
        if self._owner is None or not self._finished:
            raise ValueError("deployed is there when fit() has ended; before it, training.deployed is a copy")
        if self._replaced and self._more_than_weights():
            raise ValueError(
                f"deployed must be taken before a checkpoint is loaded: of {self.training} the LightningModule has "
                "the weights alone"
            )
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
        elif self._owner is None:
            self._refuse_earlier_copies(trainer)
            if type(launcher := trainer.strategy.launcher).__name__ == "_MultiProcessingLauncher":
                raise bad_option(
                    "strategy", f"ddp_{launcher._start_method}", "'ddp': other processes would keep what they trained"
                )
            self._prepare_now_or_later(pl_module)
        elif stage == "fit" or not self._finished:
            raise ValueError("FilterMethods is at work on another LightningModule: make a new one for this")
        self._ours = self._owner in (None, pl_module)  # others may be tested when fitting has ended
        if stage == "fit":
            self._epochs = trainer.max_epochs or -1  # before averages of weights add one

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._refuse_begun(trainer, pl_module)
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
        self._refuse_unknown_end(trainer, pl_module)
        self._refuse_averages(trainer)
        for warning in self.training.warnings:
            rank_zero_warn(f"FilterMethods: {warning}")
        if (scaler := getattr(trainer.precision_plugin, "scaler", None)) is not None:
            scale_decay(self._network, scaler)
        self._seen = Seen(self.training, self._network, None if pl_module.automatic_optimization else optimizers)
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
        # No batch size is asked of a batch of whatever kind.
        pl_module.log("filter_methods/penalty", found.detach(), on_step=False, on_epoch=True, batch_size=1)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        found = found / trainer.accumulate_grad_batches
        add_to(loss, found if scaler is None else scaler.scale(found))  # the loss is scaled already

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
        if len(self.training.phases) > 1 and self._ended < self._epochs:
            rank_zero_warn(
                f"FilterMethods: training ended after {self._ended} of the {self._epochs} epochs of phases"
            )
        with _without_trainer(pl_module):
            self.training.finish()
        self._finished = True

    def state_dict(self) -> dict[str, Any]:
        if self._seen is None:
            return dict(self._loaded or {})
        return {"ended": self._ended, "training": self.training.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._finished:
            self._replaced |= self._ours
        elif state_dict:
            self._loaded, self._ended = state_dict, state_dict["ended"]
            self.training.load_state_dict(state_dict["training"])

    # --- help -----------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        event = self.training.end_epoch()
        self._ended += 1
        if event is not None:
            rank_zero_info(f"FilterMethods: after epoch {self._ended}: {event}")

    def _prepare_now_or_later(self, module: LightningModule) -> None:
        """Prepare the network where there is one; else when ``setup`` and ``configure_model`` have made it."""
        try:
            path = network_in(module, self._module)
        except ValueError:
            if "configure_model" in vars(module):
                raise
            made = module.configure_model

            def configure_model() -> None:
                made()
                self._prepare(module, network_in(module, self._module))
                del module.configure_model

            module.configure_model = configure_model
        else:
            self._prepare(module, path)

    def _prepare(self, module: LightningModule, path: str) -> None:
        with _without_trainer(module):
            prepared = self.training.prepare(network := module.get_submodule(path))
        if prepared is not network:
            put(module, path, prepared)
        self._owner, self._network = module, prepared
        for name, value in dict(module.hparams).items():
            if isinstance(value, nn.Module) and any(isinstance(one, Expansion) for one in value.modules()):
                raise ValueError(
                    "save_hyperparameters must leave out the network, which cannot be pickled with "
                    f"{self.training}: save_hyperparameters(ignore=[{name!r}])"
                )

    def _length(self, trainer: Trainer) -> int:
        """Epochs of the training."""
        if trainer.max_steps > 0 and not math.isinf(trainer.num_training_batches):
            whole = _epochs_of(trainer)
            self._epochs = whole if self._epochs < 1 else min(whole, self._epochs)
        if self._epochs < 1:
            raise ValueError(
                "max_epochs or max_steps (of a loader with a length) must be given: methods place their phases in "
                "them, got neither"
            )
        return self._epochs

    def _more_than_weights(self) -> bool:
        """Whether methods have phases or an average of their own: weights alone do not make the deployed network."""
        assert self._network is not None
        return len(self.training.phases) > 1 or self.training.trained is not unwrap(self._network)

    def _refuse_begun(self, trainer: Trainer, module: LightningModule) -> None:
        """``ValueError`` for what would go wrong without a word: another network, no state, two schedules."""
        if not any(one is self._network for one in module.modules()):
            raise ValueError(
                f"{type(module).__name__} has another network than FilterMethods has prepared: make it once, in "
                "__init__ or configure_model"
            )
        if trainer.global_step and self._loaded is None:
            raise ValueError(
                f"the checkpoint has no state of FilterMethods, which {self.training} needs to go on at step "
                f"{trainer.global_step}: load its weights alone, and begin a training"
            )
        if self._scheduler is not None and trainer.lr_scheduler_configs:
            raise ValueError("scheduler must be the only schedule, configure_optimizers has one, too: take it away")

    def _refuse_unknown_end(self, trainer: Trainer, module: LightningModule) -> None:
        """``ValueError`` where phases are to be placed in epochs that have any number of steps."""
        if len(self.training.phases) > 1 and trainer.max_steps > 0 and not module.automatic_optimization:
            raise bad_option(
                "max_steps",
                trainer.max_steps,
                f"-1, and max_epochs given, for the phases of {self.training}: by hand "
                "an epoch may have any number of steps",
            )

    def _refuse_earlier_copies(self, trainer: Trainer) -> None:
        """``ValueError`` where averages of weights have copied the network before it is prepared."""
        for other in trainer.callbacks[: trainer.callbacks.index(self)]:
            if _averages(other):
                raise ValueError(
                    f"FilterMethods must come before {type(other).__name__} in callbacks: that copies the network"
                )

    def _refuse_averages(self, trainer: Trainer) -> None:
        """``ValueError`` where weights are averaged, and the average is no network of what is trained."""
        assert self._network is not None
        for name in [type(other).__name__ for other in trainer.callbacks if _averages(other)]:
            if any(isinstance(module, Branches | Expansion) for module in self._network.modules()):
                raise ValueError(f"{name} does not go with {self.training}: an average of factors is none of kernels")
            if self._more_than_weights():
                raise ValueError(
                    f"{name} does not go with {self.training}, which has phases or an average of its own"
                )


def _averages(callback: Callback) -> bool:
    return any(base.__name__ in AVERAGES for base in type(callback).__mro__)


def _epochs_of(trainer: Trainer) -> int:
    """How many epochs ``max_steps`` are, of batches that are accumulated by a schedule as well."""
    schedules = [one for one in trainer.callbacks if isinstance(one, GradientAccumulationScheduler)]
    epochs, steps = 0, 0
    while steps < trainer.max_steps:
        each = [one.get_accumulate_grad_batches(epochs) for one in schedules] or [trainer.accumulate_grad_batches]
        steps += math.ceil(trainer.num_training_batches / each[0])
        epochs += 1
    return epochs


@contextmanager
def _without_trainer(module: LightningModule) -> Iterator[None]:
    """In here a copy of the LightningModule has no trainer."""
    prevent = getattr(module, "_prevent_trainer_and_dataloaders_deepcopy", nullcontext)
    with prevent():
        yield
