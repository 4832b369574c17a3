"""Several methods by name, in any training loop, through one object that owns their whole lifecycle.

`compose` reads what is asked for; what it returns is prepared, attached, told of batches and epochs, finished. It
knows no method by name: `filtersmith.methods.lifecycle` says what it calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from filtersmith.common.modules import plain_name
from filtersmith.common.options import bad_option, check_state, whole_number
from filtersmith.common.phases import Phase
from filtersmith.common.snapshot import snapshot
from filtersmith.methods.advice import BEGUN
from filtersmith.methods.attachment import Attachment, Training
from filtersmith.methods.lifecycle import asks_for, call
from filtersmith.methods.outside import without_names
from filtersmith.methods.parts import Part, arranged
from filtersmith.methods.spelling import Spelled, of_object, read, write
from filtersmith.methods.untrained import check_parameters
from filtersmith.optim.lr import MakeScheduler
from filtersmith.pruning.deployed import refuse_what_stays_sliced
from filtersmith.reparam import param_groups

Resolve = Callable[[str], Any]


def compose(methods: str | Iterable[Any], *, resolve: Resolve | None = None) -> Composition:
    """Several methods, alone or joined by ``+``, as one object that takes them through any training loop.

    Architecture comes first (``dacnn``, ``regulators``), then a re-parametrization (``kflo``, ``do-conv``, ``acnet``,
    ``dbb``), then the rest in any order. ``baseline`` is plain training.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 10))
        >>> training = fs.compose("kflo(width=4)+wau(0.5)")
        >>> model = training.prepare(model)  # before the optimizer is made
        >>> optimizer = torch.optim.SGD(training.param_groups(model, weight_decay=1e-4), lr=0.1)
        >>> training.attach(model, optimizer, epochs=2)
        >>> for epoch in range(2):
        ...     for images, labels in [(torch.randn(4, 3, 8, 8), torch.arange(4))]:
        ...         outputs = model(images)
        ...         loss = torch.nn.functional.cross_entropy(outputs, labels)
        ...         (loss + training.penalty(images, outputs, labels)).backward()
        ...         optimizer.step()
        ...         optimizer.zero_grad()
        ...         training.end_batch()
        ...     event = training.end_epoch()
        >>> deployed = training.finish()
        >>> print(training, sum(p.numel() for p in deployed.parameters()))
        kflo(width=4)+wau(rate=0.5) 3114

    Args:
        methods: a text, or a list of texts and of objects that are made without a network (``fs.KFLO(width=4)``).
        resolve: makes something of a name that means something outside (a teacher's run). Without it such an option
            takes an object, and a text is refused.

    Returns:
        A `Composition`, not yet prepared or attached.

    Raises:
        ValueError: what the text alone shows to be wrong: an unknown name or option, a value out of range, an order
            or a combination that makes no sense. One line.

    Source: own work; the methods' cards name their papers (``filtersmith describe NAME``).
    """
    given = [methods] if isinstance(methods, str) else methods
    if isinstance(given, (Mapping, nn.Module)) or not isinstance(given, Iterable):
        raise bad_option(
            "methods", methods, "a text such as 'kflo(width=4)+wau(0.5)', or a list of texts and objects"
        )
    items = list(given)
    if not items:
        raise bad_option("methods", items, "at least one text or object; 'baseline' is plain training")
    parts: list[Part] = []
    for item in items:
        if isinstance(item, str):
            spelled = read(item)
            if not spelled and len(items) > 1:
                raise bad_option("methods", item, "without 'baseline' where there are others")
            parts += [Part.of_text(one, resolve) for one in spelled]
        else:
            parts.append(Part(of_object(item), item))
    return Composition(arranged(parts))


class Composition:
    """Methods that go through a training together, as one object.

    It is made by `filtersmith.compose`, whose docstring has a whole loop.

    Example:
        >>> import torch, filtersmith as fs
        >>> training = fs.compose("repr(s1=2,s2=1,cycles=1)+conv-lr(0.5)")
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 2, 3))
        >>> optimizer = torch.optim.SGD(training.param_groups(training.prepare(model), weight_decay=0.0), lr=0.1)
        >>> training.attach(model, optimizer, epochs=4)
        >>> [tuple(phase) for phase in training.phases]
        [('full', 0, 2), ('sub', 2, 3), ('full', 3, 4)]
        >>> [(training.end_epoch(), training.deployable) for epoch in range(4)]
        [(None, True), ('pruned', False), ('restored', True), (None, True)]

    The order of calls: `prepare`, `param_groups`, `attach`; `penalty` and `end_batch` in each batch, `end_epoch`
    after each epoch; `finish`. Each says in its own docstring what it takes and raises (Args, Raises).

    Attributes:
        warnings: what will run, but hardly as it was meant, a sentence each; known once it is attached.

    Source: own work; the methods' cards name their papers (``filtersmith describe NAME``).
    """

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts = parts
        self._made: set[str] | None = None  # the parameters that `prepare` made, by name
        self._attachment: Attachment | None = None
        self._pending: Mapping[str, Any] | None = None
        self.warnings: list[str] = []

    def __str__(self) -> str:
        return write(self.spelled)

    def __repr__(self) -> str:
        return f"compose({str(self)!r})"

    @property
    def spelled(self) -> tuple[Spelled, ...]:
        """The methods with their options, in order."""
        return tuple(part.spelled for part in self._parts)

    # --- before the optimizer is made -----------------------------------------------------------------------

    def prepare(self, model: nn.Module) -> nn.Module:
        """Change the architecture and expand the network, before the optimizer is made and before DDP.

        Returns:
            ``model`` itself, changed in place; another network only where a method says so.

        Raises:
            ValueError: what a method refuses of this network; it is as it was. Called twice.
        """
        if not isinstance(model, nn.Module):
            raise bad_option("model", type(model).__name__, "a torch.nn.Module")
        if self._made is not None:
            raise ValueError("prepare() was called already: compose anew for another network")
        changing = [part for part in self._parts if part.prepares]
        before = {plain_name(name) for name, _ in model.named_parameters()}
        restore, generator = snapshot(model) if changing else None, torch.get_rng_state()
        try:
            for part in changing:
                model = part.prepare(model)
        except BaseException:
            if restore is not None:
                restore()
            for part in changing:
                part.forget()
            torch.set_rng_state(generator)
            raise
        self._made = {plain_name(name) for name, _ in model.named_parameters()} - before
        return model

    def param_groups(
        self, model: nn.Module, weight_decay: float, *, scaler: GradScaler | None = None
    ) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer: `filtersmith.param_groups`, and what the methods train themselves.

        Args:
            model: as `prepare` returned it.
            weight_decay: as an optimizer takes it.
            scaler: the gradient scaler, if the loss is scaled (float16).
        """
        groups = param_groups(model, weight_decay, scaler=scaler)
        own = [p for part in self._parts for p in part.parameters()]
        return [*groups, {"params": own, "weight_decay": weight_decay}] if own else groups

    def schedule_epochs(self, epochs: int) -> int:
        """How many epochs one learning-rate schedule has to cover: a flow starts it anew in each of its phases."""
        whole_number("epochs", epochs, 1)
        return max([part.schedule_epochs(epochs) for part in self._parts if part.restarts], default=epochs)

    def attach(
        self,
        model: nn.Module,
        optimizer: Any,
        *,
        epochs: int,
        seed: int = 0,
        scheduler: MakeScheduler | None = None,
        schedule_by: str = "epoch",
        held_out: Iterable[Any] | None = None,
    ) -> None:
        """Put the methods to work on an optimizer; from here on its steps are theirs, too.

        Args:
            model: the network that `prepare` returned; wrapped in DDP or compiled as well.
            optimizer: one, or a list of several.
            epochs: the budget, in which methods place the phases that the text leaves open.
            seed: of methods that draw at random and were given none; of their own generators.
            scheduler: makes a schedule from an optimizer. It is stepped here, and started anew where a flow does;
                without it your own goes on.
            schedule_by: ``"epoch"`` or ``"batch"``: what one step of the schedule is.
            held_out: batches ``(images, labels)`` that nothing is trained on, for criteria that need data; they have
                to be there more than once (a list, a DataLoader).

        Raises:
            ValueError: what a method refuses; a parameter of a method, or of a layer that was expanded too late, that
                no optimizer has; attached already. Model and optimizer are as they were.
        """
        if self._attachment is not None:
            raise ValueError("attach() was called already: compose anew for another training")
        training = Training.checked(model, optimizer, epochs, seed, scheduler, schedule_by, held_out)
        if self._made is None and any(part.prepares for part in self._parts):
            raise ValueError(f"attach() of {str(self)!r} comes after prepare(model) and after the optimizer is made")
        found = check_parameters(model, optimizer, self._made or set())
        attachment = Attachment(self._parts, training)
        try:
            if self._pending is not None:
                attachment.load_state_dict(self._pending)
        except BaseException:
            attachment.undo()
            raise
        unresumed = [BEGUN] if self._pending is None and attachment.begun else []
        self._attachment, self._pending = attachment, None
        self.warnings = [*found, *attachment.warnings, *unresumed]

    def change_architecture(self, model: nn.Module) -> nn.Module:
        """Only the changes that last: the network that will be deployed, untrained; to load its weights into."""
        for part in self._parts:
            if not part.spelled.record.same_network:
                model = Part(part.spelled, options=part.options).prepare(model)  # not the object that is at work
        return model

    # --- while it runs --------------------------------------------------------------------------------------

    def penalty(self, images: Any, outputs: Any, labels: Any) -> Tensor | float:
        """What the methods add to the loss of a batch: a scalar with a gradient, or 0 where none adds anything."""
        given = {"images": images, "outputs": outputs, "labels": labels}
        terms = [call(part.made.penalty, given) for part in self._attached().parts if part.has("penalty")]
        return sum(terms[1:], terms[0]) if terms else 0.0

    def end_batch(self) -> None:
        """After each optimizer step, accumulated or not."""
        self._attached().end_batch()

    def end_epoch(self) -> str | None:
        """After each epoch. Returns ``"pruned"``, ``"restored"``, ``"phase"`` (a new one has begun) or ``None``."""
        return self._attached().end_epoch()

    def finish(self) -> nn.Module:
        """End the training: bring back what is left out, take all hooks away. Harmless when done already.

        Returns:
            The network to deploy, a new one: collapsed, averaged, complete. Of sharded weights (FSDP2) the network
            itself, whose shards nobody can copy here.
        """
        self._attached().finish()
        return self.deployed

    @property
    def trained(self) -> nn.Module:
        """The network that the deployed one is made of: the one in training, or its average."""
        return self._attached().source

    @property
    def deployed(self) -> nn.Module:
        """A copy of the network that would be deployed now, for tests: plain, whatever is trained.

        What is left out for a time is 0 in it, also where it is an average. Where zeros do not make the network
        without some filters, it computes with fewer, as the trained one does.
        """
        return self._attached().deployed()

    def deployed_state_dict(self) -> dict[str, Any]:
        """The ``state_dict`` of `deployed`: what to save as the model. To resume, save ``model.state_dict()``.

        Raises:
            ValueError: a sub-phase in which zeros do not make the network without a layer's filters.
        """
        network = self.deployed
        refuse_what_stays_sliced(network)
        return network.state_dict()

    @property
    def penalty_takes(self) -> frozenset[str] | None:
        """Which of ``images``, ``outputs``, ``labels`` `penalty` reckons with; ``None``: no method adds a term."""
        terms = [part.cls.penalty for part in self._parts if hasattr(part.cls, "penalty")]
        named = {name for term in terms for name in asks_for(term) if name != "self"}
        return frozenset(named) if terms else None

    @property
    def plain_loss(self) -> bool:
        """Whether a method's `penalty` reckons with the plain cross entropy as the loss that it is added to."""
        return any(part.has("plain_loss") for part in self._parts)

    @property
    def deployable(self) -> bool:
        """Whether `deployed` is complete; false while a method leaves some of it out for a time."""
        return all(part.made.deployable for part in self._attached().parts if part.has("deployable"))

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of the training, by epoch; a single one where no method divides it."""
        return self._attached().phases

    @property
    def parameters_kept(self) -> int:
        """How many parameters are deployed: shared ones once, those that are pruned for good not at all."""
        for part in self._attached().parts:
            if part.has("parameters_kept"):
                return int(part.made.parameters_kept)
        return sum(parameter.numel() for parameter in self.deployed.parameters())

    def state_dict(self) -> dict[str, Any]:
        """What the methods and the schedule need to go on; weights and optimizer have their own states."""
        return {"methods": without_names(self.spelled), **self._attached().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was saved, after weights and optimizer were loaded; also before `attach`.

        Learning rates are put back where `attach` was given ``scheduler``. Else they are the optimizer's own, and a
        schedule of yours may have set the next epoch's already.

        Raises:
            ValueError: the state of other methods or of another set-up; nothing has changed then.
        """
        now = {"methods": without_names(self.spelled), "epoch": 0, "parts": None, "schedule": None}
        check_state("a composition", state, now, ("methods",))
        if self._attachment is None:
            self._pending = state
        else:
            self._attachment.load_state_dict(state)
            self.warnings = [one for one in self.warnings if one != BEGUN]

    # --- help -----------------------------------------------------------------------------------------------

    def _attached(self) -> Attachment:
        if self._attachment is None:
            raise ValueError("the methods are at work from attach() on: call attach(model, optimizer, epochs=...)")
        return self._attachment
