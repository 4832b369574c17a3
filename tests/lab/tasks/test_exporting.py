"""How a network is called in a file for elsewhere, and what counts as the same network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from filtersmith.lab.tasks.exporting import CHECKED, EXAMPLE, Check, Logits, called, compare, random_images
from filtersmith.lab.training.errors import RunFailed

FACTS = {"in_channels": 3, "image_size": 8}


def test_logits_are_those_of_batches_of_several_sizes() -> None:
    how = Logits(("images",), lambda batch: (random_images(FACTS, batch),), {"padding": 0})
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    assert how.program(network) is network
    (example,) = how.example("onnx")
    assert example.shape == (EXAMPLE, 3, 8, 8)
    checks = how.checks("onnx")
    outputs = [called(network, check) for check in checks]
    assert [tuple(one.shape) for (one,) in outputs] == [(size, 4) for size in CHECKED]
    assert not outputs[0][0].requires_grad
    assert how.compare(outputs[0], outputs[0], 0.0) == 0
    with pytest.raises(RunFailed, match="differ by"):
        how.compare(outputs[0], [outputs[0][0] + 1], 1e-4)
    assert how.described("pt2") == {"padding": 0}
    assert how.dynamic("pt2") == ({0: "batch"},)


class Pair(nn.Module):
    """Gives two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.sum() > 5:
            raise KeyError
        return x, x * self.weight


def test_what_is_added_for_a_call_goes_again() -> None:
    program, x = Pair(), torch.ones(1)
    first, second = called(program, Check((x,), {"weight": torch.tensor([3.0])}))
    assert (first.item(), second.item(), program.weight.item()) == (1, 5, 2)
    with pytest.raises(KeyError):
        called(program, Check((x * 6,), {"weight": torch.tensor([3.0])}))
    assert program.weight.item() == 2
    with pytest.raises(RunFailed, match="what was read back has no bias"):
        called(program, Check((x,), {"bias": torch.ones(1)}))


def test_what_counts_as_equal() -> None:
    expected = torch.tensor([[-20.0, 1.0]])
    assert compare(expected, expected, 0.0) == 0
    assert compare(expected, expected + 1e-3, 1e-4) == pytest.approx(5e-5, rel=1e-2)
    nan, large = torch.tensor([[float("nan"), 1.0]]), torch.tensor([[float("inf"), 1.0]])
    for left, right in (
        (expected, expected + 3e-3),
        (expected, nan),
        (nan, nan),
        (large, large),
        (expected * 0, nan),
    ):
        with pytest.raises(RunFailed, match="differ by"):
            compare(left, right, 1e-4)
    with pytest.raises(RunFailed, match=r"are \(1, 1\), not \(1, 2\)"):
        compare(expected, expected[:, :1], 1e-4)
