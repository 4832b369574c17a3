"""Rows of many tensors at once against each by itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from reference.nets import batches, loss_of, net
from torch import Tensor, nn
from torch.optim import SGD, Adam

import filtersmith as fs
from filtersmith.filters import filter_layers, locate
from filtersmith.optim import hold
from filtersmith.optim.hold import Hold, Rows, keep, put_back
from filtersmith.optim.together import Together, fits


def random_bits(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """NaN with payloads among them; where rows have an odd number of bytes, only single bytes can be copied."""
    return torch.randint(256, (rows, width * dtype.itemsize), dtype=torch.uint8).view(dtype)


@pytest.mark.parametrize(
    ("dtypes", "widths"),
    [
        ([torch.float32, torch.float64, torch.complex64], [3, 1, 5]),
        ([torch.bfloat16, torch.float32, torch.float16], [3, 1, 8]),
        ([torch.float32, torch.uint8, torch.bfloat16], [1, 3, 2]),
        ([torch.float64], [4]),
    ],
)
def test_rows_come_back_bit_for_bit_and_nothing_else(dtypes: list[torch.dtype], widths: list[int]) -> None:
    torch.manual_seed(0)
    now = [random_bits(4 + n, width, dtype) for n, (dtype, width) in enumerate(zip(dtypes, widths, strict=True))]
    index = [torch.randperm(len(one))[: n + 1] for n, one in enumerate(now)]
    expected = [one.clone() for one in now]
    alone = [keep(one, (rows,)) for one, rows in zip(expected, index, strict=True)]
    together = Together([(one, (rows,)) for one, rows in zip(now, index, strict=True)])
    for one, other in zip(now, expected, strict=True):
        changed = random_bits(*one.shape, dtype=one.dtype)
        one.copy_(changed)
        other.copy_(changed)
    together.put_back(now)
    for one, rows, values in zip(expected, index, alone, strict=True):
        put_back(one, (rows,), values)
    assert all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(now, expected, strict=True))


def test_what_is_forgotten_is_left_out() -> None:
    tensors = [torch.zeros(3, width) for width in (2, 4, 1)]
    together = Together([(one, (torch.tensor([1]),)) for one in tensors])
    for one in tensors:
        one.fill_(1)
    together.put_back([tensors[0], None, tensors[2]])
    assert tensors[0].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert tensors[1].eq(1).all()
    assert tensors[2].tolist() == [[1], [0], [1]]
    together.put_back([None] * 3)


def test_what_has_gaps_or_another_index_is_kept_by_itself() -> None:
    index = (torch.tensor([0]),)
    assert fits((torch.zeros(2, 3), index))
    assert not fits((torch.zeros(3, 2).t(), index))
    assert not fits((torch.zeros(6), index))
    assert not fits((torch.zeros(2, 3), index * 2))


def trained(together: bool, make: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> nn.Module:
    monkeypatch.setattr(hold, "TOGETHER", {"cpu"} if together else set())
    torch.manual_seed(0)
    model = net()
    optimizer = make(model.parameters())
    wau = fs.WAU(model, **options).attach(optimizer)
    for batch in (next(batches()) for _ in range(4)):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
    assert wau.active
    return model


@pytest.mark.parametrize("options", [{}, {"mode": "skip"}, {"unit": "input-channel"}, {"unit": "element"}])
@pytest.mark.parametrize("channels_last", [False, True])
def test_wau_is_the_same_bit_for_bit(options: Any, channels_last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(parameters: Iterator[nn.Parameter]) -> Any:
        parameters = list(parameters)
        if channels_last:
            for one in parameters:
                one.data = one.data.to(memory_format=torch.channels_last) if one.ndim == 4 else one.data
        return Adam(parameters, lr=0.1)

    kept, calls = Together.put_back, []
    monkeypatch.setattr(Together, "put_back", lambda self, views: (calls.append(len(views)), kept(self, views)))
    alone, together = (trained(how, make, monkeypatch, **options) for how in (False, True))
    assert all(map(torch.equal, alone.parameters(), together.parameters()))
    assert len(calls) == (0 if options.get("unit") == "element" else 4)


def test_a_step_that_forgets_state_and_moves_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "TOGETHER", {"cpu"})
    model = net()
    layers = filter_layers(model)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss_of(model, next(batches())).backward()
    optimizer.step()
    before = copy.deepcopy(model)

    def rows(tensor: Any, layer: Any) -> Rows:
        found = Rows(tensor, lambda units, tensor: locate(layer, units, tensor=tensor))
        found.units = torch.tensor([0])
        return found

    def choose(level: Any) -> Iterator[Rows]:
        for layer in layers:
            yield rows(lambda layer=layer: layer.weight, layer)
            yield rows(lambda layer=layer: optimizer.state[layer.weight]["momentum_buffer"], layer)

    def after(*_: Any) -> None:
        optimizer.state[layers[0].weight].clear()
        layers[1].weight.data = layers[1].weight.data.clone()

    optimizer.register_step_post_hook(after)
    Hold("X", choose).attach(optimizer)
    loss_of(model, next(batches())).backward()
    optimizer.step()
    for layer, old in zip(layers, filter_layers(before), strict=True):
        (view, index), (then, _) = (locate(one, torch.tensor([0])) for one in (layer, old))
        assert torch.equal(view[index], then[index]), layer.name
        assert layer.filters == 1 or not torch.equal(view, then), layer.name
