"""The methods in the ``Trainer`` of Hugging Face's transformers: one callback, and two lines before the Trainer.

The callback owns a `filtersmith.Composition`: it attaches to the optimizer that the Trainer has, adds what methods
add to the loss that the model computes, counts steps and epochs, writes the methods' state into the checkpoints, and
has the network to deploy when the training has ended.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from filtersmith import Composition
from filtersmith.common.options import bad_option, seed_number
from filtersmith.common.said import warn_user
from filtersmith.integrations.at_work import OfOne, composed, images_of, labels_of, put, scale_decay
from filtersmith.optim.lr import MakeScheduler

FILE = "filter_methods.pt"
"""In the folder of a checkpoint: the methods' state."""

_log = logging.getLogger("filtersmith")


class LeaveRates:
    """In the place of the Trainer's schedule: the learning rates stay as others set them.

    Example::

        optimizer = torch.optim.SGD(methods.param_groups(model, weight_decay=1e-4), lr=0.1)
        trainer = Trainer(model, args, callbacks=[methods], optimizers=(optimizer, LeaveRates(optimizer)))

    Source: own work.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, epoch: int | None = None) -> None:
        """Nothing."""

    def get_last_lr(self) -> list[float]:
        """The rates as they are now."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing."""


class FilterMethodsCallback(TrainerCallback):  # type: ignore[misc]
    """Methods by name in a transformers ``Trainer``.

    Example::

        methods = FilterMethodsCallback("kflo(width=4)+wau(0.5)")
        model = methods.prepare(model)  # before the optimizer is made
        optimizer = torch.optim.AdamW(methods.param_groups(model, weight_decay=0.01), lr=1e-3)
        trainer = Trainer(model, args, train_dataset=data, callbacks=[methods], optimizers=(optimizer, None))
        trainer.train()
        methods.deployed.save_pretrained("deployed")  # the plain model: same class, state_dict keys and cost

    Methods that change no network (``wau``, ``repr``, ``ema``) need neither of the two lines.

    Accumulation, clipping, mixed precision and several processes change nothing. Each checkpoint has the methods'
    state in ``filter_methods.pt``, and ``resume_from_checkpoint`` goes on from it. Evaluation tests the model in
    training: it computes what the deployed one does, but where methods average (``ema``) or are in a phase of their
    own.

    What methods add to the loss is added to the ``loss`` of the model's outputs. Where the Trainer has another loss
    (``compute_loss_func``, label smoothing), add ``methods.penalty(images, logits, labels)`` to it by hand.

    Args:
        methods: as `filtersmith.compose` takes them, or what it has composed.
        module: path of the network inside the model, by default all of it.
        seed: of methods that draw at random.
        scheduler: makes a schedule from an optimizer; it is stepped once per epoch, and started anew where a flow
            does. The Trainer needs `LeaveRates` then: ``optimizers=(optimizer, LeaveRates(optimizer))``. Without it
            the Trainer's schedule goes on.

    Attributes:
        training: the composition.

    Raises:
        ValueError: what `filtersmith.compose` refuses; when training begins what its ``attach`` refuses, a checkpoint
            without the methods' state, a second schedule, and ``load_best_model_at_end`` with methods that have
            phases or an average.

    Source: own work; `transformers.TrainerCallback`, https://huggingface.co/docs/transformers/main_classes/callback
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
        self._module, self._seed, self._scheduler = module or "", seed_number("seed", seed), scheduler
        self._network: nn.Module | None = None
        self._handle: Any = None
        self._ended = 0
        self._resume: Path | None = None
        self._unadded = self._endless = False
        self._finished = False

    # --- before the Trainer -----------------------------------------------------------------------------------

    def prepare(self, model: nn.Module) -> nn.Module:
        """Change the architecture and expand the network, before the optimizer is made. Returns the model.

        Raises:
            ValueError: no such module; what a method refuses of this network, which is as it was then.
        """
        network = self._inside(model)
        prepared = self.training.prepare(network)
        if prepared is network:
            return model
        if not self._module:
            return prepared
        put(model, self._module, prepared)
        return model

    def param_groups(
        self, model: nn.Module, weight_decay: float, *, scaler: GradScaler | None = None
    ) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer of a prepared model: see `filtersmith.Composition.param_groups`."""
        return self.training.param_groups(model, weight_decay, scaler=scaler)

    def resume(self, folder: str | Path) -> None:
        """The checkpoint that training will go on from, where it is not in the ``output_dir`` of the Trainer."""
        self._resume = Path(folder)

    # --- while it trains --------------------------------------------------------------------------------------

    def penalty(self, images: Any, outputs: Any, labels: Any) -> Tensor | float:
        """What the methods add to the loss of a batch, to be added by hand; then the callback adds nothing."""
        self._unadded = False
        return self.training.penalty(images, outputs, labels)

    @property
    def deployed(self) -> nn.Module:
        """The network to deploy, a new one: collapsed, averaged, complete. ``ValueError`` before training ends."""
        if not self._finished:
            raise ValueError("deployed is there when train() has ended; before it, training.deployed is a copy")
        return self.training.deployed

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = kwargs["model"]
        if self._network is not None:
            raise ValueError("FilterMethodsCallback has been through a training: make a new one, and a new model")
        network = self._inside(model)
        if self._scheduler is not None and not isinstance(kwargs.get("lr_scheduler"), LeaveRates):
            raise ValueError(
                "scheduler must be the only schedule, the Trainer has one, too: give it optimizers=(optimizer, "
                "LeaveRates(optimizer))"
            )
        if state.is_hyper_param_search:
            raise ValueError("FilterMethodsCallback must be a new one in each trial, which a search does not make")
        if state.global_step:
            self._load(self._resume or Path(args.output_dir) / f"checkpoint-{state.global_step}", network)
        self._attach(network, kwargs["optimizer"], state)
        if (scaler := getattr(kwargs["optimizer"], "scaler", None)) is not None:
            scale_decay(network, scaler)
        if args.load_best_model_at_end and (len(self.training.phases) > 1 or self.training.trained is not network):
            raise ValueError(
                f"load_best_model_at_end must be False with {self.training}, which has phases or an average of its "
                "own"
            )
        for warning in self.training.warnings:
            warn_user(f"FilterMethodsCallback: {warning}")
        self._network = network
        if self.training.penalty_takes is not None:
            add = torch.compiler.disable(self._add)  # a hook on its gradient is nothing to be compiled
            self._handle = model.register_forward_hook(OfOne(add), with_kwargs=True)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # A checkpoint of an epoch's last step was saved before the epoch ended here.
        while self._ended < int((state.epoch or 0) + 1e-6):
            self._end_epoch()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._unadded:
            raise ValueError(
                f"{self.training} adds a term to the loss that the model computes, and the Trainer has another one: "
                "add penalty(images, logits, labels) of the callback to it"
            )
        self.training.end_batch()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._end_epoch()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        assert self._network is not None
        saved = {"training": self.training.state_dict(), "ended": self._ended, "weights": _sum(self._network)}
        if state.is_world_process_zero:
            torch.save(saved, Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._handle is not None:
            self._handle.remove()
        self.training.finish()
        self._finished = True

    # --- help -------------------------------------------------------------------------------------------------

    def _inside(self, model: nn.Module) -> nn.Module:
        try:
            return model.get_submodule(self._module)
        except AttributeError:
            raise bad_option("module", self._module, f"the path of a module in {type(model).__name__}") from None

    def _attach(self, network: nn.Module, optimizer: Any, state: TrainerState) -> None:
        """``ValueError`` also for what needs epochs, of a dataset that has no length."""
        self._endless = state.num_train_epochs >= sys.maxsize
        epochs = 1 if self._endless else max(1, int(state.num_train_epochs))
        way_out = f"train_dataset must have a length for {self.training}: methods place their phases in epochs"
        if self._endless and self._scheduler is not None:
            raise ValueError(way_out)
        try:
            self.training.attach(network, optimizer, epochs=epochs, seed=self._seed, scheduler=self._scheduler)
        except ValueError as error:
            raise ValueError(way_out) if self._endless and "epoch" in str(error) else error from None
        if self._endless and len(self.training.phases) > 1:
            raise ValueError(way_out)

    def _end_epoch(self) -> None:
        if self._endless:  # one epoch is all of the training
            self._ended += 1
            return
        event = self.training.end_epoch()
        self._ended += 1
        if event is not None:
            _log.info("FilterMethodsCallback: after epoch %d: %s", self._ended, event)

    def _load(self, folder: Path, network: nn.Module) -> None:
        """The methods' state in a checkpoint whose weights were loaded. ``ValueError`` where it is that of others."""
        way_out = "call resume(folder) of FilterMethodsCallback with the checkpoint that train() goes on from"
        if not (folder / FILE).is_file():
            raise ValueError(f"{folder} has no {FILE}: {way_out}")
        saved = torch.load(folder / FILE, map_location="cpu", weights_only=True)
        if not torch.allclose(saved["weights"], _sum(network), rtol=1e-6):
            raise ValueError(
                f"{folder} has the methods' state of other weights than those that were loaded: {way_out}"
            )
        self.training.load_state_dict(saved["training"])
        self._ended = saved["ended"]

    def _add(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> Any:
        """After a forward pass of the model: its outputs, with what the methods add to the loss."""
        if not (model.training and torch.is_grad_enabled()):
            return None
        self._unadded = True
        loss, logits = _loss_and_logits(outputs)
        if loss is None:
            return None  # added by hand, or an error at the end of the step
        takes, items = self.training.penalty_takes or (), kwargs.get("num_items_in_batch")
        labels = labels_of(kwargs) if "labels" in takes or items is not None else None
        found = self.training.penalty(images_of(model, args, kwargs), logits, labels)
        if not isinstance(found, Tensor):
            return outputs
        # The items are those of all batches of a step, the loss is the sum over them.
        share = 1.0 if items is None else torch.as_tensor(labels).ne(-100).sum() / items
        found.register_hook(self._was_added)
        return _with_loss(outputs, loss + share * found)

    def _was_added(self, gradient: Tensor) -> None:
        self._unadded = False


def _loss_and_logits(outputs: Any) -> tuple[Any, Any]:
    """What a model has returned, as the Trainer reads it: a mapping, or a tuple that begins with the loss."""
    if isinstance(outputs, Mapping):
        return outputs.get("loss"), outputs.get("logits")
    if isinstance(outputs, tuple) and len(outputs) > 1 and isinstance(outputs[0], Tensor) and not outputs[0].ndim:
        return outputs[0], outputs[1]
    return getattr(outputs, "loss", None), getattr(outputs, "logits", None)


def _with_loss(outputs: Any, loss: Tensor) -> Any:
    """The same with another loss."""
    if isinstance(outputs, tuple):
        return (loss, *outputs[1:])
    outputs["loss"] = loss  # of a ModelOutput, too
    return outputs


def _sum(network: nn.Module) -> Tensor:
    """Of the absolute values of all parameters: tells weights from others."""
    return torch.stack([p.detach().double().abs().sum().cpu() for p in network.parameters()]).sum()
