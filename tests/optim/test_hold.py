"""Holding parts of parameters still, bit for bit, whatever the optimizer does."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.nets import Decaying, Wrapper, batches, hooks_of, loss_of, net
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from filtersmith.filters import FilterLayer, locate
from filtersmith.optim.hold import Hold, Rows, Spot, indices, keep, put_back

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64)
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: Tensor) -> Tensor:
    """A tensor's bytes: NaN payloads and the sign of 0 count."""
    return tensor.detach().contiguous().flatten().view(torch.uint8)


@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    transposed=st.booleans(),
    channels_last=st.booleans(),
    offset=st.integers(0, 3),
    unit=st.sampled_from(("filter", "input-channel", "element")),
    data=st.data(),
)
@settings(max_examples=80)
def test_what_is_kept_comes_back_bit_for_bit_and_nothing_else(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    transposed: bool,
    channels_last: bool,
    offset: int,
    unit: Any,
    data: Any,
) -> None:
    size = torch.Size(shape).numel()
    # Random bytes, NaN with payloads among them, in a view that starts anywhere in a larger buffer.
    random = torch.randint(256, ((size + offset) * dtype.itemsize,), dtype=torch.uint8)
    weight = random.view(dtype)[offset:].view(shape)
    if channels_last:
        weight = weight.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
    layer = nn.ConvTranspose2d(1, 1, 1) if transposed else nn.Conv2d(1, 1, 1)
    layer.weight = nn.Parameter(weight)
    record = FilterLayer("layer", layer)
    units = torch.tensor(data.draw(st.lists(st.integers(0, record.units(unit) - 1), unique=True)), dtype=torch.int64)
    before = weight.clone()
    inside = torch.zeros(weight.shape, dtype=torch.bool)
    view, index = locate(record, units, unit, tensor=inside)
    view[index] = True

    held = locate(record, units, unit)
    kept = keep(*held)
    with torch.no_grad():
        layer.weight.fill_(1)
    put_back(*held, kept)
    assert torch.equal(bits(weight[inside]), bits(before[inside]))
    assert (weight[~inside] == 1).all()


def first_half(model: nn.Module) -> tuple[Any, Any]:
    """A choice that holds the first half of ``dense``, and a function that tells which filters moved since."""
    layer = FilterLayer("dense", model.dense)  # type: ignore[arg-type]
    held = torch.arange(4)

    def choose(optimizer: Optimizer) -> Iterable[Spot]:
        yield Spot(lambda: layer.weight, lambda weight: locate(layer, held, tensor=weight))

    return choose, lambda before: (layer.weight != before).flatten(1).any(1).tolist()


def first_of(layer: FilterLayer) -> Spot:
    return Spot(lambda: layer.weight, lambda weight: locate(layer, torch.tensor([0]), tensor=weight))


HELD = [False] * 4 + [True] * 4


@pytest.mark.parametrize("make", [SGD, Adam, torch.optim.LBFGS], ids=lambda c: c.__name__)
def test_closures(make: Any) -> None:
    model, batch = net(), next(batches())
    optimizer = make(model.parameters(), lr=0.1)
    choose, moved = first_half(model)
    Hold("WAU", choose).attach(optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    before = model.dense.weight.detach().clone()
    assert optimizer.step(closure) is not None
    assert moved(before) == HELD


def test_a_step_that_raises_leaves_no_trace() -> None:
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1)
    choose, moved = first_half(model)
    Hold("WAU", choose).attach(optimizer)

    def fails() -> float:
        raise RuntimeError("out of memory")

    before = model.dense.weight.detach().clone()
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(fails)
    assert moved(before) == [False] * 8
    with torch.no_grad():  # e.g. a checkpoint is loaded: what was kept for the failed step is void
        model.dense.weight.add_(1)
    for _ in range(2):
        before = model.dense.weight.detach().clone()
        loss_of(model, next(batches())).backward()
        optimizer.step()
        assert moved(before) == HELD


def test_an_optimizer_whose_step_calls_that_of_its_parent() -> None:
    model = net()
    SGD(model.parameters())  # from the first instance on, torch runs hooks for the parent class, too
    optimizer = Decaying(model.parameters(), lr=0.1)
    choose, moved = first_half(model)
    asked = []
    Hold("WAU", lambda o: asked.append(o) or choose(o)).attach(optimizer)
    for n in range(3):
        before = model.dense.weight.detach().clone()
        if n == 1:
            with pytest.raises(ZeroDivisionError):
                optimizer.step(lambda: 1 / 0)
        else:
            loss_of(model, next(batches())).backward()
            optimizer.step()
            assert moved(before) == HELD
    assert len(asked) == 3


def test_optimizers_that_step_inside_one_another() -> None:
    model, batch = net(), next(batches())
    outer = torch.optim.LBFGS(model.dense.parameters(), lr=0.1, max_iter=2)
    inner = SGD(model.up.parameters(), lr=0.1)
    choose, moved = first_half(model)
    up = FilterLayer("up", model.up)
    hold = Hold("WAU", lambda o: choose(o) if o is outer else [first_of(up)])
    hold.attach(outer)
    hold.attach(inner)

    def closure() -> Tensor:
        model.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        inner.step()
        return loss

    before, before_up = model.dense.weight.detach().clone(), model.up.weight.detach().clone()
    outer.step(closure)
    assert moved(before) == HELD
    assert (model.up.weight != before_up).transpose(0, 1).flatten(1).any(1).tolist() == [False] + [True] * 4


def test_hooks_go_on_the_innermost_optimizer() -> None:
    optimizer = SGD(net().parameters())
    hold = Hold("WAU", lambda o: [])
    hold.attach(Wrapper(optimizer))
    assert hold.steps.attached_to(optimizer)
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    with pytest.raises(ValueError, match=r"torch.optim.Optimizer, got str"):
        hold.attach("sgd")


class Rebinds(SGD):
    """Gives parameters and what it keeps of them new memory in every step."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for parameter, state in self.state.items():
            parameter.data = parameter.data.clone()
            state["momentum_buffer"] = state["momentum_buffer"].clone()
        return loss


def test_what_gets_new_memory_in_a_step_is_held_where_it_is_then() -> None:
    model = net()
    optimizer = Rebinds(model.parameters(), lr=0.1, momentum=0.9)
    choose, moved = first_half(model)
    weight = model.dense.weight

    def state_too(level: Any) -> Iterable[Spot]:
        yield from choose(level)
        if momentum := optimizer.state[weight]:
            yield Spot(lambda: momentum["momentum_buffer"], lambda tensor: (tensor, (torch.arange(4),)))

    Hold("WAU", state_too).attach(optimizer)
    for n in range(3):
        before = weight.detach().clone()
        kept = optimizer.state[weight]["momentum_buffer"].clone() if n else weight
        loss_of(model, next(batches())).backward()
        optimizer.step()
        assert moved(before) == HELD
        if n:
            assert torch.equal(optimizer.state[weight]["momentum_buffer"][:4], kept[:4])
            assert not torch.equal(optimizer.state[weight]["momentum_buffer"][4:], kept[4:])


def test_what_a_step_forgets_is_not_held() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = SGD([weight], lr=0.1, momentum=0.9)
    state = optimizer.state
    hold = Hold("WAU", lambda level: [Spot(lambda: state[weight]["momentum_buffer"], lambda tensor: (tensor, ()))])
    weight.grad = torch.ones(2, 3)
    optimizer.step()
    optimizer.register_step_post_hook(lambda *_: state[weight].clear())  # before ours, as if the step did it
    hold.attach(optimizer)
    optimizer.step()
    assert not state[weight]
    hold.detach()


def test_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate")
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1)
    accelerator = accelerate.Accelerator(cpu=True)
    prepared, wrapped = accelerator.prepare(model, optimizer)
    choose, moved = first_half(model)
    hold = Hold("WAU", choose)
    hold.attach(wrapped)
    assert hold.steps.attached_to(optimizer)
    before = model.dense.weight.detach().clone()
    accelerator.backward(loss_of(prepared, next(batches())))
    wrapped.step()
    assert moved(before) == HELD


def test_attaching_twice_is_refused_and_detaching_leaves_nothing() -> None:
    model = net()
    optimizer, other = SGD(model.parameters(), lr=0.1), Adam(model.parameters())
    choose, moved = first_half(model)
    hold = Hold("WAU", choose)
    hold.attach(optimizer)
    hold.attach(other)
    with pytest.raises(ValueError, match=r"already attached to this SGD: call detach\(\) first"):
        hold.attach(optimizer)
    with pytest.raises(ValueError, match="already attached"):
        hold.attach(Wrapper(optimizer))
    hold.detach()
    hold.detach()
    assert not hold.steps.attached_to(optimizer)
    assert hooks_of(model, optimizer) == hooks_of(model, other) == 0
    before = model.dense.weight.detach().clone()
    loss_of(model, next(batches())).backward()
    optimizer.step()
    assert moved(before) == [True] * 8
    hold.attach(optimizer)  # again
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None, "a detached optimizer is kept alive"


def test_nothing_stays_in_memory_between_steps() -> None:
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1)
    hold = Hold("WAU", first_half(model)[0])
    hold.attach(optimizer)
    loss_of(model, next(batches())).backward()
    optimizer.step()
    assert not hold._kept


def test_rows_are_found_where_the_tensor_or_its_memory_is_another_one() -> None:
    parameter, calls = torch.nn.Parameter(torch.arange(12.0).view(4, 3)), []

    def part(units: Tensor, tensor: Tensor) -> Any:
        calls.append(len(units))
        return tensor.detach(), (units,)

    rows = Rows(lambda: parameter, part)
    for chosen in ([0, 2], [1], []):
        rows.units = torch.tensor(chosen, dtype=torch.int64)
        kept = keep(*rows.find())
        with torch.no_grad():
            parameter += 1
        put_back(*rows.find(), kept)
    assert calls == [2]
    assert parameter.tolist() == [[2, 3, 4], [5, 6, 7], [8, 9, 10], [12, 13, 14]]
    parameter.data = torch.zeros(4, 3)
    rows.units = torch.tensor([3])
    assert keep(*rows.find()).tolist() == [[0, 0, 0]]
    assert calls == [2, 1]


def test_rows_of_a_shard_are_looked_for_each_time() -> None:
    """Whose index is another one than the units'."""
    tensor = torch.arange(4.0).view(2, 2)
    rows = Rows(lambda: tensor, lambda units, tensor: (tensor, (units[units >= 2] - 2,)))
    for chosen, expected in (([0, 3], [[2.0, 3.0]]), ([2], [[0.0, 1.0]]), ([1], [])):
        rows.units = torch.tensor(chosen)
        view, index = rows.find()
        assert view[index].tolist() == expected


def test_indices_on_their_devices() -> None:
    masks = [torch.tensor([True, False, True]), torch.tensor([False]), torch.tensor([True])]
    for devices in ([torch.device("cpu")] * 3, [torch.device("cpu"), torch.device("meta"), torch.device("cpu")]):
        found = indices(masks, devices)
        assert [one.device for one in found] == devices
        assert [len(one) for one in found] == [2, 0, 1]
        assert found[0].tolist() == [0, 2]
    assert indices([], []) == []


@given(masks=st.lists(st.lists(st.booleans(), max_size=5), max_size=5), false=st.booleans())
def test_indices_are_those_of_each_mask(masks: list[list[bool]], false: bool) -> None:
    found = indices(
        [torch.tensor(mask, dtype=torch.bool) for mask in masks], [torch.device("cpu")] * len(masks), false=false
    )
    assert [one.tolist() for one in found] == [[n for n, set_ in enumerate(mask) if set_ != false] for mask in masks]
