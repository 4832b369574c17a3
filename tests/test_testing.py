"""The contract notices what it is there for: a method that is bad in one way fails the one check for it."""

from __future__ import annotations

import copy
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import filtersmith as fs
from filtersmith import METHODS, testing
from filtersmith.common.options import fraction
from filtersmith.testing import CHECKS, HEADINGS, Run, assert_same, batch_number, failures, hooks_of, small_network

CARD = "\n\n".join(
    ["Scales gradients.", *(f"**{name}.** {'something to say ' * 2}" for name in ("Paper", *HEADINGS))]
)


class Good:
    """Multiplies gradients of convolutions; bad ones are made of it, one change each."""

    checks: ClassVar[dict[str, Any]] = {"rate": fraction}

    def __init__(self, model: nn.Module, optimizer: Any, rate: float = 0.5, seed: int = 0) -> None:
        self.rate = fraction("rate", rate)
        self.model, self.optimizer = model, optimizer
        self.generator = torch.Generator().manual_seed(seed)
        self.factor = 1.0
        self.hooks = [optimizer.register_step_pre_hook(self.before)]

    def draw(self) -> None:
        self.factor = float(torch.rand((), generator=self.generator))

    def before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.draw()
        factor = 1 - (1 - self.rate) * self.factor
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    def detach(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])


class Unchecked(Good):
    """Takes any rate."""

    checks: ClassVar[dict[str, Any]] = {}

    def __init__(self, model: nn.Module, optimizer: Any, rate: float = 0.5, seed: int = 0) -> None:
        super().__init__(model, optimizer, min(rate, 1.0), seed)


class Unnamed(Unchecked):
    """Says no more than that something is wrong."""

    def __init__(self, model: nn.Module, optimizer: Any, rate: float = 0.5, seed: int = 0) -> None:
        if rate > 1:
            raise ValueError("out of range")
        super().__init__(model, optimizer, rate, seed)


class ChangesFirst(Unchecked):
    """Changes the network before it looks at the options."""

    def __init__(self, model: nn.Module, optimizer: Any, rate: float = 0.5, seed: int = 0) -> None:
        with torch.no_grad():
            model.dense.bias.zero_()
        fraction("rate", rate)
        super().__init__(model, optimizer, rate, seed)


class HooksFirst(Unchecked):
    """Hooks the optimizer before it looks at the options."""

    def __init__(self, model: nn.Module, optimizer: Any, rate: float = 0.5, seed: int = 0) -> None:
        super().__init__(model, optimizer, 1.0, seed)
        self.rate = fraction("rate", rate)


class NeverOff(Good):
    """Is at work at rate 1, too."""

    def before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.rate = 0.5
        super().before(optimizer, args, kwargs)


class Idle(Good):
    """Does nothing at any rate."""

    def before(self, optimizer: Any, args: Any, kwargs: Any) -> None: ...


class Grows(Good):
    """Deploys another network than its record says."""

    def finish(self) -> None:
        self.detach()
        self.network.extra = nn.Linear(1, 1)

    @property
    def network(self) -> Any:
        return self.model


class Forgets(Good):
    """Does not save where its generator stands."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Remains(Good):
    """Leaves its hook on the optimizer."""

    def detach(self) -> None: ...


class Regroups(Good):
    """Leaves the optimizer's groups in pieces."""

    def __init__(self, model: nn.Module, optimizer: Any, rate: float = 0.5, seed: int = 0) -> None:
        super().__init__(model, optimizer, rate, seed)
        (first, *_) = optimizer.param_groups
        last = first["params"].pop()
        optimizer.add_param_group({**{k: v for k, v in first.items() if k != "params"}, "params": [last]})


class Draws(Good):
    """Draws from torch's global generator, and not from its own."""

    def draw(self) -> None:
        self.factor = 1.0
        torch.rand(1)


class Raises(Good):
    """Breaks down when it is at work."""

    def before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        raise IndexError("list index out of range\nin some line")


BAD: dict[Any, dict[str, str]] = {
    Good: {},
    Unchecked: {"bad_options_name_themselves": "rate=2.0 was taken without an error"},
    Unnamed: {"bad_options_name_themselves": "it names no rate: out of range"},
    ChangesFirst: {
        "bad_options_name_themselves": "changed the network",
        "switched_off_it_is_plain_training": "the deployed network",
    },
    HooksFirst: {"bad_options_name_themselves": "rate=2.0 left hooks behind"},
    NeverOff: {"switched_off_it_is_plain_training": "the deployed network"},
    Idle: {"switched_on_it_does_something": "it deploys what plain training does"},
    Forgets: {"resumed_run_equals_an_uninterrupted_one": "resumed after epoch 1 (state loaded after attach) and 2"},
    Remains: {"finished_it_leaves_nothing_behind": "hooks stay behind"},
    Draws: {"global_generator_is_left_alone": "it drew from torch's global generator"},
}
"""Class -> what it fails, and the words for it."""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of two steps."""
    monkeypatch.setattr(testing, "EPOCHS", 2)
    monkeypatch.setattr(testing, "STEPS", 1)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., fs.Method]:
    """Makes a record and registers it; the class's file is one with a complete card."""

    def add(cls: Any, name: str = "bad", card: str = CARD, **more: Any) -> fs.Method:
        file = types.ModuleType("card_of_bad")
        file.__doc__ = card
        monkeypatch.setitem(sys.modules, file.__name__, file)
        monkeypatch.setattr(cls, "__module__", file.__name__)
        options: dict[str, Any] = {"off": {"rate": 1.0}, "tried": {"rate": 0.5}, "refused": ({"rate": 2.0},)}
        record = fs.Method(name, "scales", "own work", cls, **options | more)
        monkeypatch.setitem(METHODS._read(), name, record)
        return record

    return add


@pytest.mark.parametrize("cls", BAD, ids=lambda cls: cls.__name__)
def test_each_fault_is_found_by_the_check_for_it(cls: Any, register: Callable[..., fs.Method]) -> None:
    found = failures(register(cls))
    assert found.keys() == BAD[cls].keys(), found
    for check, words in BAD[cls].items():
        assert words in found[check]
        assert "\n" not in found[check]


@pytest.mark.parametrize(
    ("cls", "check", "words"),
    [
        (Grows, "deployed_network_is_what_the_record_says", "other shapes"),
        (Regroups, "finished_it_leaves_nothing_behind", "the optimizer's groups are other ones"),
        (Raises, "switched_on_it_does_something", "it raised IndexError: list index out of range"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_faults_that_other_checks_see_too(
    cls: Any, check: str, words: str, register: Callable[..., fs.Method]
) -> None:
    found = failures(register(cls))
    assert words in found[check], found
    assert "\n" not in found[check]


def test_a_record_that_says_another_network_is_deployed(register: Callable[..., fs.Method]) -> None:
    def nothing(model: nn.Module, rate: float = 0.5) -> None:
        """Changes nothing."""

    register(nothing, same_network=False, off={})
    with pytest.raises(AssertionError, match="same_network=False, and the size says otherwise"):
        testing.deployed_network_is_what_the_record_says(METHODS["bad"])


@pytest.mark.parametrize(
    ("given", "check", "words"),
    [
        ({"name": "Bad_One"}, "record_is_complete", "name: lower case, with hyphens"),
        ({"card": "No sentence\n" + CARD}, "card_tells_what_there_is_to_know", "its first line must be a sentence"),
        ({"card": CARD.replace("**Options.**", "")}, "card_tells_what_there_is_to_know", "it has no **Options.**"),
        ({"card": CARD + "\n\n**Options.** once more"}, "card_tells_what_there_is_to_know", "it has no **Options.**"),
        (
            {"card": CARD.replace("**Options.** something to say something to say", "**Options.** none.")},
            "card_tells_what_there_is_to_know",
            "**Options.** says nothing",
        ),
        (
            {
                "card": CARD.replace("When to use it", "x")
                .replace("Options", "When to use it")
                .replace("x", "Options")
            },
            "card_tells_what_there_is_to_know",
            "is out of order",
        ),
    ],
)
def test_records_and_cards(given: dict[str, Any], check: str, words: str, register: Callable[..., fs.Method]) -> None:
    record = register(Good, **given)
    with pytest.raises(AssertionError) as caught:
        next(one for one in CHECKS if one.__name__ == check)(record)
    assert words in str(caught.value)
    assert register(Good, card=CARD.replace("**Paper.**", "**Source.**")).card
    testing.card_tells_what_there_is_to_know(METHODS["bad"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"summary": " "}, "summary: it says nothing"),
        ({"summary": "one\ntwo"}, "summary: it must be one line"),
        ({"paper": ""}, "paper: where was it published"),
        ({"cls": types.SimpleNamespace()}, "cls: it must be a class or a function"),
        ({"cls": lambda model: model}, "<lambda> has no docstring"),
    ],
)
def test_records_that_are_not_complete(change: dict[str, Any], words: str) -> None:
    record = fs.Method(**{"name": "bad", "summary": "s", "paper": "p", "cls": Good} | change)
    with pytest.raises(AssertionError, match=words):
        testing.record_is_complete(record)


def test_a_method_without_options_owes_nothing_of_them() -> None:
    record = fs.Method("bad", "s", "p", Raises)
    testing.bad_options_name_themselves(record)
    testing.switched_off_it_is_plain_training(record)


# --- from the command line ------------------------------------------------------------------------------------


def test_main_says_all_and_its_code_is_that_of_the_worst(
    register: Callable[..., fs.Method], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    register(Good, "good")
    register(Idle, "idle")
    assert testing.main(["good"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines() == [
        *(f"good: {check.__name__.replace('_', ' ')}: well" for check in CHECKS),
        "good: 9 of 9 checks passed",
    ]
    assert testing.main(["idle", "good"]) == 1, "a good one at the end does not make up for it"
    said = capsys.readouterr().out
    assert "idle: switched on it does something: trained as 'idle(rate=0.5)' it deploys what plain" in said
    assert "idle: switched off it is plain training: well\n" in said
    assert "idle: 8 of 9 checks passed\n" in said
    assert said.endswith("good: 9 of 9 checks passed\n")
    assert threads == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage: python -m filtersmith.testing NAME ..."),
        (["wuu"], "filtersmith: error: wuu: unknown method 'wuu' (did you mean 'wau'?)"),
        (["wau", "nothing-like-it"], "filtersmith: error: nothing-like-it: unknown method"),
        (["does-not-load"], "filtersmith: error: does-not-load: ModuleNotFoundError: no such module"),
    ],
)
def test_main_refuses_wrong_names_before_anything_runs(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "failures", lambda record: pytest.fail("it ran"))
    monkeypatch.setitem(METHODS._broken, "does-not-load", "ModuleNotFoundError: no such module")
    assert testing.main(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


# --- what the checks are made of ------------------------------------------------------------------------------


def test_every_check_says_what_it_checks() -> None:
    assert all(inspect.getdoc(check) for check in CHECKS)
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (torch.tensor([1.0]), torch.tensor([1.0 + 2**-23])),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64)),
        (torch.tensor([1.0]), torch.tensor([[1.0]])),
        (torch.tensor(1.0), 1.0),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {}),
        ([1, 2], [1]),
        ([{"a": (torch.zeros(2),)}], [{"a": (torch.ones(2),)}]),
        ("a", "b"),
    ],
)
def test_what_is_not_the_same(left: Any, right: Any) -> None:
    with pytest.raises(AssertionError, match="here"):
        assert_same(left, right, "here")
    assert_same(left, copy.deepcopy(left))


def test_nan_is_nan() -> None:
    assert_same(torch.tensor([torch.nan]), torch.tensor([torch.nan]))


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_every_hook_is_counted(kind: str) -> None:
    model = small_network()
    optimizer = testing.make_optimizer(model.parameters())
    assert hooks_of(model, optimizer) == 0
    getattr(model.bn, f"register_{kind}_hook")(lambda *_: None)
    model.dense.weight.register_hook(lambda gradient: gradient)
    optimizer.register_step_pre_hook(lambda *_: None)
    optimizer.register_step_post_hook(lambda *_: None)
    optimizer.register_state_dict_pre_hook(lambda *_: None)
    optimizer.register_load_state_dict_post_hook(lambda *_: None)
    assert hooks_of(model, optimizer) == 6


def test_the_network_and_the_batches_are_always_the_same() -> None:
    before = torch.get_rng_state()
    assert_same(small_network(3).state_dict(), small_network(3).state_dict())
    assert not torch.equal(small_network(1).dense.weight, small_network(2).dense.weight)
    assert_same(batch_number(4), batch_number(4))
    images, labels = batch_number(5, size=7)
    outputs: Tensor = small_network()(images)
    assert (len(labels), outputs.shape) == (7, (7, 4))
    assert not torch.equal(images[:4], batch_number(4)[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_resumes_from_what_a_file_holds() -> None:
    whole, run = Run("wau").train(2), Run("wau").train(1)
    resumed = run.resumed(early=True)
    assert resumed.model is not run.model
    assert resumed.epoch == 1
    assert_same(resumed.train(1).state(), whole.state())
    assert resumed.events == [None]
