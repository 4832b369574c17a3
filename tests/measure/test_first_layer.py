"""Pictures of filters against loops over weights."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from reference.nets import assert_same
from torch import Tensor, nn

import filtersmith as fs
from filtersmith.measure import first_layer
from filtersmith.measure.first_layer import first_layer_kernels


def by_hand(filters: Tensor) -> list[list[float]]:
    """Filter-major weights as Python lists, a filter each."""
    found = []
    for row in filters.detach().double().flatten(1).tolist():
        peak = max(map(abs, row)) if all(map(math.isfinite, row)) else 0
        found.append([0.5 + w / peak / 2 if peak else 0.5 for w in row])
    return found


class Two(nn.Module):
    """Its first convolution is not the one that runs first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = nn.Conv2d(6, 8, (3, 2), groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2)
        self.line, self.fc = nn.Conv1d(3, 4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(self.up(x)).mean((2, 3))


def test_as_by_hand() -> None:
    model = Two()
    with torch.no_grad():
        model.stem.weight[1, 2, 1, 1] = 0
        model.stem.weight[2] = 0
        for row, value in enumerate((float("nan"), float("inf"), 1e-42), 3):
            model.stem.weight[row, 0, 0, 0] = value
        model.stem.weight[5] *= 1e-40  # below what float32 holds in full
        model.stem.weight[6] *= 1e38
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = first_layer_kernels(model)
    assert (found.shape, found.dtype, found.requires_grad) == ((8, 3, 3, 2), torch.float32, False)
    torch.testing.assert_close(found.flatten(1).double(), torch.tensor(by_hand(model.stem.weight)).double())
    assert found[1, 2, 1, 1] == 0.5
    assert (found[2:5] == 0.5).all()
    peaks = (found - 0.5).abs().amax((1, 2, 3))
    assert peaks.tolist() == [0.5, 0.5, 0, 0, 0, 0.5, 0.5, 0.5]
    assert all(torch.equal(value.nan_to_num(), before[n].nan_to_num()) for n, value in model.state_dict().items())
    rows = torch.stack([model.up.weight[2 * (f // 3) : 2 * (f // 3) + 2, f % 3] for f in range(6)])
    up = first_layer_kernels(model.bfloat16(), "up")
    assert up.shape == (6, 2, 3, 3)
    torch.testing.assert_close(up.flatten(1).double(), torch.tensor(by_hand(rows)).double(), atol=0.01, rtol=0)


def test_an_expanded_network_shows_what_is_deployed_and_stays_as_it_was() -> None:
    model = fs.expand(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)), fs.KFLO())
    kept, random = {n: v.clone() for n, v in model.state_dict().items()}, torch.get_rng_state()
    found = first_layer_kernels(model)
    assert_same(model.state_dict(), kept)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert torch.equal(found, first_layer_kernels(fs.collapse(model), "0"))
    torch.testing.assert_close(found.flatten(1).double(), torch.tensor(by_hand(model[0].weight)).double())


def test_refusals_and_the_example() -> None:
    for model, layer, message in (
        (Two(), "line", r"^layer 'line' must be a 2-d convolution, got 'filters \(4, 3, 3\)'$"),
        (Two(), "fc", "^layer 'fc' must be a 2-d convolution"),
        (Two(), "stm", "^unknown layer 'stm' .did you mean 'stem'"),
        (nn.Sequential(nn.Conv3d(1, 2, 3)), None, "^the first convolution, '0', must be a 2-d convolution"),
        (nn.Linear(2, 2), None, "^Linear has no convolution$"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            first_layer_kernels(model, layer)
        assert "\n" not in str(caught.value)
    results = doctest.testmod(first_layer)
    assert (results.attempted, results.failed) == (3, 0)
