"""Methods with several optimizers: one for each parameter that steps in the backward pass, and one for each kind.

Each is compared with the same training by one optimizer, whose arithmetic is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Muon
from torch.optim.lr_scheduler import StepLR

import filtersmith as fs

EPOCHS, STEPS = 6, 2


class Net(nn.Module):
    """``matrices`` are what torch's Muon takes, parameters of two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 6, 3, padding=1)
        self.hidden = nn.Linear(6, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.bn(self.first(x)).relu()).relu()
        x = self.third(x).relu().mean((2, 3))
        return self.head(self.hidden(x).relu())  # type: ignore[no-any-return]


def sgd(parameters: Iterable[Any]) -> Any:
    return SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3, foreach=False)


Loop = Callable[[nn.Module, Any, Tensor], None]
"""The backward pass of a loss, and the steps of the optimizers with it or after it."""


def one(model: nn.Module) -> tuple[Any, Loop]:
    return sgd(model.parameters()), _after


def several(model: nn.Module) -> tuple[Any, Loop]:
    """One for each parameter, stepped one after the other."""
    return [sgd([p]) for p in model.parameters()], _after


def in_backward(model: nn.Module) -> tuple[Any, Loop]:
    """As torch's tutorial and torchtune have it: each steps as soon as its parameter's gradient is there."""
    optimizers = {p: sgd([p]) for p in model.parameters()}

    def step(parameter: Tensor) -> None:
        optimizers[parameter].step()  # type: ignore[index]
        optimizers[parameter].zero_grad()  # type: ignore[index]

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    return list(optimizers.values()), lambda model, given, loss: loss.backward()


def by_kind(model: nn.Module) -> tuple[Any, Loop]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    return [Muon(matrices, lr=0.01), AdamW(others, lr=0.01)], _after


def _after(model: nn.Module, given: Any, loss: Tensor) -> None:
    loss.backward()
    for optimizer in given if isinstance(given, list) else [given]:
        optimizer.step()
        optimizer.zero_grad()


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, 6, 6, generator=generator), torch.randint(4, (8,), generator=generator)


Seen = list[dict[str, Tensor]]


def train(text: str, setup: Callable[[nn.Module], tuple[Any, Loop]]) -> tuple[Seen, list[str | None], nn.Module]:
    """The weights after each batch, what each epoch told, and the network that is deployed."""
    model, training = Net(), fs.compose(text)
    model = training.prepare(model)  # type: ignore[assignment]
    optimizers, loop = setup(model)
    training.attach(model, optimizers, epochs=EPOCHS, seed=0, scheduler=lambda o: StepLR(o, 2))
    seen, events = [], []
    for epoch in range(EPOCHS):
        for n in range(STEPS):
            images, labels = batch(epoch * STEPS + n)
            outputs = model(images)
            loop(model, optimizers, F.cross_entropy(outputs, labels) + training.penalty(images, outputs, labels))
            training.end_batch()
            seen.append({name: value.detach().clone() for name, value in model.state_dict().items()})
        events.append(training.end_epoch())
    return seen, events, training.finish()


METHODS = [
    "baseline",
    "wau(0.5)",
    "asa(0.5)",
    "flow(rates=(0.3,1.0,0.7))",
    "conv-lr(0.5)",
    "ema(decay=0.5)",
    "repr(s1=2,s2=1,cycles=1,prune=0.3)",
    "dsd(s1=2,s2=1,cycles=1,prune=0.3)",
    "prune(after=1,share=0.3)",
    "ortho-loss(0.1)",
    "kflo(width=2)",
    "wau(0.5)+ema(decay=0.5)",
    "repr(s1=2,s2=1,cycles=1,prune=0.3)+ema(decay=0.5)",
]


by_one = cache(partial(train, setup=one))
"""What each is compared with."""

DRAWS = ("wau", "asa", "flow")
"""What draws for each optimizer as it steps: in the backward pass that is another order, and another draw."""


@pytest.mark.parametrize("setup", [several, in_backward])
@pytest.mark.parametrize("text", METHODS)
def test_one_for_each_parameter_is_one_for_all(text: str, setup: Any) -> None:
    ours, theirs = train(text, setup), by_one(text)
    assert ours[1] == theirs[1]
    if setup is in_backward and text.startswith(DRAWS):
        assert counts(ours[0]) == counts(theirs[0])
        return
    for n, (mine, yours) in enumerate(zip(ours[0], theirs[0], strict=True)):
        for name, value in mine.items():
            assert torch.equal(value, yours[name]), f"{name} after batch {n}"
    for name, value in ours[2].state_dict().items():
        assert torch.equal(value, theirs[2].state_dict()[name]), f"{name} deployed"


def held(before: Tensor, after: Tensor) -> int:
    """How many filters did not move."""
    return int((before == after).flatten(1).all(1).sum())


def counts(seen: Seen) -> list[dict[str, int]]:
    """How many filters of each weight every batch but the first held."""
    return [
        {name: held(value, after[name]) for name, value in before.items() if value.ndim > 1}
        for before, after in pairwise(seen)
    ]


def test_the_masks_of_steps_in_the_backward_pass_are_those_of_that_batch() -> None:
    model, plain = Net(), Net()
    (optimizers, loop), twin = in_backward(model), sgd(plain.parameters())
    wau = fs.WAU(model, rate=0.5, seed=0).attach(optimizers)
    for n in range(6):
        images, labels = batch(n)
        loop(model, optimizers, F.cross_entropy(model(images), labels))
        before = {name: p.detach().clone() for name, p in plain.named_parameters()}
        _after(plain, twin, F.cross_entropy(plain(images), labels))
        assert set(wau.active) == {"first", "second", "third"}
        with torch.no_grad():
            for name, mask in wau.active.items():
                plain.get_parameter(f"{name}.weight")[~mask] = before[f"{name}.weight"][~mask]
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_of_two_kinds_each_holds_its_own() -> None:
    """With Muon for the matrices WAU holds filters of the convolutions, which AdamW has, and of named matrices."""
    for text, moved in (("wau(0.5)", False), ("wau(0.5,layers=['second','hidden'])", True)):
        seen, _, _ = train(text, by_kind)
        for before, after in pairwise(seen):
            assert held(before["second.weight"], after["second.weight"]) == 4
            assert held(before["hidden.weight"], after["hidden.weight"]) == (4 if moved else 0)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("repr(s1=2,s2=1,cycles=1,prune=0.3)", [None, "pruned", "restored", None, None, None]),
        ("dsd(s1=2,s2=1,cycles=1,prune=0.3)", [None, "pruned", "restored", None, None, None]),
    ],
)
def test_of_two_kinds_all_keep_still_what_is_left_out(text: str, events: list[str | None]) -> None:
    seen, told, _ = train(text, by_kind)
    assert told == events
    sparse = seen[2 * STEPS : 3 * STEPS]
    if text.startswith("dsd"):
        for name in ("second.weight", "hidden.weight"):
            zeros = [weights[name] == 0 for weights in sparse]
            assert all(torch.equal(zeros[0], other) for other in zeros), name
            assert int(zeros[0].sum()) == round(0.3 * zeros[0].numel()), name
    else:
        still = sum(held(sparse[0][f"{name}.weight"], sparse[1][f"{name}.weight"]) for name in ("second", "third"))
        assert still == round(0.3 * (8 + 6))


def test_of_two_kinds_the_average_is_taken_once_all_have_stepped() -> None:
    seen, _, deployed = train("ema(decay=0.5,warmup=False)", by_kind)
    for name, value in deployed.named_parameters():
        average = seen[0][name]
        for weights in seen[1:]:
            average = 0.5 * average + 0.5 * weights[name]
        torch.testing.assert_close(value, average, msg=name)
