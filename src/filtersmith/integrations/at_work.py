"""A composition in a trainer that somebody else keeps: what the callbacks have in common.

A trainer tells of batches and epochs, and computes the loss by itself. What a method adds to the loss is reckoned
from what went through the network last, which a hook of its forward pass sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import Optimizer

from filtersmith import Composition, compose
from filtersmith.common.options import bad_option
from filtersmith.reparam import Expansion, originals

LABELS = ("labels", "label", "targets", "target", "y")
"""Names by which the labels of a batch go."""


def composed(methods: str | Iterable[Any] | Composition) -> Composition:
    """What was composed already, as it is."""
    return methods if isinstance(methods, Composition) else compose(methods)


def network_in(owner: nn.Module, path: str | None) -> str:
    """Where in a module the network is that is to be trained: a path for ``get_submodule``, ``""`` for all of it.

    Args:
        owner: such as a LightningModule.
        path: as its user named it, or ``None``: the child that has convolutions in training. Where convolutions are
            children themselves, the module is the network.

    Raises:
        ValueError: there is none, or there are several; or no module of that name.

    >>> owner = nn.ModuleDict({"net": nn.Sequential(nn.Conv2d(3, 8, 3)), "head": nn.Linear(8, 2)})
    >>> network_in(owner, None)
    'net'
    """
    if path is not None:
        if not isinstance(path, str) or path not in dict(owner.named_modules(remove_duplicate=False)):
            raise bad_option("module", path, f"the path of a module in {type(owner).__name__}, such as 'net'")
        return path
    found = [name for name, child in owner.named_children() if any(map(_is_trained, child.modules()))]
    if any(isinstance(owner.get_submodule(name), _ConvNd) for name in found):
        return ""
    if len(found) == 1:
        return found[0]
    children = (
        f"several with convolutions: {', '.join(found)}" if found else "none with convolutions that are trained"
    )
    raise ValueError(
        f"module must name the network among the children of {type(owner).__name__}, or be '' for all of it: it has "
        f"{children}"
    )


def _is_trained(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and any(p.requires_grad for p in module.parameters())


def put(owner: nn.Module, path: str, network: nn.Module) -> None:
    """Another network in the place of a child. ``ValueError`` where it is no child."""
    parent, _, name = path.rpartition(".")
    if not name:
        raise ValueError("module must be a child: a method puts another network in the place of this one")
    setattr(owner.get_submodule(parent), name, network)


def labels_of(batch: Any) -> Any:
    """The labels of a batch: the second of a pair, or what goes by one of the names in `LABELS`.

    Raises:
        ValueError: there are none.

    >>> labels_of(("images", "labels")), labels_of({"pixel_values": 1, "labels": 2})
    ('labels', 2)
    """
    if isinstance(batch, (tuple, list)) and len(batch) > 1:
        return batch[1]
    if isinstance(batch, Mapping) and (names := [name for name in LABELS if name in batch]):
        return batch[names[0]]
    raise ValueError(
        f"a batch must be a pair of images and labels, or have one of {', '.join(LABELS)}; nobody knows those of "
        f"a {type(batch).__name__}: add penalty(images, outputs, labels) of the callback to the loss by hand"
    )


def images_of(network: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a network was called with: its ``main_input_name``, the first by place, or the first that is no label.

    >>> images_of(nn.Identity(), (), {"labels": 1, "pixel_values": 2})
    2
    """
    named = kwargs.get(getattr(network, "main_input_name", ""))
    if named is not None:
        return named
    return next(iter([*args, *(value for name, value in kwargs.items() if name not in LABELS)]), None)


class OfOne:
    """A hook of one network: a copy of the network, and what is saved of it, has one that does nothing."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        self._hook = hook

    def __call__(self, *given: Any) -> Any:
        return self._hook(*given)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return _no_hook, ()


def _no_hook() -> Callable[..., None]:
    return _ignore


def _ignore(*_: Any) -> None:
    return None


def add_to(loss: Tensor, term: Tensor) -> None:
    """Add to a loss in place, for its backward pass alone: its value stays, which that pass may need (a root's)."""
    value = loss.detach().clone()
    with _unsafe_preserve_version_counter(loss):
        loss.add_(term.to(loss))
        loss.detach().copy_(value)


def scale_decay(network: nn.Module, scaler: GradScaler) -> None:
    """Scale the decay of computed kernels as the loss is scaled, which the trainer's own scaler does (float16)."""
    for module in network.modules():
        for tensor in getattr(module, "parametrizations", {}).values() if is_parametrized(module) else ():
            if isinstance(how := tensor[0], Expansion) and how.decay:
                how.set_decay(how.decay, scaler, originals(tensor))


class Seen:
    """What went through a network since the last backward pass, for what a composition adds to the loss.

    Args:
        training: the composition, attached.
        network: in training.
        by_hand: the optimizers, where a user's own code steps them. What is added to the loss of a step is watched
            then; with several nobody knows which loss is the network's.
    """

    def __init__(self, training: Composition, network: nn.Module, by_hand: Sequence[Optimizer] | None = None) -> None:
        self._training, self._by_hand = training, by_hand
        self._batch: Any = None
        self._calls: list[tuple[Any, Any]] = []
        self._within: list[int] = []
        self._added = False
        self._handles: list[Any] = []
        if training.penalty_takes is None:
            return
        self._handles += [
            network.register_forward_pre_hook(OfOne(self._enter)),
            network.register_forward_hook(OfOne(self._see), with_kwargs=True),
        ]
        ours = {id(parameter) for parameter in network.parameters()}
        for one in by_hand or ():
            if any(id(parameter) in ours for group in one.param_groups for parameter in group["params"]):
                self._handles.append(one.register_step_post_hook(self._stepped))

    def begin(self, batch: Any) -> None:
        """A batch that the network is about to see."""
        self._batch, self._calls, self._within = batch, [], []
        self._added = self._added and self._by_hand is not None

    def forget(self) -> None:
        """What was seen is accounted for, by hand."""
        self._calls, self._added = [], True

    def penalty(self) -> Tensor | None:
        """What the methods add to the loss of what was seen, once; ``None`` where nothing is to be added."""
        takes = self._training.penalty_takes
        if takes is None or (self._by_hand is not None and len(self._by_hand) > 1):
            return None
        calls, self._calls = self._calls, []
        if not calls and (self._added or self._by_hand is not None):
            return None
        if self._added and self._by_hand is not None:
            raise ValueError(
                f"{self._training} adds a term to the loss, and by hand several losses make one step: add "
                "penalty(images, outputs, labels) of the callback to each, scaled as the loss is"
            )
        if len(calls) != 1 and takes:
            raise ValueError(
                f"the network was called {len(calls)} times for one loss, to which {self._training} adds a term: add "
                "penalty(images, outputs, labels) of the callback to the loss by hand"
            )
        images, outputs = calls[-1] if calls else (None, None)
        labels = labels_of(self._batch) if "labels" in takes else None
        found = self._training.penalty(images, outputs, labels)
        self._added = True
        return found if isinstance(found, Tensor) else None

    def end(self) -> None:
        """See nothing any more."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, *_: Any) -> None:
        self._within.append(len(self._calls))

    def _see(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        before = self._within.pop() if self._within else 0
        # A call with others in it is a trainer's, which takes a whole training step through the network's forward.
        if torch.is_grad_enabled() and len(self._calls) == before:
            self._calls.append((images_of(network, args, kwargs), outputs))

    def _stepped(self, *_: Any) -> None:
        if not self._added:
            raise ValueError(
                f"{self._training} adds a term to the loss, and this step was made without it: add "
                "penalty(images, outputs, labels) of the callback to the network's loss by hand"
            )
        self._added = False
