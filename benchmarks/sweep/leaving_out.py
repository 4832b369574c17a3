"""Checks of RePr, Prune and of the look at a network: against the oracle, and against the network as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import SGD

import filtersmith as fs
from benchmarks.sweep.outcome import RefusedError, WrongError, expect, made
from benchmarks.sweep.subject import Found, Subject, difference, equal, run
from filtersmith.filters import outputs_of

MODES = {False: "in evaluation", True: "in training"}
LOOKS = ("prune", "kflo", "acnet", "dacnn")
T = TypeVar("T")


def looked_at(subject: Subject) -> None:
    """Reading a network leaves it and the process as they were."""
    network = subject.make()
    before = Looks(network)
    for look in (fs.channel_graph, *(lambda model, name=name: fs.why_not(model, name) for name in LOOKS)):
        try:
            look(network)
        except ValueError as error:
            expect("\n" not in str(error), f"refused in more than one line: {error}")
    before.expect_the_same(network, "after a look")


def sub_network(subject: Subject) -> None:
    """RePr's sub-network: outputs, gradients and running statistics are the oracle's."""
    network = subject.make()
    whole = subject.copied(network)
    cycle = tried(network, lambda: _repr(network))
    expect(cycle.step() == "pruned", "nothing was pruned")
    gone = _some(cycle.pruned)
    for training, where in MODES.items():
        right = run(subject, subject.copied(whole), training=training, gone=gone)
        if not training:
            _expect_to_show(subject, whole, right)
        equal(run(subject, network, training=training), right, where)


def restored(subject: Subject) -> None:
    """What comes back is the network as it was; with new filters, one of the same kind."""
    network = subject.make()
    before = Looks(network)
    right = run(subject, subject.copied(network), training=False)
    cycle = tried(network, lambda: _repr(network, reinit="none"))
    expect(cycle.step() == "pruned" and cycle.step() == "restored", "it was not pruned and restored")
    cycle.finish()
    before.expect_the_same(network, "restored")
    equal(run(subject, network, training=False), right, "restored")
    network = subject.make()
    before = Looks(network)
    cycle = tried(network, lambda: _repr(network))
    expect(cycle.step() == "pruned" and cycle.step() == "restored", "it was not pruned and restored")
    cycle.finish()
    before.expect_the_same(network, "restored with new filters", values=False)
    for name, tensor in network.state_dict().items():
        expect(not tensor.is_floating_point() or bool(tensor.isfinite().all()), f"restored: {name} is not finite")


def pruned(subject: Subject) -> None:
    """Prune: the oracle's outputs from the event on, and the same ones from plain zeros after ``finish()``."""
    network = subject.make()
    whole = subject.copied(network)
    kinds = _kinds(network)
    pruning = tried(network, lambda: fs.Prune(network, _sgd(network), after=1, share=0.4, first_layer=True))
    expect(pruning.step() == "pruned", "nothing was pruned")
    gone = _some(pruning.pruned)
    oracle = subject.copied(whole)
    for training, where in MODES.items():
        right = run(subject, oracle, training=training, gone=gone)
        if not training:
            _expect_to_show(subject, whole, right)
        equal(_outputs(run(subject, network, training=training)), _outputs(right), where)
    at_last = run(subject, network, training=False)
    pruning.finish()
    equal(_outputs(run(subject, network, training=False)), _outputs(at_last), "after finish()")
    right = run(subject, oracle, training=True, gone=gone)
    equal(_outputs(run(subject, network, training=True)), _outputs(right), "in training after finish()")
    expect(_kinds(network) == kinds, "finish() leaves other classes than there were")


def ranked(subject: Subject) -> None:
    """A finite number for every filter of each layer, on weights and on data; the network stays as it was."""
    network = subject.make()
    before = Looks(network)
    images = subject.images(True)
    data = [(images[0], torch.zeros(len(images[0]), dtype=torch.int64, device=subject.device))]
    one = len(images) == 1 and isinstance(images[0], Tensor)
    for criterion in ("ortho", "activation", "taylor") if one else ("ortho",):
        given: dict[str, Any] = {} if criterion == "ortho" else {"data": data}
        given |= {"loss": _squares} if criterion == "taylor" else {}
        scores = tried(network, lambda c=criterion, g=given: fs.rank(network, c, **g))  # type: ignore[misc]
        modules = dict(network.named_modules())
        expect(bool(scores), f"{criterion}: no layer is ranked")
        for name, numbers in scores.items():
            filters = outputs_of(modules[name])
            expect(
                numbers.shape == (filters,), f"{criterion}: {len(numbers)} numbers for {filters} filters of {name}"
            )
            expect(bool(numbers.isfinite().all()), f"{criterion}: a number of {name} is not finite")
    before.expect_the_same(network, "after ranking")


# --- what they share -----------------------------------------------------------------------------------------


def tried(network: nn.Module, make: Callable[[], T]) -> T:
    """What is made, or a refusal; a refusal leaves the network as it was."""
    before = Looks(network)
    try:
        return made(make)
    except RefusedError:
        before.expect_the_same(network, "after a refusal")
        raise


class Looks:
    """A network and the process at some time: tensors, classes, hooks, modes, and what random numbers come next."""

    def __init__(self, network: nn.Module) -> None:
        self._state = {key: value.clone() for key, value in _tensors(network).items()}
        self._kinds, self._attributes, self._random = _kinds(network), _attributes(network), _next_numbers()

    def expect_the_same(self, network: nn.Module, when: str, *, values: bool = True) -> None:
        expect(_kinds(network) == self._kinds, f"{when} modules have other classes")
        attributes = _attributes(network)
        for key in {**self._attributes, **attributes}:
            expect(attributes.get(key) == self._attributes.get(key), f"{when} {key} is another")
        state = _tensors(network)
        expect(state.keys() == self._state.keys(), f"{when} it has other tensors")
        for key, tensor in state.items() if values else ():
            same = torch.equal(tensor, self._state[key]) or difference(tensor, self._state[key]) == 0
            expect(same, f"{when} {key} is another")
        expect(not values or _next_numbers() == self._random, f"{when} other random numbers come next")


def _repr(network: nn.Module, **options: Any) -> fs.RePr:
    return fs.RePr(
        network, _sgd(network), s1=1, s2=1, cycles=1, prune=0.3, rank="random", first_layer=True, **options
    )


def _sgd(network: nn.Module) -> SGD:
    return SGD([p for p in network.parameters() if p.requires_grad], lr=0.01, momentum=0.9)


def _some(gone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: mask for name, mask in gone.items() if mask.any()}


def _expect_to_show(subject: Subject, whole: nn.Module, right: Found) -> None:
    """Otherwise nothing would be seen."""
    plain = run(subject, subject.copied(whole), training=False)
    if all(difference(plain.outputs[key], value) < 1e-9 for key, value in right.outputs.items()):
        raise WrongError("what is left out does not show in the outputs: the check sees nothing")


def _outputs(found: Found) -> Found:
    return Found(found.outputs, {}, {})


def _squares(outputs: Any, _: Any) -> Tensor:
    from torch.utils._pytree import tree_leaves

    return sum((leaf**2).mean() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))  # type: ignore[return-value]


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _kinds(network: nn.Module) -> dict[str, type]:
    return {name: type(module) for name, module in network.named_modules()}


def _attributes(network: nn.Module) -> dict[str, Any]:
    """What modules hold beside tensors: hooks by their number, lists and dicts by their length, all else itself."""
    found = {}
    for name, module in network.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor):  # computed anew in each pass: by weight norm's hook
                continue
            if isinstance(value, (dict, list, set)):
                found[f"{name}.{key}"] = (type(value), len(value))
            elif isinstance(value, (int, float, str, bool, tuple, type(None))):
                found[f"{name}.{key}"] = (type(value), str(value))
            else:
                found[f"{name}.{key}"] = (type(value), id(value))
    return found


def _next_numbers() -> tuple[Any, ...]:
    """Of the generators that a network may draw from, which go on as they were."""
    return (torch.get_rng_state().tolist(), random.getstate())
