"""A composition in a trainer that somebody else keeps: what the callbacks have in common.

A trainer tells of batches and epochs, and computes the loss by itself. What a method adds to the loss is reckoned
from what went through the network last, which a hook of its forward pass sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith import Composition, compose
from filtersmith.common.options import bad_option

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
        f"module must name the network among the children of {type(owner).__name__}, which has {children}"
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


class Seen:
    """What went through a network since the last backward pass, for what a composition adds to the loss.

    Args:
        training: the composition, attached.
        network: in training.
    """

    def __init__(self, training: Composition, network: nn.Module) -> None:
        self._training = training
        self._batch: Any = None
        self._calls: list[tuple[Any, Any]] = []
        adds = training.penalty_takes is not None
        self._handle = network.register_forward_hook(OfOne(self._see), with_kwargs=True) if adds else None

    def begin(self, batch: Any) -> None:
        """A batch that the network is about to see."""
        self._batch, self._calls = batch, []

    def forget(self) -> None:
        """What was seen is accounted for."""
        self._calls = []

    def penalty(self) -> Tensor | None:
        """What the methods add to the loss of what was seen, once; ``None`` where nothing is to be added."""
        calls, self._calls = self._calls, []
        if not calls:
            return None
        takes = self._training.penalty_takes or frozenset()
        if len(calls) > 1 and takes:
            raise ValueError(
                f"the network was called {len(calls)} times for one loss, to which {self._training} adds a term: add "
                "penalty(images, outputs, labels) of the callback to the loss by hand"
            )
        images, outputs = calls[-1]
        labels = labels_of(self._batch) if "labels" in takes else None
        found = self._training.penalty(images, outputs, labels)
        return found if isinstance(found, Tensor) else None

    def end(self) -> None:
        """See nothing any more."""
        if self._handle is not None:
            self._handle.remove()

    def _see(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        if network.training and torch.is_grad_enabled():
            self._calls.append((args[0] if args else next(iter(kwargs.values()), None), outputs))
