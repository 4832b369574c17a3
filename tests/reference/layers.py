"""Layers of every kind with an input that fits, for hypothesis."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
MODES = ("zeros", "reflect", "replicate", "circular")


@st.composite
def layers(draw: Any) -> tuple[nn.Module, Tensor]:
    """A convolution of 1 to 3 dimensions, transposed or not, or a linear layer; float32 or float64."""
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    bias = draw(st.booleans())
    if draw(st.integers(0, 7)) == 0:
        inputs, outputs = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        return nn.Linear(inputs, outputs, bias=bias, dtype=dtype), torch.randn(2, inputs, dtype=dtype)
    dims = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    inputs, outputs = (groups * draw(st.integers(1, 3)) for _ in range(2))
    common = {"stride": draw(st.integers(1, 2)), "dilation": draw(st.integers(1, 2)), "groups": groups, "bias": bias}
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(dims))
    layer: nn.Module
    if draw(st.booleans()):
        layer = TRANSPOSED[dims](inputs, outputs, kernel, dtype=dtype, **common)
    else:
        more = {"padding": draw(st.integers(0, 2)), "padding_mode": draw(st.sampled_from(MODES))}
        layer = CONVS[dims](inputs, outputs, kernel, dtype=dtype, **common, **more)
    x = torch.randn(2, inputs, *[6] * dims, dtype=dtype)
    if dims > 1 and draw(st.booleans()):
        layer, x = layer.to(memory_format=CHANNELS_LAST[dims]), x.to(memory_format=CHANNELS_LAST[dims])
    return layer, x
