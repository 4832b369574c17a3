"""RePr against a network that really is smaller, and what Sec. 4 of the paper promises of every event."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from reference.nets import assert_same, hooks_of
from reference.pointwise import pair
from reference.smaller import without
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import filtersmith as fs
from filtersmith import zoo
from filtersmith.zoo.vanilla import Vanilla


def network(seed: int = 0, layers: int = 3, width: int = 6, **options: Any) -> Vanilla:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Vanilla(layers, width, image_size=8, **options)


def images(n: int = 0, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(size, 3, 8, 8, generator=generator), torch.randint(10, (size,), generator=generator)


def sgd(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)


def adam(model: nn.Module) -> Optimizer:
    return Adam(model.parameters(), lr=0.01, weight_decay=1e-2, amsgrad=True)


def train_step(model: nn.Module, optimizer: Optimizer, n: int) -> None:
    x, y = images(n)
    loss = F.cross_entropy(model(x.to(next(model.parameters()).dtype)), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train(model: nn.Module, optimizer: Optimizer, steps: int, start: int = 0) -> None:
    for n in range(start, start + steps):
        train_step(model, optimizer, n)


def pruned(
    seed: int = 0, make: Any = sgd, before: int = 2, model: Vanilla | None = None, **options: Any
) -> tuple[Vanilla, Optimizer, fs.RePr]:
    """A network that has trained a little and has just lost a third of its filters."""
    model = network(seed) if model is None else model
    optimizer = make(model)
    cycle = fs.RePr(model, optimizer, s1=1, s2=1, cycles=2, **{"prune": 1 / 3} | options)
    train(model, optimizer, before)
    assert cycle.step() == "pruned"
    return model, optimizer, cycle


def rows(model: nn.Module, optimizer: Optimizer, masks: dict[str, Tensor], kept: bool = False) -> dict[str, Tensor]:
    """All that filters left out (or the others) have for themselves in C^n(X): parameters, statistics, states."""
    found: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    for name, mask in masks.items():
        mask = ~mask if kept else mask
        behind = modules[f"features.{int(name.split('.')[1]) + 1}"]
        for module in (modules[name], behind) if isinstance(behind, nn.BatchNorm2d) else (modules[name],):
            for key, tensor in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items():
                if tensor.ndim:
                    found[f"{name}.{type(module).__name__}.{key}"] = tensor.detach()[mask].clone()
                for state, value in optimizer.state.get(tensor, {}).items():
                    if isinstance(value, Tensor) and value.ndim:
                        found[f"{name}.{type(module).__name__}.{key}.{state}"] = value[mask].clone()
    return found


def cosines(model: nn.Module, name: str) -> Tensor:
    flat = F.normalize(model.get_submodule(name).weight.detach().double().flatten(1))  # type: ignore[operator, union-attr]
    return flat @ flat.T


# --- when ------------------------------------------------------------------------------------------------


def test_the_timeline_of_the_paper() -> None:
    model = network()
    cycle = fs.RePr(model, sgd(model), s1=20, s2=10, cycles=3, prune=0.3)
    modes, events = [], {}
    for epoch in range(1, 101):
        modes.append(cycle.phase)
        if (event := cycle.step()) is not None:
            events[epoch] = event
    assert modes == (["full"] * 20 + ["sub"] * 10) * 3 + ["full"] * 10
    assert events == {20: "pruned", 30: "restored", 50: "pruned", 60: "restored", 80: "pruned", 90: "restored"}


def test_a_call_is_a_unit() -> None:
    model = network()
    cycle = fs.RePr(model, sgd(model), s1=3, s2=2)
    assert [cycle.step() for _ in range(8)] == [None, None, "pruned", None, "restored", None, None, "pruned"]


# --- which -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first_layer", "filters"), [(False, 64), (True, 96)])
def test_as_many_as_the_share_of_the_eligible_filters(first_layer: bool, filters: int) -> None:
    model = zoo.build("vanilla")
    cycle = fs.RePr(model, sgd(model), s1=1, s2=1, prune=0.3, first_layer=first_layer)
    cycle.step()
    assert sum(int(mask.sum()) for mask in cycle.pruned.values()) == round(0.3 * filters)  # 19; 29 of 96 (Sec. 5)
    assert len(cycle.pruned) == filters // 32
    assert ("features.0" in cycle.left_whole) == (not first_layer)
    scores = fs.rank(model, layers=list(cycle.pruned))
    out = torch.cat([scores[name][mask] for name, mask in cycle.pruned.items()])
    stay = torch.cat([scores[name][~mask] for name, mask in cycle.pruned.items()])
    assert out.max() <= stay.min()


def test_the_same_seed_gives_the_same_filters_and_another_one_others() -> None:
    def run(seed: int, rank: str) -> list[Any]:
        model, optimizer, cycle = pruned(seed=0, rank=rank, prune=0.5, make=sgd)
        cycle._generator.manual_seed(seed)
        return [cycle.pruned, cycle.step(), copy.deepcopy(model.state_dict()), optimizer]

    one, again = (run(3, "ortho") for _ in range(2))
    assert_same(one[:3], again[:3])
    assert not torch.equal(run(4, "ortho")[2]["features.3.weight"], one[2]["features.3.weight"])


def test_random_ranking_draws_anew_in_each_cycle() -> None:
    _, _, cycle = pruned(rank="random", prune=0.5)
    first = cycle.pruned
    assert [cycle.step(), cycle.step()] == ["restored", "pruned"]
    assert any(not torch.equal(first[name], cycle.pruned[name]) for name in first)


def functions() -> Iterator[Any]:
    yield lambda weight: weight.flatten(1).norm(dim=1)
    yield lambda model: {
        n: m.weight.detach().flatten(1).norm(dim=1) for n, m in model.named_modules() if "Conv" in str(type(m))
    }
    yield functools.partial(fs.rank, criterion="l2")
    yield "l2"


def test_a_function_may_rank() -> None:
    chosen = [pruned(rank=rank)[2].pruned for rank in functions()]
    for other in chosen[1:]:
        assert_same(chosen[0], other)
    data = [images(n) for n in range(2)]
    for criterion in ("taylor", "oracle"):
        assert pruned(rank=functools.partial(fs.rank, criterion=criterion, data=data))[2].phase == "sub"


# --- the sub-network -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bn", [True, False])
@pytest.mark.parametrize("make", [sgd, adam])
def test_it_trains_like_a_network_without_these_filters(bn: bool, make: Any) -> None:
    model = network(bn=bn).double()
    optimizer = make(model)
    cycle = fs.RePr(model, optimizer, s1=1, s2=9, prune=0.4, first_layer=True)
    cycle.step()  # before the optimizer has any state: the smaller network starts with the same
    small = without(model, cycle.pruned)
    train(small, make(small), 5)
    train(model, optimizer, 5)
    expected, ours = small.state_dict(), without(model, cycle.pruned).state_dict()
    for name in expected:
        torch.testing.assert_close(ours[name], expected[name], rtol=1e-9, atol=1e-10)
    x = images(7)[0].double()
    torch.testing.assert_close(model.eval()(x), small.eval()(x))


@pytest.mark.parametrize("before", [0, 2], ids=["no state yet", "with state"])
@pytest.mark.parametrize("make", [sgd, adam])
def test_what_is_left_out_does_not_move_and_the_rest_does(make: Any, before: int) -> None:
    model, optimizer, cycle = pruned(make=make, before=before)
    first = rows(model, optimizer, cycle.pruned)
    kept = rows(model, optimizer, cycle.pruned, kept=True)
    assert len([key for key in first if "BatchNorm2d" in key]) >= 4
    for n in range(3):
        train_step(model, optimizer, 10 + n)
        now = rows(model, optimizer, cycle.pruned)
        assert_same({key: value for key, value in now.items() if key in first}, first)
        for key in now.keys() - first.keys():  # made by the first step
            assert not now[key].any(), key
    for key, value in rows(model, optimizer, cycle.pruned, kept=True).items():
        assert key not in kept or not torch.equal(value, kept[key]), key


@pytest.mark.parametrize("make", [sgd, adam], ids=["sgd", "adam"])
def test_linear_layers_that_are_convolutions_train_as_these(make: Any) -> None:
    """As ConvNeXt has them: sub-network, restored filters and all that an optimizer keeps of them."""
    found = []
    for network, share in zip(
        pair(), (3 / 12, 3 / 18), strict=True
    ):  # of ``narrow`` only a convolution may lose some
        optimizer = make(network)
        largest = lambda filters: -filters.flatten(1).norm(dim=1) - 9 * len(filters)  # noqa: E731
        cycle = fs.RePr(network, optimizer, 2, 3, 2, share, largest)
        for n in range(12):
            x, y = images(n)
            optimizer.zero_grad()
            F.cross_entropy(network(x.double()), y % 4).backward()
            optimizer.step()
            if cycle.step() == "pruned":
                assert [int(gone.sum()) for gone in cycle.pruned.values() if gone.any()] == [3]
        cycle.finish()
        found.append(network)
    for one, other in zip(*(network.state_dict().values() for network in found), strict=True):
        torch.testing.assert_close(one, other.view_as(one))


def test_a_function_of_the_network_may_know_convolutions_only() -> None:
    """A ranking of ours knows linear layers that are convolutions."""
    network, _ = pair()

    def largest(model: nn.Module) -> dict[str, Tensor]:
        convolutions = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
        return {name: -module.weight.flatten(1).norm(dim=1) for name, module in convolutions.items()}

    data = [(images()[0].double(), images()[1] % 4)]
    ours = functools.partial(fs.rank, criterion="taylor", data=data)
    cycle = fs.RePr(network, sgd(network), 1, 1, 1, rank=ours)
    assert set(cycle.pruned) == {"wide"}
    assert cycle.step() == "pruned"
    cycle.finish()
    for function in (largest, functools.partial(fs.rank, layers=["stem"])):
        with pytest.raises(ValueError, match="wide: it is a linear layer, and the function"):
            fs.RePr(pair()[0], sgd(network), 1, 1, 1, rank=function)


def test_layers_of_another_optimizer_stay_whole() -> None:
    model = network(layers=4)
    parts = [model.get_submodule(name) for name in ("features.3", "features.6")]
    cycle = fs.RePr(model, torch.optim.SGD([p for part in parts for p in part.parameters()], 0.1), 1, 1, 1, 0.5)
    assert list(cycle.pruned) == ["features.3", "features.6"]
    assert cycle.left_whole["features.9"] == "the optimizer does not have its weight"


def test_a_step_that_the_scaler_skips_changes_nothing() -> None:
    model, optimizer, cycle = pruned()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = copy.deepcopy(model.state_dict())
    for bad in (True, False):
        x, y = images(1)
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        if bad:
            model.fc.bias.grad[0] = float("inf")  # type: ignore[index]
        scaler.step(optimizer)
        scaler.update()
        same = [torch.equal(model.state_dict()[k], v) for k, v in before.items() if k.endswith("weight")]
        assert all(same) == bad
        for name, mask in cycle.pruned.items():
            assert torch.equal(model.state_dict()[f"{name}.weight"][mask], before[f"{name}.weight"][mask])


def test_an_average_of_the_weights_goes_on() -> None:
    model = network()
    optimizer = sgd(model)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    cycle = fs.RePr(model, optimizer, s1=1, s2=1, cycles=1, prune=1 / 3)
    for epoch in range(3):
        train(model, optimizer, 2, start=2 * epoch)
        averaged.update_parameters(model)
        cycle.step()
    assert list(averaged.module.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize(("option", "steps"), [({}, 0), ({"gradual_steps": 4}, 2), ({"decay_steps": 3}, 1)])
def test_what_is_deployed_in_a_sub_phase_is_what_was_tested(option: dict[str, int], steps: int) -> None:
    """The sample of issue and guide: saved, and loaded into a plain network. `model.state_dict()` is to resume."""
    model, optimizer, cycle = pruned(model=network().double(), **option)
    train(model, optimizer, steps, start=5)
    whole = copy.deepcopy(model.state_dict())
    state = cycle.deployed_state_dict()
    assert_same(model.state_dict(), whole)
    plain, (x, y) = network(7).double(), images(9)
    plain.load_state_dict(state, strict=True)
    losses = [
        F.cross_entropy(one.eval()(x.double()), y) for one in (model, plain, without(model, cycle.pruned).eval())
    ]
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], rtol=1e-9, atol=1e-11)
    plain.load_state_dict(model.state_dict(), strict=True)
    left_out = sum(int(mask.sum()) for mask in cycle.pruned.values())
    assert (left_out > 0) == (not torch.allclose(F.cross_entropy(plain(x.double()), y), losses[0]))
    train(model.train(), optimizer, 3, start=9)
    assert cycle.step() == "restored"
    assert_same(cycle.deployed_state_dict(), model.state_dict(), "in a full phase")


def test_a_copy_made_in_a_sub_phase_does_not_stay_a_sub_network() -> None:
    model, optimizer, cycle = pruned()
    twin = copy.deepcopy(model)
    assert [type(module) for module in twin.modules()] == [type(module) for module in network().modules()]
    x = images(9)[0]
    torch.testing.assert_close(twin.eval()(x), model.eval()(x))
    again = fs.RePr(twin.train(), other := sgd(twin), s1=1, s2=1, cycles=1, prune=1 / 3)
    train(twin, other, 2)
    assert again.step() == "pruned"
    assert cycle.phase == "sub"
    train(model.train(), optimizer, 1)


@pytest.mark.parametrize("when", ["before", "inside"])
def test_an_average_without_what_is_left_out(when: str) -> None:
    """Whenever it was made, it averages all filters; what is tested and deployed is a copy without those left out."""
    model = network().double()
    optimizer = sgd(model)
    cycle = fs.RePr(model, optimizer, s1=1, s2=1, cycles=1, prune=1 / 3)
    ema = fs.EMA(model, 0.5).attach(optimizer) if when == "before" else None
    train(model, optimizer, 2)
    cycle.step()
    ema = ema or fs.EMA(model, 0.5).attach(optimizer)
    train(model, optimizer, 2, start=2)
    average = copy.deepcopy(ema.network)
    cycle.leave_out_of(average)
    x = images(9)[0].double()
    torch.testing.assert_close(average.eval()(x), without(ema.network, cycle.pruned).eval()(x), rtol=1e-9, atol=1e-11)
    assert not torch.allclose(average(x), ema.network.eval()(x))
    with pytest.raises(ValueError, match=r"^network must be a copy of it, got 'the trained network itself'$"):
        cycle.leave_out_of(torch.compile(model))  # type: ignore[arg-type]


def test_where_zeros_do_not_make_it_the_state_to_deploy_is_refused() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.gate = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Sigmoid()

        def forward(self, x: Tensor) -> Tensor:
            return (self.gate(self.a(x)) + self.b(x)).mean((2, 3))

    model = Gated()
    cycle = fs.RePr(model, sgd(model), 1, 1, 1, 0.5, first_layer=True)
    assert_same(cycle.deployed_state_dict(), model.state_dict())
    cycle.step()
    training = fs.compose("repr(s1=1,s2=1,cycles=1,prune=0.5,first_layer=True)")
    training.attach(other := Gated(), sgd(other), epochs=3)
    training.end_epoch()
    reason = r"gate makes something else of zeros, where they are added to others; deploy in a full phase"
    with pytest.raises(ValueError, match=rf"^layer 'a' cannot be deployed without some filters: {reason}$"):
        cycle.deployed_state_dict()
    with pytest.raises(ValueError, match=rf"^layer 'a' cannot be deployed without some filters: {reason}$"):
        training.deployed_state_dict()
    cycle.step()
    assert_same(cycle.deployed_state_dict(), model.state_dict())


def test_a_compiled_network_is_compiled_anew_at_events_only() -> None:
    model = network()
    optimizer = sgd(model)
    cycle = fs.RePr(model, optimizer, s1=1, s2=1, cycles=2, prune=1 / 3)
    plain = network()
    twin = fs.RePr(plain, other := sgd(plain), s1=1, s2=1, cycles=2, prune=1 / 3)
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter)
    frames = []
    for epoch in range(4):
        train(compiled, optimizer, 1, start=3 * epoch)
        before = counter.frame_count
        train(compiled, optimizer, 2, start=3 * epoch + 1)
        assert counter.frame_count == before, "within a phase"
        frames.append(before)
        train(plain, other, 3, start=3 * epoch)
        assert cycle.step() == twin.step()
    assert frames == sorted(frames)
    assert frames[0] < frames[1]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-4, atol=1e-5)


def test_bfloat16_autocast_and_channels_last() -> None:
    model = network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = sgd(model)
    cycle = fs.RePr(model, optimizer, s1=1, s2=1, prune=1 / 3)
    cycle.step()
    x, y = images()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(x.to(memory_format=torch.channels_last)).float(), y)
    loss.backward()
    optimizer.step()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())  # type: ignore[union-attr]
    for name, mask in cycle.pruned.items():
        gradient = model.get_submodule(name).weight.grad
        assert not gradient[mask].any()  # type: ignore[index, union-attr]
        assert gradient[~mask].any()  # type: ignore[index, union-attr]
    cycle.step()
    assert all(
        m.weight.is_contiguous(memory_format=torch.channels_last) for m in model.features if hasattr(m, "padding")
    )


def test_filters_that_are_left_out_are_no_part_of_the_orthogonality_loss() -> None:
    model, _, cycle = pruned()
    loss = fs.ortho_loss(model)
    smaller = nn.ModuleList([m for m in without(model, cycle.pruned) if isinstance(m, nn.Conv2d)])
    # The first layer whole, and of the others the filters that are left, with all of their inputs.
    expected = fs.ortho_loss(smaller[:1])
    for name, mask in cycle.pruned.items():
        conv = nn.Conv2d(6, int((~mask).sum()), 3)
        conv.weight = nn.Parameter(model.get_submodule(name).weight[~mask].detach())  # type: ignore[index]
        expected = expected + fs.ortho_loss(nn.Sequential(conv))
    torch.testing.assert_close(loss, expected)
    model.zero_grad()
    loss.backward()
    for name, mask in cycle.pruned.items():
        assert not model.get_submodule(name).weight.grad[mask].any()  # type: ignore[index, union-attr]


# --- coming back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_filters_come_back_orthogonal_at_the_defined_length(scale: float) -> None:
    model, optimizer, cycle = pruned(scale=scale)
    train(model, optimizer, 3, start=5)
    masks, old = cycle.pruned, {n: p.detach().clone() for n, p in model.named_parameters()}
    kept = rows(model, optimizer, cycle.pruned, kept=True)
    assert cycle.step() == "restored"
    assert cycle.restarts == {"orthogonal": sum(int(m.sum()) for m in masks.values())} | dict.fromkeys(
        ("kept only", "least overlap", "random"), 0
    )
    modules = dict(model.named_modules())
    for name, mask in masks.items():
        weight: Tensor = modules[name].weight.detach()  # type: ignore[assignment]
        table = cosines(model, name)
        table.fill_diagonal_(0)
        assert table[mask].abs().max() < 1e-5
        was = F.normalize(old[f"{name}.weight"].double().flatten(1))[mask]
        assert (F.normalize(weight[mask].double().flatten(1)) @ was.T).abs().max() < 1e-5
        length = scale * weight[~mask].flatten(1).norm(dim=1).mean()
        torch.testing.assert_close(weight[mask].flatten(1).norm(dim=1), length.expand(int(mask.sum())))
        bn: Any = modules[f"features.{int(name.split('.')[1]) + 1}"]
        for tensor, value in ((bn.weight, 1), (bn.bias, 0), (bn.running_mean, 0), (bn.running_var, 1)):
            assert (tensor[mask] == value).all()
        assert not modules[name].bias[mask].any()  # type: ignore[index, union-attr]
        for parameter in (modules[name].weight, modules[name].bias, bn.weight, bn.bias):
            assert not optimizer.state[parameter]["momentum_buffer"][mask].any()  # type: ignore[index]
    assert_same(rows(model, optimizer, masks, kept=True), kept)
    for name, parameter in model.named_parameters():
        if name.startswith("fc"):
            assert torch.equal(parameter, old[name])


def test_where_no_direction_is_left_the_next_best_is_taken_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    model = network(layers=2, width=32)  # 27 weights, 32 filters: room for none
    optimizer = sgd(model)
    cycle = fs.RePr(model, optimizer, s1=1, s2=1, prune=0.5, first_layer=True, rank=lambda weight: torch.arange(32.0))
    cycle.step()
    assert {name: int(mask.sum()) for name, mask in cycle.pruned.items()} == {"features.0": 16, "features.3": 16}
    with caplog.at_level(logging.INFO, logger="filtersmith"):
        cycle.step()
    assert cycle.restarts["orthogonal"] == 16  # of the second layer
    assert cycle.restarts["kept only"] == 27 - 16
    assert cycle.restarts["least overlap"] + cycle.restarts["random"] == 5
    assert "kept only" in caplog.text
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("reinit", ["none", "random"])
def test_controls_of_coming_back(reinit: Any) -> None:
    model, optimizer, cycle = pruned(reinit=reinit)
    train(model, optimizer, 2)
    masks, before = cycle.pruned, copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    cycle.step()
    if reinit == "none":
        assert_same([model.state_dict(), optimizer.state_dict()], before)
        return
    for name, mask in masks.items():
        table = cosines(model, name)
        assert table.fill_diagonal_(0)[mask].abs().max() > 1e-3


def test_a_filter_that_nobody_reads_yet_changes_nothing() -> None:
    model, optimizer, cycle = pruned(reinit_next="zero")
    train(model, optimizer, 2)
    sub = model.eval()(images()[0])
    masks = cycle.pruned
    cycle.step()
    torch.testing.assert_close(model(images()[0]), sub, rtol=0, atol=1e-5)
    readers = {"features.3": model.features[6].weight, "features.6": model.fc.weight.unflatten(1, (6, -1))}
    for name, mask in masks.items():
        assert not readers[name][:, mask].any()
        assert readers[name][:, ~mask].all()


# --- gradually -------------------------------------------------------------------------------------------


def test_gradually_the_same_filters_go_the_worst_first() -> None:
    at_once = pruned(prune=0.5)[2].pruned
    model, optimizer, cycle = pruned(prune=0.5, gradual_steps=4, rank=(rank := lambda weight: torch.arange(6.0)))
    counts = []
    for n in range(4):
        counts.append(sum(int(mask.sum()) for mask in cycle.pruned.values()))
        assert cycle.phase == "sub"
        train_step(model, optimizer, n)
    assert counts == [1, 3, 4, 6]
    assert_same(cycle.pruned, pruned(prune=0.5, rank=rank)[2].pruned)
    _, optimizer, cycle = pruned(prune=0.5, gradual_steps=1)
    assert_same(cycle.pruned, at_once)


def test_filters_decay_before_they_go() -> None:
    model, optimizer, cycle = pruned(decay_steps=5, make=lambda model: SGD(model.parameters(), lr=0.0))
    before = {name: model.get_submodule(name).weight.detach().clone() for name in cycle.pruned}  # type: ignore[operator, union-attr]
    chosen = cycle.state_dict()["queue"]
    for n in range(5):
        assert not any(mask.any() for mask in cycle.pruned.values())
        train_step(model, optimizer, n)
    assert sorted((name, int(f)) for name, mask in cycle.pruned.items() for f in mask.nonzero()) == sorted(chosen)
    for name, mask in cycle.pruned.items():
        weight: Tensor = model.get_submodule(name).weight.detach()  # type: ignore[assignment]
        torch.testing.assert_close(weight[mask], before[name][mask] * 1e-3)
        assert torch.equal(weight[~mask], before[name][~mask])


def test_a_phase_that_is_too_short_to_drop_all_says_so_and_restarts_all() -> None:
    model, _, cycle = pruned(gradual_steps=10, rank=lambda weight: torch.arange(6.0))
    old = {name: model.get_submodule(name).weight.detach().clone() for name in cycle.pruned}  # type: ignore[operator, union-attr]
    with pytest.warns(UserWarning, match="ended before its first 10 optimizer steps"):
        assert cycle.step() == "restored"
    assert sum(cycle.restarts.values()) == 4
    for name in old:
        assert not torch.equal(model.get_submodule(name).weight[:2], old[name][:2])  # type: ignore[index]


# --- ends and errors -------------------------------------------------------------------------------------


def test_finishing() -> None:
    model, optimizer, cycle = pruned()
    with pytest.warns(UserWarning, match=r"finish\(\) in a sub-network phase brings back 4 filters"):
        cycle.finish()
    cycle.finish()
    assert cycle.phase == "full"
    assert hooks_of(model, optimizer) == 0
    assert all(type(module).__module__.startswith(("torch", "filtersmith.zoo")) for module in model.modules())
    assert not any("_lean" in vars(module) for module in model.modules())
    with pytest.raises(ValueError, match=r"step\(\) must not be called after finish\(\)"):
        cycle.step()
    fresh = network(1)
    fresh.load_state_dict(model.state_dict(), strict=True)
    assert_same(fresh.eval()(images()[0]), model.eval()(images()[0]))


def shared(model: Vanilla) -> Vanilla:
    model.features[6].weight = model.features[3].weight
    return model


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (None, {"prune": 1.0}, r"^prune must be a number in \[0, 1\), got 1.0$"),
        (None, {"prune": -0.1}, r"^prune must be a number in \[0, 1\), got -0.1$"),
        (None, {"prune": float("nan")}, r"^prune must be"),
        (None, {"s1": 0}, r"^s1 must be a whole number of at least 1, got 0$"),
        (None, {"s2": 0}, r"^s2 must be a whole number of at least 1, got 0$"),
        (None, {"cycles": -1}, r"^cycles must be"),
        (None, {"scale": 0.0}, r"^scale must be a number above 0, got 0.0$"),
        (None, {"keep_min": 0}, r"^keep_min must be"),
        (None, {"keep_min": 5, "prune": 0.5}, r"^prune must be at most 0.167 for keep_min=5 to stay in each of 2"),
        (None, {"rank": "magnitude"}, r"^unknown criterion 'magnitude'"),
        (None, {"rank": "oracle"}, r"^rank='oracle' needs data: give rank=functools.partial"),
        (None, {"reinit": "dirac"}, r"^reinit must be one of orthogonal, random, none, got 'dirac'$"),
        (None, {"reinit_next": "large"}, r"^reinit_next must be one of none, small, random, zero, got 'large'$"),
        (None, {"gradual_steps": 3, "decay_steps": 3}, r"^decay_steps must be 0 where gradual_steps is given"),
        (None, {"first_layer": 1}, r"^first_layer must be True or False, got 1$"),
        (lambda model: fs.expand(model, fs.KFLO()), {}, r"^layer 'features.0' cannot lose filters: it is expanded"),
        (lambda model: fs.expand(model, fs.ACNet()), {}, r"^layer 'features.0' cannot lose filters: it is expanded"),
        (shared, {}, r"^layer 'features.3' cannot lose filters: it shares its kernel with another layer"),
        (lambda model: model.features[:3], {}, r"^the network has no convolution whose filters may be left out"),
        (lambda model: nn.Linear(3, 3), {}, r"^the network has no convolution whose filters may be left out"),
        (lambda model: "net", {}, r"^model must be a torch.nn.Module, got 'str'$"),
    ],
)  # fmt: skip
def test_refusals(change: Any, options: dict[str, Any], message: str) -> None:
    model: Any = network()
    model = change(model) if change else model
    optimizer = sgd(model if isinstance(model, nn.Module) else network())
    before = copy.deepcopy(model.state_dict()) if isinstance(model, nn.Module) else None
    with pytest.raises(ValueError, match=message) as caught:
        fs.RePr(model, optimizer, **options)
    assert "\n" not in str(caught.value)
    if isinstance(model, nn.Module):
        assert_same(model.state_dict(), before)
        assert hooks_of(model, optimizer) == 0


@pytest.mark.parametrize(
    "rank",
    [
        lambda weight: torch.full((len(weight),), float("nan")),
        lambda weight: torch.zeros(len(weight) + 1),
        lambda model: {},
        lambda model: 3,
    ],
    ids=["NaN", "length", "layers", "kind"],
)
def test_a_criterion_that_cannot_be_used_leaves_all_as_it_was(rank: Any) -> None:
    model = network()
    optimizer = sgd(model)
    cycle = fs.RePr(model, optimizer, s1=1, s2=1, rank=rank)
    before = copy.deepcopy([model.state_dict(), optimizer.state_dict(), cycle.state_dict()])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"importance|criterion") as caught:
            cycle.step()
        assert "\n" not in str(caught.value)
        assert cycle.phase == "full"
        assert_same([model.state_dict(), optimizer.state_dict(), cycle.state_dict()], before)


def test_a_state_of_another_set_up_is_refused() -> None:
    state = pruned()[2].state_dict()
    model = network()
    cycle = fs.RePr(model, sgd(model), s1=1, s2=2, cycles=2, prune=1 / 3)
    with pytest.raises(ValueError, match="saved with s2=1, this one has 2"):
        cycle.load_state_dict(state)
    with pytest.raises(ValueError, match=r"not a state of RePr: .*missing"):
        cycle.load_state_dict({})
    assert cycle.phase == "full"
