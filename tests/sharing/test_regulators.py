"""Putting regulators in, by whatever names a place is called."""

from __future__ import annotations

import torch
from torch import nn

from filtersmith.graph.residual import places
from filtersmith.graph.trace import parts
from filtersmith.sharing.regulators import Copy, Regulated, Regulator, is_regulated, regulate


class Block(nn.Module):
    """``x + norm(conv(x))``; the norm has two names."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.again = nn.ModuleList([self.norm])
        self.in_place = in_place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch: torch.Tensor = self.norm(self.conv(x))
        return branch.add_(x) if self.in_place else torch.add(branch, x)


def test_the_place_is_taken_under_all_its_names() -> None:
    model = Block(in_place=False).to(torch.float64).eval()
    before = model.norm
    found, left_out = places(parts(model, False)[0])
    assert left_out == {}
    assert [is_regulated(model, place) for place in found[1]] == [False]
    assert regulate(model, found) == {1: ("norm.regulator",)}
    assert model.norm is model.again[0]
    assert isinstance(model.norm, Regulated)
    assert model.norm.inner is before
    assert not any(module.training for module in model.modules())
    assert model.norm.regulator.conv.weight.dtype == torch.float64
    assert is_regulated(model, places(parts(model, False)[0])[0][1][0])
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    regulator = model.norm.regulator
    expected = x + regulator.bn(regulator.conv(before(model.conv(x)))).relu()
    torch.testing.assert_close(model(x), expected)


def test_what_is_written_into_is_copied() -> None:
    for in_place in (True, False):
        model = Block(in_place)
        regulate(model, places(parts(model, True)[0])[0])
        assert any(isinstance(module, Copy) for module in model.modules()) == in_place
        model(torch.randn(2, 3, 5, 5)).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_a_regulator_lies_as_its_neighbour_does() -> None:
    like = torch.zeros(4, 4, 3, 3).to(memory_format=torch.channels_last)
    regulator = Regulator(4, 2, like)
    assert [name for name, _ in regulator.named_children()] == ["conv", "bn", "relu"]
    assert regulator.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for dims in (1, 3):
        x = torch.randn(2, 4, *[3] * dims)
        assert Regulator(4, dims, torch.zeros(1))(x).shape == x.shape
