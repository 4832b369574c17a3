"""Several methods through one object, in a loop of one's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from reference.nets import assert_same, hooks_of
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, StepLR

import filtersmith as fs
from filtersmith import METHODS, zoo
from filtersmith.methods.composition import Composition, compose

STEPS = 4


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 10))


Applied = tuple[nn.Module, Optimizer, Composition]


def applied(text: str, epochs: int, seed: int = 0, lr: float = 0.05) -> Applied:
    """A network, its optimizer and the methods at work, with drops of the rate at a half and three quarters."""
    training = compose(text)
    model = training.prepare(network())
    optimizer = SGD(training.param_groups(model, 0.0), lr=lr, momentum=0.9)
    phase = training.schedule_epochs(epochs)

    def factor(step: int) -> float:
        return 0.1 ** sum(step // STEPS >= share * phase for share in (0.5, 0.75))

    training.attach(
        model, optimizer, epochs=epochs, seed=seed, scheduler=lambda o: LambdaLR(o, factor), schedule_by="batch"
    )
    return model, optimizer, training


def trained(model: nn.Module, optimizer: Optimizer, training: Composition, epochs: int) -> list[list[Any]]:
    """Trains; what was seen before every step: learning rates, number of momentum buffers, filters moved."""
    seen = []
    for epoch in range(epochs):
        for step in range(STEPS):
            images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(epoch * STEPS + step))
            before = model[0].weight.detach().clone()
            seen.append([[g["lr"] for g in optimizer.param_groups], len(optimizer.state)])
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), torch.arange(4)).backward()
            optimizer.step()
            training.end_batch()
            seen[-1].append(int((model[0].weight != before).flatten(1).any(1).sum()))
        training.end_epoch()
    return seen


def starts(training: Composition) -> tuple[int, ...]:
    return tuple(phase.start for phase in training.phases[1:])


@pytest.mark.parametrize(
    ("text", "epochs", "moved"),
    [
        ("asa", 3, [4, 8, 4]),
        ("asa", 2, [8, 4]),
        ("asa", 1, [4]),
        ("asa(rate=0.25)", 3, [2, 8, 2]),
        ("sas", 3, [8, 4, 8]),
        ("sas", 20, [8] * 6 + [4] * 7 + [8] * 7),
        ("asa", 20, [4] * 6 + [8] * 7 + [4] * 7),
        ("flow(rates=[0.5,0.25])", 5, [4, 4, 2, 2, 2]),
        ("wau(0.25)", 2, [2, 2]),
        ("conv-lr", 2, [8, 8]),
        ("kflo(3,2)", 2, [8, 8]),
        ("do-conv", 2, [8, 8]),
        ("ema", 2, [8, 8]),
        ("baseline", 2, [8, 8]),
    ],
)
def test_phases_fill_the_budget(text: str, epochs: int, moved: list[int]) -> None:
    model, optimizer, method = applied(text, epochs)
    seen = trained(model, optimizer, method, epochs)
    assert [found for *_, found in seen] == [count for count in moved for _ in range(STEPS)]
    changes = tuple(e for e in range(1, epochs) if moved[e] != moved[e - 1])
    assert starts(method) == changes
    # A phase begins with an optimizer that remembers nothing, and with the full learning rate.
    for start in (0, *starts(method)):
        rate, remembered, _ = seen[start * STEPS]
        assert rate[0] == 0.05
        assert remembered == 0
    assert [entry[1] for entry in seen].count(0) == 1 + len(starts(method))


def test_phases_of_one_rate_restart_too() -> None:
    model, optimizer, method = applied("flow(rates=[1,1,1])", 6)
    seen = trained(model, optimizer, method, 6)
    assert starts(method) == (2, 4)
    assert [rates[0] for rates, *_ in seen[::STEPS]] == pytest.approx([0.05, 0.005] * 3)


def test_phases_of_underlying_filters() -> None:
    model, optimizer, method = applied("kflo+asa", 3)
    assert starts(method) == (1, 2)
    underlying = model[0].parametrizations["weight"].original0
    for epoch, moving in enumerate((16, 32, 16)):
        before = underlying.detach().clone()
        optimizer.zero_grad()
        model(torch.rand(4, 1, 8, 8)).square().sum().backward()
        optimizer.step()
        moved = int((underlying != before).flatten(1).any(1).sum())
        # At the start the random rows are not yet mixed into any kernel, and have no gradient.
        assert moved == moving if epoch else 0 < moved <= moving
        method.end_epoch()


def test_control_follows_the_schedule() -> None:
    model, optimizer, method = applied("conv-lr(0.5)", 4, lr=0.08)
    seen = trained(model, optimizer, method, 4)
    by_epoch = [rates for rates, *_ in seen[::STEPS]]
    assert [rate for rates in by_epoch for rate in rates] == pytest.approx(
        [0.08, 0.04] * 2 + [0.008, 0.004] + [0.0008, 0.0004]
    )
    slow = optimizer.param_groups[1]["params"]
    assert [p is model[0].weight for p in slow] == [True]


def test_seed_of_the_run_unless_the_options_name_one() -> None:
    def masks(text: str, seed: int) -> dict[str, Any]:
        model, optimizer, method = applied(text, 1, seed=seed)
        trained(model, optimizer, method, 1)
        return {name: value.clone() for name, value in model.state_dict().items()}

    def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
        return all(torch.equal(left[name], right[name]) for name in left)

    assert not same(masks("wau", 1), masks("wau", 2))
    assert same(masks("wau", 1), masks("wau(seed=1)", 2))
    assert same(masks("flow(rates=[0.5])", 1), masks("asa", 1))


def test_networks_are_expanded_before_their_optimizer_is_made() -> None:
    images = torch.rand(4, 1, 8, 8)
    for name, record in METHODS.items():
        if not record.same_network or name in ("flow", "kd"):
            continue
        training, model = compose(name), network()
        plain = sum(p.numel() for p in model.parameters())
        model = training.prepare(model)
        assert (sum(p.numel() for p in model.parameters()) > plain) == hasattr(record.cls, "prepare"), name
        torch.testing.assert_close(fs.collapse(model).eval()(images), model.eval()(images), rtol=0, atol=1e-5)


def test_the_architecture_changes_in_its_order() -> None:
    training = compose("dacnn(scope=stage)+regulators(sections=[2])+wau")
    named = dict(training.prepare(zoo.build("resnet20", 10, 3, image_size=8)).named_modules())
    assert named["layer1.0.conv1"].weight is named["layer1.2.conv2"].weight
    regulators = [name for name in named if name.endswith(".regulator")]
    assert len(regulators) == 3
    assert all(name.startswith("layer2.") for name in regulators)
    assert len({id(named[name].conv.weight) for name in regulators}) == 3, "free"


def test_a_refused_network_is_as_it_was() -> None:
    model = zoo.build("resnet20", 10, 3, image_size=8)
    before = {name: id(p) for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match=r"shares its kernel"):
        compose("dacnn+kflo").prepare(model)
    assert {name: id(p) for name, p in model.named_parameters()} == before, "not tied either"


def test_a_failed_attach_leaves_no_trace() -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(optimizer.state_dict())
    training = compose("wau+conv-lr+ema+repr(s1=9)")
    training.prepare(model)
    with pytest.raises(ValueError, match="epochs must be above"):
        training.attach(model, optimizer, epochs=5, scheduler=lambda o: LambdaLR(o, lambda step: 0.5))
    assert optimizer.state_dict() == before
    assert hooks_of(model, optimizer) == 0


def test_the_optimizer_has_what_the_methods_train() -> None:
    training, model = compose("kflo"), network()
    early = SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"comes after prepare.model."):
        training.attach(model, early, epochs=2)
    model = training.prepare(model)
    with pytest.raises(
        ValueError, match=r"^optimizer must have every parameter that the methods train, it lacks '0\."
    ):
        training.attach(model, early, epochs=2)
    training.attach(model, SGD(training.param_groups(model, 0.0), lr=0.1), epochs=2)
    assert not training.warnings
    with pytest.raises(ValueError, match="already"):
        training.attach(model, early, epochs=2)

    partly = compose("wau")
    partly.attach(model, SGD(model[0].parameters(), lr=0.1), epochs=2)
    assert partly.warnings == [
        "no optimizer has the trainable parameter '2.parametrizations.weight.original0' and 2 more"
    ]
    with pytest.raises(ValueError, match="it has none of them"):
        compose("wau").attach(model, SGD(network().parameters(), lr=0.1), epochs=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 1.5}, "epochs must be"),
        ({"seed": "x"}, "seed must be"),
        ({"scheduler": "cosine"}, "scheduler must be a function that makes one from the optimizer, got 'str'"),
        ({"scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau}, "scheduler must make .* without a metric"),
        ({"schedule_by": "step"}, "schedule_by must be 'epoch' or 'batch', got 'step'"),
        ({"held_out": iter([])}, "held_out must be batches that are there more than once"),
        ({"model": "resnet"}, "model must be a torch.nn.Module, got 'str'"),
        ({"optimizer": 3}, "optimizer must be a torch.optim.Optimizer, got int"),
        ({"optimizer": []}, "optimizer must be a torch.optim.Optimizer or several, got none"),
    ],
)
@pytest.mark.parametrize("text", ["baseline", "asa"])
def test_what_can_be_no_training(text: str, options: dict[str, Any], words: str) -> None:
    model = network()
    given = {"model": model, "optimizer": SGD(model.parameters(), lr=0.1), "epochs": 3} | options
    training = compose(text)
    with pytest.raises(ValueError, match=words) as caught:
        training.attach(given.pop("model"), given.pop("optimizer"), **given)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="call attach"):
        training.end_batch()


def test_several_optimizers_are_as_one() -> None:
    """Muon for the kernels and AdamW for the rest, say: here two SGD, which are one SGD of all."""
    found = []
    for parts in (1, 2):
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten())
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for p in model.parameters():
                nn.init.normal_(p, 0.1, 0.3)
        training = compose("wau(0.5)+repr(s1=1,s2=1,cycles=1,prune=0.5,first_layer=True)+ema(0.9)")
        training.prepare(model)
        every = list(model.parameters())
        owned = [every] if parts == 1 else [[p for p in every if p.ndim > 1], [p for p in every if p.ndim == 1]]
        optimizers = [SGD(some, lr=0.05, momentum=0.9) for some in owned]
        training.attach(model, optimizers, epochs=4, scheduler=lambda o: LambdaLR(o, lambda n: 0.5**n))
        for epoch in range(4):
            model(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(epoch))).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            training.end_batch()
            training.end_epoch()
        assert {group["lr"] for o in optimizers for group in o.param_groups} == {0.05 / 16}
        found.append([model.state_dict(), training.finish().state_dict()])
        assert sum(hooks_of(model, optimizer) for optimizer in optimizers) == 0
    for one, two in zip(*found, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_deployed_while_it_runs() -> None:
    model, optimizer, training = applied("kflo(2,3)+ema(0.5)", 3)
    trained(model, optimizer, training, 1)
    deployed = training.deployed
    assert type(deployed[0]) is nn.Conv2d
    assert not torch.equal(deployed[0].weight, fs.collapse(model)[0].weight), "averaged"
    assert training.deployed_state_dict().keys() == network().state_dict().keys()
    assert training.deployable
    assert training.parameters_kept == sum(p.numel() for p in network().parameters())


def layered() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten()).double()


@pytest.mark.parametrize("more", ["", "+ema(0.5)"])
@pytest.mark.parametrize("text", ["repr(s1=1,s2=1,cycles=1,prune=0.5,first_layer=True)", "dsd(s1=1,s2=1,cycles=1)"])
def test_what_is_deployed_in_a_sub_phase_is_what_is_saved_then(text: str, more: str) -> None:
    model = layered()
    optimizer, training = SGD(model.parameters(), lr=0.05, momentum=0.9), compose(text + more)
    training.prepare(model)
    training.attach(model, optimizer, epochs=3)
    for epoch in range(2):
        for n in range(2):
            images = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(2 * epoch + n)).double()
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
            training.end_batch()
        if epoch == 0:
            assert training.end_epoch() == "pruned"
    before, average = copy.deepcopy(model.state_dict()), copy.deepcopy(training.trained.state_dict())
    plain = layered()
    plain.load_state_dict(training.deployed_state_dict(), strict=True)
    assert_same(training.deployed.state_dict(), plain.state_dict())
    assert [type(module) for module in training.deployed.modules()] == [type(module) for module in plain.modules()]
    if not more:
        torch.testing.assert_close(plain.eval()(images), model.eval()(images), rtol=1e-9, atol=1e-11)
    masks = training._attached().parts[0].made.pruned
    gone = {f"{name}.weight": mask for name, mask in masks.items() if mask.any()}
    assert gone
    for key, mask in gone.items():
        assert not plain.state_dict()[key][mask].any()
        assert torch.equal(plain.state_dict()["0.weight"][~masks["0"]], average["0.weight"][~masks["0"]])
    assert_same(model.state_dict(), before, "what is resumed from")
    assert_same(training.trained.state_dict(), average, "and the average")
    training.end_epoch()
    assert training.deployable
    assert_same(training.finish().state_dict(), training.trained.state_dict())


def test_a_state_of_other_methods_is_refused() -> None:
    state = applied("wau", 2)[2].state_dict()
    for text in ("wau(0.3)", "conv-lr", "baseline"):
        with pytest.raises(
            ValueError, match=r"the state of a composition was saved with methods='wau', this one has"
        ):
            applied(text, 2)[2].load_state_dict(state)
    with pytest.raises(ValueError, match="not a state of a composition"):
        compose("wau").load_state_dict({})


def test_your_own_schedule_goes_on_where_none_is_given() -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    own = LambdaLR(optimizer, lambda epoch: 0.5**epoch)
    training = compose("wau")
    training.attach(model, optimizer, epochs=3)
    for _ in range(3):
        optimizer.step()
        training.end_batch()
        training.end_epoch()
        own.step()
    assert optimizer.param_groups[0]["lr"] == 0.1 / 8


def test_names_that_mean_something_outside_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    class Teacher:
        resolved = ("teacher",)

        def __init__(self, teacher: Any) -> None:
            self.teacher = teacher

        def penalty(self, outputs: Any) -> Any:
            return (outputs - self.teacher).square().mean()

    monkeypatch.setitem(METHODS._read(), "teach", fs.Method("teach", "s", "p", Teacher))
    with pytest.raises(ValueError, match=r"^teacher must be an object: nobody here resolves names, got 'big'$"):
        compose("teach(big)")
    training = compose("teach(big)", resolve={"big": torch.ones(2)}.__getitem__)
    assert str(training) == "teach(teacher=big)"
    model = network()
    training.attach(model, SGD(model.parameters(), lr=0.1), epochs=1)
    assert float(training.penalty(None, torch.zeros(2), None)) == 1


# --- as users have their loops ----------------------------------------------------------------------------------

WHOLE = "kflo(2,2)+wau(0.5)+conv-lr(0.5)+ema(0.9)"
PHASED = "repr(s1=1,s2=1,cycles=1,prune=0.5,first_layer=True)+ortho-loss(0.1)+ema(0.9)"


def halving(optimizer: Optimizer) -> LambdaLR:
    return LambdaLR(optimizer, lambda epoch: 0.5**epoch)


def ended(
    text: str,
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    around: Callable[[Any], Any] = lambda optimizer: optimizer,
    parts: int = 1,
    closure: bool = False,
) -> dict[str, Any]:
    """What is deployed after four epochs, of a network and an optimizer that are wrapped, or of parts of batches."""
    training = compose(text)
    model = training.prepare(network())
    optimizer = around(SGD(training.param_groups(model, 1e-3), lr=0.05, momentum=0.9))
    wrapped = wrap(model)
    training.attach(wrapped, optimizer, epochs=4, scheduler=halving)
    events = []
    for epoch in range(4):
        images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(epoch))
        batches = list(zip(images.chunk(parts), torch.arange(4).chunk(parts), strict=True))

        def backward(batches: Any = batches) -> float:
            optimizer.zero_grad()
            for some, labels in batches:
                outputs = wrapped(some)
                loss = nn.functional.cross_entropy(outputs, labels) + training.penalty(some, outputs, labels)
                (loss / len(batches)).backward()
            return 0.0

        if closure:
            optimizer.step(backward)
        else:
            backward()
            optimizer.step()
        training.end_batch()
        events.append(training.end_epoch())
    assert events == ["pruned", "restored", None, None] or text == WHOLE
    deployed = training.finish()
    assert type(deployed) is nn.Sequential
    assert deployed.state_dict().keys() == network().state_dict().keys()
    return deployed.state_dict()


loops = pytest.mark.parametrize("text", [WHOLE, PHASED])


@loops
def test_a_compiled_network(text: str) -> None:
    """Compiled before it is attached; compiled code is made anew where filters are left out."""
    torch.compiler.reset()
    assert_same(ended(text, wrap=lambda model: torch.compile(model, backend="eager")), ended(text))


@loops
def test_a_network_in_data_parallel(text: str) -> None:
    assert_same(ended(text, wrap=nn.DataParallel), ended(text))


@loops
def test_accelerates_optimizer(text: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    found = ended(text, around=accelerator.prepare_optimizer)
    assert_same(found, ended(text))


@loops
def test_accumulated_gradients_and_closures(text: str) -> None:
    """A step is a step, whatever is computed for it; penalties of parts add up to that of the batch."""
    # Where filters are orthogonal, the slope of |cosine| is the sign of what rounding leaves.
    text = text.replace("repr(", "repr(reinit=none,")
    expected = ended(text)
    assert_same(ended(text, closure=True), expected)
    for name, value in ended(text, parts=2).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


def test_fine_tuning_of_the_last_layer() -> None:
    """What is frozen needs no optimizer, and nobody is warned of it."""
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.detach().clone()
    training = compose("wau(0.5,layers=['2'])+ema(0.5)")
    training.attach(training.prepare(model), optimizer := SGD(model[2].parameters(), lr=0.1), epochs=2)
    assert training.warnings == []
    trained(model, optimizer, training, 2)
    assert torch.equal(training.finish()[0].weight, before)


def test_texts_and_objects_in_a_list() -> None:
    training = compose([fs.KFLO(width=2), "wau(0.5)+ema"])
    assert str(training) == "kflo(width=2)+wau(rate=0.5)+ema"
    assert repr(training) == "compose('kflo(width=2)+wau(rate=0.5)+ema')"
    assert str(compose(["baseline"])) == str(compose("baseline")) == "baseline"
    for given, words in (
        ([], "methods must be at least one text or object; 'baseline' is plain training, got"),
        (["baseline", "wau"], "methods must be without 'baseline' where there are others, got 'baseline'"),
        ({"wau": 0.5}, "methods must be a text such as"),
        (network(), "methods must be a text such as"),
        (3, "methods must be a text such as"),
        ([fs.WAU], "got the class WAU"),
        (["wau+"], "method must be"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            compose(given)
        assert "\n" not in str(caught.value)


def test_called_in_another_order() -> None:
    training, model = compose("wau"), network()
    optimizer = SGD(model.parameters(), lr=0.1)
    for call in (training.end_batch, training.end_epoch, training.finish, training.state_dict):
        with pytest.raises(ValueError, match=r"^the methods are at work from attach\(\) on: call attach"):
            call()
    training.prepare(model)
    with pytest.raises(ValueError, match=r"^prepare\(\) was called already: compose anew"):
        training.prepare(model)
    training.attach(model, optimizer, epochs=1)
    training.finish()
    assert training.finish() is not model
    kept = compose("kflo")
    kept.prepare(model)
    other = fs.expand(network(), fs.KFLO())
    with pytest.raises(ValueError, match=r"^model must be the network that prepare\(\) returned|it lacks"):
        kept.attach(network(), SGD(other.parameters(), lr=0.1), epochs=1)


def test_a_schedule_that_levels_learning_rates_is_warned_of() -> None:
    model = network()
    training = compose("conv-lr(0.5)")
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=6)
    training.attach(
        model, SGD(model.parameters(), lr=0.1, momentum=0.9), epochs=3, scheduler=cycle, schedule_by="batch"
    )
    assert "gives all parameter groups one learning rate" in training.warnings[0]
    assert len(training.warnings) == 1


def test_phases_of_a_schedule_that_nobody_can_know_are_warned_of() -> None:
    def training(**options: Any) -> Composition:
        model = network()
        found = compose("dsd")
        found.attach(model, SGD(model.parameters(), lr=0.1), epochs=10, **options)
        return found

    def cosine(optimizer: Optimizer) -> LambdaLR:
        return LambdaLR(optimizer, lambda n: 0.5 * (1 + math.cos(math.pi * n / 10)))

    by_epoch, by_batch = training(scheduler=cosine), training(scheduler=cosine, schedule_by="batch")
    assert by_epoch.phases[-1].start <= 6, "a tenth of the training, counted in rate, is left after the last restore"
    assert not by_epoch.warnings
    assert "does not say how many batches an epoch has" in by_batch.warnings[0]
    assert not training().warnings


def test_a_flow_and_a_schedule_of_its_own_user() -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    LambdaLR(optimizer, lambda n: 0.5**n)
    training = compose("asa")
    training.attach(model, optimizer, epochs=3)
    assert "hand it over as scheduler=" in training.warnings[0]


def test_a_flow_with_one_cycle_a_phase() -> None:
    model = network()
    training = compose("asa")
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=training.schedule_epochs(6))
    training.attach(model, SGD(model.parameters(), lr=0.1, momentum=0.9), epochs=6, scheduler=cycle)
    assert [training.end_epoch() for _ in range(6)] == [None, "phase", None, "phase", None, None]


def test_after_finish_nothing_goes_on() -> None:
    *_, training = applied("wau", 2)
    state = training.state_dict()
    training.finish()
    for call in (lambda: training.load_state_dict(state), training.end_epoch):
        with pytest.raises(ValueError, match=r"must not come after finish.*compose anew"):
            call()


def test_decay_of_computed_kernels_is_not_maximized() -> None:
    training = compose("kflo")
    model = training.prepare(network())
    optimizer = SGD(training.param_groups(model, 1e-3), lr=0.1, maximize=True)
    with pytest.raises(ValueError, match=r"^optimizer must not maximize"):
        training.attach(model, optimizer, epochs=2)


def test_schedules_of_another_kind_or_optimizer_are_refused() -> None:
    model, other = network(), network()
    foreign = SGD(other.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"^scheduler must make a schedule of the optimizer that it is given"):
        compose("wau").attach(
            model, SGD(model.parameters(), lr=0.1), epochs=2, scheduler=lambda _: StepLR(foreign, 1)
        )
    states = []
    for make in (partial(StepLR, step_size=1), partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)):
        model = network()
        training = compose("repr(s1=1,s2=1,cycles=1,first_layer=True)")
        training.attach(model, SGD(model.parameters(), lr=0.1), epochs=4, scheduler=make)
        training.end_epoch()
        states.append((training, training.state_dict(), {n: p.clone() for n, p in model.named_parameters()}, model))
    training, _, before, model = states[0]
    with pytest.raises(ValueError, match=r"saved with schedules: ..ExponentialLR.., here are schedules: ..StepLR"):
        training.load_state_dict(states[1][1])
    assert not training.deployable, "still in its sub-phase"
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_more_epochs_than_the_budget_are_warned_of() -> None:
    training = applied("wau", 1)[2]
    training.end_epoch()
    with pytest.warns(UserWarning, match="more often than the 1 epoch of attach"):
        training.end_epoch()


def test_options_reach_an_object_that_is_made_when_the_network_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    class Base:
        def __init__(self, model: Any, strength: float = 1.0, seed: int = 0) -> None:
            self.given = strength

        @classmethod
        def for_training(cls, model: Any, **options: Any) -> Base:
            return cls(model, **options)

        def prepare(self, model: Any) -> Any:
            model.strength = self.given
            return model

    monkeypatch.setitem(METHODS._read(), "based", fs.Method("based", "s", "p", Base))
    assert compose("based(strength=5)").prepare(network()).strength == 5

    class Needy(Base):
        def __init__(self, model: Any, strength: float) -> None: ...

        for_training = classmethod(lambda cls, model, strength: cls(model, strength))

    monkeypatch.setitem(METHODS._read(), "needy", fs.Method("needy", "s", "p", Needy))
    with pytest.raises(ValueError, match=r"^strength must be given, as in needy.strength=\.\.\.., got None$"):
        compose("needy")


def test_an_optimizer_that_has_begun_without_a_state_of_the_methods() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    first = fs.compose("wau")
    first.attach(model, optimizer, epochs=2)
    assert not first.warnings
    model(torch.ones(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    saved = first.state_dict()
    resumed, early, new = (fs.compose("wau") for _ in range(3))
    early.load_state_dict(saved)
    early.attach(model, optimizer, epochs=2)
    resumed.attach(model, optimizer, epochs=2)
    new.attach(model, optimizer, epochs=2)
    assert not early.warnings
    assert "load_state_dict() with the state of the methods is missing" in new.warnings[0]
    resumed.load_state_dict(saved)
    assert not resumed.warnings


def test_what_penalties_reckon_with() -> None:
    assert fs.compose("wau+ema").penalty_takes is None
    assert fs.compose("ortho-loss").penalty_takes == frozenset()
    assert fs.compose([fs.KD(nn.Linear(2, 2)), "ortho-loss"]).penalty_takes == {"images", "outputs", "labels"}
