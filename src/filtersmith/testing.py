"""The contract: what every method owes its users, as checks that run for any registered method.

``python -m filtersmith.testing NAME`` runs them and says in plain words what is missing. Those that train do so
for seven epochs of two steps, on a small network, with the options that the method's record names as ``tried``.
"""

from __future__ import annotations

import copy
import io
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import StepLR

from filtersmith.common.options import first_line, unknown_name
from filtersmith.methods import METHODS, Method
from filtersmith.methods.composition import Composition, compose
from filtersmith.methods.spelling import Spelled

EPOCHS, STEPS = 7, 2
HEADINGS = ("What it does", "When to use it", "When not to use it", "Options", "Compatibility", "Measured results")
"""Of a card, behind ``**Paper.**`` or ``**Source.**``."""


class SmallNetwork(nn.Module):
    """Every kind of layer, two equal ones and a residual sum among them: ``(b, 3, 6, 6)`` to ``(b, 4)``."""

    def __init__(self) -> None:
        super().__init__()
        self.dense: nn.Conv2d = nn.Conv2d(3, 8, 3, padding=1)
        self.bn: nn.BatchNorm2d = nn.BatchNorm2d(8)
        self.grouped: nn.Conv2d = nn.Conv2d(8, 6, 1, groups=2, bias=False)
        self.depthwise: nn.Conv2d = nn.Conv2d(6, 6, 3, groups=6)
        self.up: nn.ConvTranspose2d = nn.ConvTranspose2d(6, 5, 3)
        self.one: nn.Conv2d = nn.Conv2d(5, 1, 1)
        self.grouped_up: nn.ConvTranspose2d = nn.ConvTranspose2d(4, 4, 2, groups=2)
        self.fc: nn.Linear = nn.Linear(4 * 7 * 7, 4)
        self.first: nn.Conv2d = nn.Conv2d(3, 3, 3, padding=1)
        self.second: nn.Conv2d = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.second(self.first(x).relu())
        x = self.depthwise(self.grouped(self.bn(self.dense(x)).relu()).relu())
        x = self.up(x)
        x = torch.cat([x[:, :3], self.one(x)], 1).relu()
        logits: Tensor = self.fc(self.grouped_up(x).flatten(1))
        return logits


def small_network(seed: int = 0) -> SmallNetwork:
    """A `SmallNetwork` with weights of its own seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallNetwork()


def batch_number(n: int, size: int = 4) -> tuple[Tensor, Tensor]:
    """``(images, labels)``; the n-th batch is always the same."""
    generator = torch.Generator().manual_seed(n)
    images = torch.randn(size, 3, 6, 6, generator=generator)
    return images, torch.randint(4, (size,), generator=generator)


def assert_same(left: Any, right: Any, where: str = "") -> None:
    """``AssertionError`` unless two states are bit-identical, all the way down (NaN equals NaN)."""
    if isinstance(left, Tensor):
        assert isinstance(right, Tensor), where
        assert left.dtype == right.dtype, where
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True, msg=lambda m: f"{where}: {m}")
    elif isinstance(left, Mapping):
        assert list(left) == list(right), where
        for key in left:
            assert_same(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for n, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same(a, b, f"{where}[{n}]")
    else:
        assert left == right, f"{where}: {left!r} is not {right!r}"


def hooks_of(model: nn.Module, optimizer: Optimizer) -> int:
    """How many hooks stand on a network and an optimizer."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    on_model = sum(len(getattr(m, kind)) for m in model.modules() for kind in kinds)
    on_tensors = sum(len(p._backward_hooks or {}) for p in model.parameters())
    steps = ("step_pre_hooks", "step_post_hooks", "state_dict_pre_hooks", "load_state_dict_post_hooks")
    return on_model + on_tensors + sum(len(getattr(optimizer, f"_optimizer_{kind}")) for kind in steps)


make_optimizer: partial[SGD] = partial(SGD, lr=0.1, momentum=0.9, weight_decay=1e-2)
make_scheduler: partial[StepLR] = partial(StepLR, step_size=1, gamma=0.5)
make: partial[Composition] = partial(compose, resolve=lambda name: small_network(9))  # any teacher


class Run:
    """A training of the small network with methods in a text, as any loop has it.

    Args:
        text: as `compose` takes it.
        seed: of the network's weights.
        attach: whether to attach at once; a run that is resumed may load its state before.
    """

    def __init__(self, text: str, seed: int = 0, *, attach: bool = True) -> None:
        self.training: Composition = make(text)
        with torch.random.fork_rng(devices=[]):  # what is drawn for new parameters
            torch.manual_seed(seed)
            self.model: nn.Module = self.training.prepare(small_network(seed))
        self.optimizer: SGD = make_optimizer(self.training.param_groups(self.model, 1e-2))
        self.epoch: int = 0
        self.events: list[str | None] = []
        if attach:
            self.attach()

    def attach(self) -> None:
        self.training.attach(self.model, self.optimizer, epochs=EPOCHS, seed=1, scheduler=make_scheduler)

    def train(self, epochs: int) -> Run:
        """So many epochs more."""
        for _ in range(epochs):
            for step in range(STEPS):
                images, labels = batch_number(self.epoch * STEPS + step)
                self.optimizer.zero_grad()
                outputs = self.model(images)
                loss = F.cross_entropy(outputs, labels)
                (loss + self.training.penalty(images, outputs, labels)).backward()
                self.optimizer.step()
                self.training.end_batch()
            self.events.append(self.training.end_epoch())
            self.epoch += 1
        return self

    def state(self) -> Any:
        return [one.state_dict() for one in (self.model, self.optimizer, self.training)]

    def resumed(self, *, early: bool) -> Run:
        """Another run that goes on from what a file would hold of this one, loaded before attach if ``early``."""
        file = io.BytesIO()
        torch.save(self.state(), file)
        file.seek(0)
        states = torch.load(file, weights_only=True)
        other = Run(str(self.training), seed=5, attach=not early)
        if early:
            other.training.load_state_dict(states.pop())
            other.attach()
        parts: list[Any] = [other.model, other.optimizer, other.training]
        for one, state in zip(parts, states, strict=False):
            one.load_state_dict(state)
        other.epoch = self.epoch
        return other


def tried(record: Method) -> str:
    """The text with which a method is tried."""
    return str(Spelled(record.name, record.tried))


def record_is_complete(record: Method) -> None:
    """The record says what the method is."""
    assert record.name == record.name.lower().replace("_", "-"), "name: lower case, with hyphens"
    assert record.summary.strip(), "summary: it says nothing"
    assert "\n" not in record.summary, "summary: it must be one line"
    assert record.paper.strip(), "paper: where was it published? Say 'control' or 'own work' if nowhere"
    assert callable(record.cls), "cls: it must be a class or a function"
    assert record.cls.__doc__, f"{record.cls.__name__} has no docstring"


def card_tells_what_there_is_to_know(record: Method) -> None:
    """The docstring of the method's file is its card."""
    card = record.card
    assert card.partition("\n")[0].endswith("."), "card: its first line must be a sentence"
    source = "Source" if "**Source.**" in card else "Paper"
    position = -1
    for heading in (source, *HEADINGS):
        assert card.count(f"**{heading}.**") == 1, f"card: it has no **{heading}.**"
        text = card.split(f"**{heading}.**")[1].split("\n**")[0].strip()
        assert len(text) > 20, f"card: **{heading}.** says nothing"
        assert card.index(f"**{heading}.**") > position, f"card: **{heading}.** is out of order"
        position = card.index(f"**{heading}.**")


def bad_options_name_themselves(record: Method) -> None:
    """An option out of range is refused in one line that names it; nothing has changed then."""
    for bad in record.refused:
        ((option, value),) = bad.items()
        model = small_network()
        optimizer = make_optimizer(model.parameters())
        before = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
        message = ""
        try:
            training = make(str(Spelled(record.name, {**record.tried, **bad})))
            training.attach(training.prepare(model), optimizer, epochs=EPOCHS)
        except ValueError as error:
            message = str(error)
        shown = list(value) if isinstance(value, tuple) else value
        assert message, f"{option}={value!r} was taken without an error"
        assert "\n" not in message, f"{option}={value!r}: the error has several lines"
        assert option in message.split(" must be ")[0] or message.startswith("unknown"), (
            f"it names no {option}: {message}"
        )
        assert repr(shown) in message, f"it does not show the value {shown!r}: {message}"
        assert_same([model.state_dict(), optimizer.state_dict()], before, f"{option}={value!r} changed the network")
        assert hooks_of(model, optimizer) == 0, f"{option}={value!r} left hooks behind"


def switched_off_it_is_plain_training(record: Method) -> None:
    """With the options of `Method.off` it is plain training bit for bit, restarts of the schedule apart."""
    if not record.off:
        return
    run = Run(str(Spelled(record.name, record.off))).train(EPOCHS)
    assert not {"pruned", "restored"} & {*run.events}, f"it tells of {run.events}"
    starts = [phase.start for phase in run.training.phases] if "phase" in run.events else [0]
    plain = small_network()
    for epoch in range(EPOCHS):
        if epoch in starts:
            optimizer = make_optimizer(plain.parameters())
            scheduler = make_scheduler(optimizer)
        for step in range(STEPS):
            images, labels = batch_number(epoch * STEPS + step)
            optimizer.zero_grad()
            F.cross_entropy(plain(images), labels).backward()
            optimizer.step()
        scheduler.step()
    assert_same(run.training.finish().state_dict(), plain.state_dict(), "the deployed network")
    remembered = [run.optimizer.state[p] for p in run.model.parameters()]
    assert_same(remembered, [optimizer.state[p] for p in plain.parameters()], "what the optimizer remembers")


def switched_on_it_does_something(record: Method) -> None:
    """With the options of `Method.tried` another network is deployed than by plain training."""
    ours = Run(tried(record)).train(EPOCHS).training.finish().state_dict()
    plain = Run("baseline").train(EPOCHS).training.finish().state_dict()
    same = ours.keys() == plain.keys() and all(torch.equal(ours[key], plain[key]) for key in plain)
    assert not same, f"trained as {tried(record)!r} it deploys what plain training does"


def deployed_network_is_what_the_record_says(record: Method) -> None:
    """The deployed network is of the class, shapes and names of the plain one, or of the changed one."""
    run = Run(tried(record)).train(EPOCHS)
    plain = small_network(3)
    size = sum(p.numel() for p in plain.parameters())
    plain_class = type(plain)
    expected = make(tried(record)).change_architecture(plain)
    changed = sum(p.numel() for p in expected.parameters()) != size
    assert changed != record.same_network, f"same_network={record.same_network}, and the size says otherwise"
    deployed = run.training.finish()
    assert type(deployed) is plain_class, f"a {type(deployed).__name__} is deployed, not a {plain_class.__name__}"
    shapes = {key: (value.shape, value.dtype) for key, value in expected.state_dict().items()}
    assert {key: (value.shape, value.dtype) for key, value in deployed.state_dict().items()} == shapes, "other shapes"
    expected.load_state_dict(deployed.state_dict(), strict=True)
    wanted, found = (network.eval()(batch_number(0)[0]) for network in (expected, deployed))
    assert_same(wanted, found, "outputs of the deployed weights in a plain network")


def resumed_run_equals_an_uninterrupted_one(record: Method) -> None:
    """Saved and resumed after any epoch, and after the next one again, it ends bit for bit as if never stopped."""
    whole, stopped = Run(tried(record)).train(EPOCHS), Run(tried(record))
    for epoch in range(1, EPOCHS):
        early = epoch % 2 == 0
        where = f"resumed after epoch {epoch} (state loaded {'before' if early else 'after'} attach) and {epoch + 1}"
        run = stopped.train(1).resumed(early=early).train(1).resumed(early=not early)
        run.train(EPOCHS - epoch - 1)
        assert_same(run.state(), whole.state(), where)
    assert_same(run.training.finish().state_dict(), whole.training.finish().state_dict(), "deployed")


def finished_it_leaves_nothing_behind(record: Method) -> None:
    """After `finish` there are no hooks, and the network trains on like any other."""
    run = Run(tried(record))
    groups = [
        list(group["params"]) for group in make_optimizer(run.training.param_groups(run.model, 1e-2)).param_groups
    ]
    permanent = hooks_of(
        run.training.change_architecture(small_network()), make_optimizer(small_network().parameters())
    )
    run.train(EPOCHS).training.finish()
    run.training.finish()
    assert hooks_of(run.model, run.optimizer) == permanent, "hooks stay behind"
    found = [{id(p) for p in group["params"]} for group in run.optimizer.param_groups]
    assert found == [{id(p) for p in group} for group in groups], "the optimizer's groups are other ones"


def global_generator_is_left_alone(record: Method) -> None:
    """At work, it draws from a generator of its own."""
    run = Run(tried(record), attach=False)
    before = torch.get_rng_state()
    run.attach()
    run.train(EPOCHS)
    assert torch.equal(torch.get_rng_state(), before), "it drew from torch's global generator"


CHECKS: tuple[Callable[[Method], None], ...] = (
    record_is_complete,
    card_tells_what_there_is_to_know,
    bad_options_name_themselves,
    switched_off_it_is_plain_training,
    switched_on_it_does_something,
    deployed_network_is_what_the_record_says,
    resumed_run_equals_an_uninterrupted_one,
    finished_it_leaves_nothing_behind,
    global_generator_is_left_alone,
)
"""What `main` runs, in this order."""


def failures(record: Method) -> dict[str, str]:
    """Check -> what is wrong, in one line; empty where the method keeps the contract."""
    found = {}
    for check in CHECKS:
        try:
            check(record)
        except AssertionError as error:
            found[check.__name__] = first_line(error)
        except Exception as error:  # the method's own code fails in its own ways
            found[check.__name__] = f"it raised {type(error).__name__}: {first_line(error)}"
    return found


def main(arguments: list[str]) -> int:
    """Run the contract for the named methods; 0 where all keep it, 1 where one does not, 2 for a wrong name."""
    if not arguments:
        print("usage: python -m filtersmith.testing NAME ...", file=sys.stderr)
        return 2
    for name in arguments:
        if name not in METHODS:
            why = METHODS.broken.get(name) or str(unknown_name("method", name, METHODS))
            print(f"filtersmith: error: {name}: {why}", file=sys.stderr)
            return 2
    code = 0
    torch.set_num_threads(1)  # the network is so small that threads would wait for each other
    for name in arguments:
        wrong = failures(METHODS[name])
        for check in CHECKS:
            said = check.__name__.replace("_", " ")
            print(f"{name}: {said}: {wrong.get(check.__name__, 'well')}")
        print(f"{name}: {len(CHECKS) - len(wrong)} of {len(CHECKS)} checks passed")
        code = code or int(bool(wrong))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
