"""Where channels stand in what layers give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from filtersmith.measure.axes import axis_of, is_layer_norm


class LayerNorm2d(nn.LayerNorm):
    """As timm and torchvision have it, for ``(N, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RmsNorm(nn.Module):
    """As timm has it: no class of torch's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.normalized_shape = channels


MAPS, LAST = (2, 5, 4, 6), (2, 4, 6, 5)


@pytest.mark.parametrize(
    ("module", "shape", "axis"),
    [
        (nn.Conv2d(3, 5, 1), MAPS, 1),
        (nn.ConvTranspose1d(3, 5, 1), (2, 5, 4), 1),
        (nn.Linear(3, 5), LAST, 3),
        (nn.Linear(3, 5), (2, 5), 1),
        (nn.BatchNorm2d(5), MAPS, 1),
        (nn.InstanceNorm2d(5), MAPS, 1),
        (nn.GroupNorm(1, 5), MAPS, 1),
        (nn.LayerNorm(5), LAST, 3),
        (nn.LayerNorm(5), (2, 5, 5, 5), 3),
        (nn.RMSNorm(5), (2, 5, 5), 2),
        (LayerNorm2d(5), MAPS, 1),
        (LayerNorm2d(5), LAST, 3),
        (RmsNorm(5), LAST, 3),
        (nn.Flatten(), (2, 5), 1),
    ],
)
def test_what_is_known_whatever_the_network_has_and_whatever_is_given(module: Any, shape: Any, axis: int) -> None:
    for given in (None, 1, -1):
        assert axis_of("a", module, torch.empty(shape), given, tokens=True) == axis


def test_of_other_modules_what_is_given_or_1_where_there_is_no_layer_norm() -> None:
    output = torch.empty(LAST)
    assert axis_of("a", nn.ReLU(), output, None, tokens=False) == 1
    for given, axis in ((-1, 3), (3, 3), (2, 2)):
        for tokens in (True, False):
            assert axis_of("a", nn.ReLU(), output, given, tokens=tokens) == axis
    cannot = (
        r"^layer 'a' gives \(2, 5, 4, 5\), and which dimension has the channels cannot be told beside layer norms: "
    )
    for module in (nn.ReLU(), LayerNorm2d(5), LayerNorm2d(7), nn.LayerNorm((4, 5))):
        with pytest.raises(ValueError, match=cannot + r"say it with fs.measure.activations\(..., channel_axis=\)$"):
            axis_of("a", module, torch.empty(2, 5, 4, 5), None, tokens=True)
        assert axis_of("a", module, torch.empty(2, 5, 4, 5), -1, tokens=True) == 3
    for bad in (0, 4, -4, -5):
        with pytest.raises(
            ValueError, match=rf"channel_axis must be a dimension of .*, layer 'a', but .*, got {bad}$"
        ):
            axis_of("a", nn.ReLU(), output, bad, tokens=True)


def test_which_modules_normalise_trailing_dimensions() -> None:
    modules = (nn.LayerNorm(3), nn.LayerNorm((3, 4)), nn.RMSNorm(3), LayerNorm2d(3), RmsNorm(3))
    assert all(is_layer_norm(module) for module in modules)
    others: tuple[nn.Module, ...] = (nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.Conv2d(3, 3, 1), nn.Sequential())
    assert not any(is_layer_norm(module) for module in others)
