"""What every family of networks is tested for: sizes, images that it takes, how its kernels start, its names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
import torch
from reference.networks import State, shaken
from torch import Tensor, nn

from filtersmith import zoo


def sizes(name: str, for_ten: int, for_hundred: int) -> None:
    """Parameters of the network for 10 and for 100 classes."""
    assert (zoo.parameter_count(name, 10), zoo.parameter_count(name, 100)) == (for_ten, for_hundred)


@torch.no_grad()
def wiring(name: str, side: int, reference: Callable[[State, Tensor], Tensor]) -> None:
    """The network computes what a function of its state does."""
    model = shaken(name, side)
    x = torch.randn(2, 2, side, side, dtype=torch.double)
    expected = reference(model.state_dict(), x)
    assert expected.std() > 1e-3
    torch.testing.assert_close(model(x), expected)


@torch.no_grad()
def images(name: str, sides: Sequence[int], channels: Sequence[int] = (2,)) -> None:
    """It takes images of these sides."""
    for side in sides:
        for in_channels in channels:
            model = zoo.build(name, 11, in_channels, image_size=side).eval()
            assert model(torch.randn(2, in_channels, side, side)).shape == (2, 11)


def smallest_image(name: str, smallest: int, made_for: int = 32) -> None:
    """Torch takes no smaller one, and the zoo says so."""
    small = smallest - 1
    with torch.device("meta"), pytest.raises(RuntimeError):
        zoo.build(name, image_size=made_for)(torch.empty(2, 3, small, small))
    with pytest.raises(ValueError, match=f"^image_size must be at least {smallest} for {name}, got {small}$"):
        zoo.build(name, image_size=small)


def starts_as_he_says(conv: nn.Module, rel: float = 0.05) -> None:
    """Normal, with the variance of He's fan out."""
    assert isinstance(conv, nn.Conv2d)
    deviation = (2 / (conv.out_channels * conv.kernel_size[0] ** 2)) ** 0.5
    assert conv.weight.std().item() == pytest.approx(deviation, rel=rel)


def bad_name(name: str, message: str) -> None:
    """The name is refused in one line that says this."""
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        zoo.build(name)
    assert "\n" not in str(error.value)


def projections(model: nn.Module) -> list[str]:
    """Where shortcuts are not the identity."""
    return [name for name, module in model.named_modules() if name.endswith("projection") and module is not None]
