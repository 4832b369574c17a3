"""Where filters stand in what is kept of them."""

from __future__ import annotations

import pytest
import torch
from reference.filters import members
from torch import Tensor, nn

from filtersmith.filters import FilterLayer
from filtersmith.optim.places import Place, kind_of, mask_of, part_of, place_in, same, spots, write

COUNT, UNIT = 4, 2
OWN = torch.zeros(COUNT, 6, dtype=torch.bool).index_fill_(0, torch.tensor([UNIT]), True)
NONE, ALL = torch.zeros_like(OWN), torch.ones_like(OWN)


def pairs(cross: bool) -> Tensor:
    mask = torch.zeros(COUNT, COUNT, dtype=torch.bool)
    mask[UNIT] = mask[:, UNIT] = True
    return mask if cross else torch.diag(torch.arange(COUNT) == UNIT)


ROW = OWN[:, 0]
BLOCKS = torch.tensor([True, False, False])
CASES: dict[str, tuple[Tensor, Tensor, Place | None]] = {
    "momentum": (OWN, OWN, Place(as_parameter=True)),
    "momentum of scaled gradients": (OWN, ALL, Place(as_parameter=True)),
    "the weights of the start": (NONE, OWN, Place(as_parameter=True)),
    "in other axes": (ALL, ALL, None),
    "flattened": (OWN.flatten(), OWN.flatten(), Place(as_parameter=True)),
    "a number for each": (ROW, ROW, Place(axes=(0,))),
    "a number for each, of scaled gradients": (ROW, ROW | True, Place(axes=(0,))),
    "along the second axis": (ROW[None], ROW[None], Place(axes=(1,))),
    "all pairs": (pairs(False), pairs(True), Place(axes=(0, 1))),
    "pairs of scaled gradients": (pairs(False), pairs(True) | True, Place(axes=(0, 1))),
    "a step counter": (torch.tensor(False), torch.tensor(False), Place()),
    "a mean over them": (torch.ones(6).bool(), torch.ones(6).bool(), Place()),
    "scales of blocks": (BLOCKS, BLOCKS, None),
}


@pytest.mark.parametrize("name", CASES)
def test_from_what_changes_with_a_filter(name: str) -> None:
    alone, among, expected = CASES[name]
    assert place_in(among.shape, True, OWN, UNIT, COUNT, alone, among) == expected


LAYERS = {
    "rows": FilterLayer("", nn.Conv2d(3, 4, 2)),
    "columns": FilterLayer("", nn.ConvTranspose2d(3, 4, 2)),
    "columns of groups": FilterLayer("", nn.ConvTranspose2d(6, 4, 2, groups=2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_parts_are_those_of_the_filters(name: str) -> None:
    layer = LAYERS[name]
    weight = layer.weight.detach()
    inside = torch.as_tensor(members(layer.module, [3], "filter"))
    assert torch.equal(mask_of(layer, 3, weight), inside)
    value, source = torch.zeros_like(weight), torch.randn(weight.shape)
    write(Place(as_parameter=True), layer, torch.tensor([3]), weight.shape, value, "weight", source)
    assert torch.equal(value, torch.where(inside, source, torch.zeros(())))
    flat = torch.zeros(weight.numel())
    write(Place(as_parameter=True), layer, torch.tensor([3]), weight.shape, flat, 2.0, None)
    assert torch.equal(flat.view(weight.shape) == 2, inside)
    assert kind_of(layer) == (None if name == "rows" else (True, 2 if "groups" in name else 1))


def test_rows_and_pairs() -> None:
    vector, matrix = torch.zeros(4), torch.zeros(4, 4)
    view, index = part_of(None, torch.tensor([1]), vector)
    view[index] = 1
    assert vector.tolist() == [0, 1, 0, 0]
    write(Place(axes=(0, 1)), None, torch.tensor([1]), vector.shape, matrix, "other", torch.arange(16.0).view(4, 4))
    expected = torch.arange(16.0).view(4, 4)
    expected[[0, 2, 3], :] = expected[[0, 2, 3], :] * torch.tensor([0, 1, 0, 0])
    assert torch.equal(matrix, expected)
    assert list(spots(Place(), None, torch.tensor([1]), vector.shape, vector)) == []
    assert kind_of(None) is None


def test_same() -> None:
    nan = float("nan")
    assert same(torch.tensor([1.0, nan, 2.0]), torch.tensor([1.0, nan, 3.0])).tolist() == [True, True, False]
