"""What is said of a module that channels meet, against running it with channels taken away or changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from filtersmith.graph.flow import Run, channels_of_each, unknown, width
from filtersmith.graph.sites import Role, Site, dimensions, is_depthwise

INPUTS = (Run("a", 2), *unknown(1), Run("b", 1))
"""Two filters, a channel of nobody's, and another one's filter."""


class Gain(nn.Module):
    """One number for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gain


class OwnNorm(nn.BatchNorm2d):
    """A user's own."""


MODULES: dict[str, tuple[Role, Any]] = {
    "depthwise": ("per-channel", lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1)),
    "depthwise, three each": ("per-channel", lambda: nn.Conv2d(4, 12, 3, groups=4)),
    "transposed, two each": ("per-channel", lambda: nn.ConvTranspose2d(4, 8, 3, groups=4)),
    "batch norm": ("per-channel", lambda: nn.BatchNorm2d(4)),
    "batch norm without parameters": ("per-channel", lambda: nn.BatchNorm2d(4, affine=False)),
    "somebody's batch norm": ("per-channel", lambda: OwnNorm(4)),
    "instance norm": ("per-channel", lambda: nn.InstanceNorm2d(4, affine=True)),
    "group norm": ("per-channel", lambda: nn.GroupNorm(2, 4)),
    "layer norm": ("per-channel", lambda: nn.GroupNorm(1, 4, affine=False)),
    "PReLU": ("per-channel", lambda: nn.PReLU(4)),
    "ReLU": ("elementwise", nn.ReLU),
    "pooling": ("elementwise", lambda: nn.MaxPool2d(2)),
}


@pytest.mark.parametrize("name", MODULES)
def test_output_channels_are_those_that_react(name: str) -> None:
    """To the channels of one filter, all others as before; in training, where norms look at what they get."""
    role, make = MODULES[name]
    site = Site(name, make(), role, INPUTS)
    images = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    before = site.module(images)
    assert before.shape[1] == width(site.outputs)
    for producer, filters in (("a", 2), ("b", 1)):
        arriving, leaving = (channels_of_each(of, producer, filters) for of in (INPUTS, site.outputs))
        for f in range(filters):
            changed = images.clone()
            changed[:, arriving[f]] = changed[:, arriving[f]] ** 2 + 1
            differs = (site.module(changed) != before).flatten(2).any(2).any(0)
            reacting = set(differs.nonzero().flatten().tolist())
            assert set(leaving[f]) <= reacting
            if site.each_by_itself:
                assert reacting == set(leaving[f])


@pytest.mark.parametrize("name", ["group norm", "layer norm"])
def test_statistics_over_several_channels_are_told(name: str) -> None:
    role, make = MODULES[name]
    assert not Site(name, make(), role, INPUTS).each_by_itself


OWN = {
    "depthwise": True,
    "batch norm": True,
    "batch norm without parameters": True,  # its statistics
    "group norm": True,
    "layer norm": False,
    "PReLU": True,
    "ReLU": False,
}


@pytest.mark.parametrize("name", OWN)
def test_who_has_something_for_each_channel(name: str) -> None:
    role, make = MODULES[name]
    assert Site(name, make(), role, INPUTS).has_own == OWN[name]


def test_channels_end_in_a_consumer() -> None:
    for module in (nn.Conv2d(4, 6, 3), nn.Linear(4, 6), Gain()):
        role: Role = "elementwise" if isinstance(module, Gain) else "consumer"
        site = Site("x", module, role, INPUTS)
        assert not site.has_own, "what it has is for its own filters, or for all channels together"
        assert site.each_by_itself
        assert "Conv2d" not in repr(site), "networks are long"


@pytest.mark.parametrize(
    ("module", "depthwise", "dims"),
    [
        (nn.Conv2d(4, 8, 3, groups=4), True, 2),
        (nn.Conv1d(4, 4, 3, groups=4), True, 1),
        (nn.ConvTranspose3d(4, 4, 3, groups=4), True, 3),
        (nn.Conv2d(4, 8, 3, groups=2), False, 2),
        (nn.Conv2d(4, 8, 3), False, 2),
        (nn.Conv2d(1, 8, 3), False, 2),  # one group, and one channel
    ],
)
def test_depthwise_and_dimensions(module: Any, depthwise: bool, dims: int) -> None:
    assert is_depthwise(module) == depthwise
    assert dimensions(module) == dims
    assert not is_depthwise(nn.Linear(4, 4))


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (nn.BatchNorm2d(4), "zeros of anything"),
        (nn.GroupNorm(2, 4), "zeros of anything"),
        (nn.Conv2d(4, 4, 3, groups=4), "zeros of anything"),
        (nn.BatchNorm2d(4, affine=False), "zeros"),
        (nn.PReLU(4), "zeros"),
        (nn.InstanceNorm2d(4), "zeros"),
        (nn.LocalResponseNorm(3), "zeros"),
        (nn.GroupNorm(2, 4, affine=False), "something"),
        (nn.InstanceNorm2d(4, track_running_stats=True), "something"),  # no one tells which are whose
    ],
)
def test_what_becomes_of_zeros(module: Any, found: str) -> None:
    """The first and third channel are left out: parameters are 0, and a batch norm's statistics those of zeros."""
    site = Site("x", module.eval(), "per-channel", INPUTS)
    assert site.of_zeros == found
    with torch.no_grad():
        for tensor in module.parameters():
            nn.init.uniform_(tensor, 0.1, 1)[[0, 2]] = 0
        for name, tensor in module.named_buffers():
            if tensor.ndim:
                tensor.copy_(torch.rand(4) + 0.1)
                if site.has_own:
                    tensor[[0, 2]] = float(name == "running_var")
        anything = torch.rand(2, 4, 5, 5)
        nothing = anything.index_fill(1, torch.tensor([0, 2]), 0)
        zeros = [not module(x)[:, [0, 2]].any() for x in (nothing, anything)]
    assert zeros == [found != "something", found == "zeros of anything"]
