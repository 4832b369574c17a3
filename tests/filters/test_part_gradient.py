"""Gradients of some filters against those of all."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from filtersmith.filters import FilterLayer
from filtersmith.filters.part_gradient import PartGradient, convolve, reason_for_whole_gradient

CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "3x3": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 9, 9)),
    "without a bias": (nn.Conv2d(4, 6, 3, bias=False), (2, 4, 9, 9)),
    "strided and dilated": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), dilation=(1, 3), padding=(0, 2)), (2, 4, 9, 9)),
    "1x1": (nn.Conv2d(4, 6, 1), (2, 4, 5, 5)),
    "same, of an even kernel": (nn.Conv2d(4, 6, 4, padding="same"), (2, 4, 9, 9)),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 9, 9)),
    "circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 9, 9)),
    "one dimension": (nn.Conv1d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 9)),
    "three dimensions": (nn.Conv3d(4, 6, 2, stride=2), (2, 4, 5, 5, 5)),
    "no batch": (nn.Conv2d(4, 6, 3), (4, 9, 9)),
    "double precision": (nn.Conv2d(4, 6, 3, padding=1).double(), (2, 4, 9, 9)),
}
MASKS = {"some": [0, 3, 4], "one": [5], "none": [], "all": [0, 1, 2, 3, 4, 5]}


def gradients(module: nn.Module, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The outputs, and the gradients of the inputs and of all parameters."""
    outputs = module(inputs)
    loss = (outputs.double() * torch.arange(outputs.numel()).view_as(outputs).sin()).sum()
    return outputs.detach(), list(torch.autograd.grad(loss, [inputs, *module.parameters()]))


def mask_of(chosen: list[int]) -> Tensor:
    return torch.zeros(6, dtype=torch.bool).index_fill(0, torch.tensor(chosen, dtype=torch.int64), True)


def part_of(module: nn.Module, chosen: list[int]) -> PartGradient:
    part = PartGradient(FilterLayer("", module), [module])
    part.choose(mask_of(chosen).nonzero().flatten())
    part.start()
    return part


HOW = [
    *((case, mask, "as it is") for case in CASES for mask in MASKS),
    *((case, "some", how) for case in CASES for how in ("autocast", "compiled")),
    *((case, "some", "channels_last") for case, (_, shape) in CASES.items() if len(shape) == 4),
]


@pytest.mark.parametrize(("case", "mask", "how"), HOW)
def test_gradients_are_those_of_the_chosen_filters_and_zeros(case: str, mask: str, how: str) -> None:
    module, shape = copy.deepcopy(CASES[case])
    chosen = MASKS[mask]
    inputs = torch.randn(shape, dtype=module.weight.dtype, requires_grad=True)
    if how == "channels_last":
        inputs = inputs.detach().to(memory_format=torch.channels_last).requires_grad_()
        module.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        outputs, expected = gradients(module, inputs)
        part_of(module, chosen)
        run = torch.compile(module, backend="aot_eager", fullgraph=True) if how == "compiled" else module
        found = gradients(run, inputs)
    assert torch.equal(found[0], outputs)
    expected[1][~mask_of(chosen)] = 0
    for one, other in zip(found[1], expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    torch._dynamo.reset()


def test_the_weights_gradient_lies_as_the_weight() -> None:
    """So that it is accumulated without a copy."""
    module = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    part_of(module, [1, 2])
    module(torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last)).sum().backward()
    assert module.weight.grad is not None
    assert module.weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_the_arithmetic_of_the_others_is_not_done() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    module, inputs = nn.Conv2d(4, 6, 3, padding=1), torch.randn(2, 4, 9, 9, requires_grad=True)
    counts = []
    for chosen in (MASKS["all"], [0, 2, 4]):
        part = part_of(module, chosen)
        with FlopCounterMode(display=False) as counter:
            module(inputs).sum().backward()
        counts.append(counter.get_total_flops())
        part.stop()
    assert counts[1] / counts[0] == pytest.approx(5 / 6)


def test_gradients_of_gradients() -> None:
    module, inputs = nn.Conv2d(3, 6, 3, dtype=torch.float64), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    weight, bias = module.weight.detach().requires_grad_(), module.bias.detach().requires_grad_()  # type: ignore[union-attr]
    active = torch.tensor([0, 4])

    def some(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        mask = torch.zeros(6, 1, 1, 1, dtype=torch.bool).index_fill(0, active, True)
        return F.conv2d(inputs, torch.where(mask, weight, weight.detach()), bias)

    for function in (some, lambda i, w, b: convolve(i, w, b, active, (1, 1), (0, 0), (1, 1))):
        variables = [one.clone().requires_grad_() for one in (inputs, weight, bias)]
        first = torch.autograd.grad(function(*variables).pow(3).sum(), variables, create_graph=True)
        second = torch.autograd.grad(sum(one.square().sum() for one in first), variables)
        if function is some:
            expected = second
    for one, other, rows in zip(second, expected, (slice(None), active, slice(None)), strict=True):
        torch.testing.assert_close(one[rows], other[rows])


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_functional_gradients_of_single_samples() -> None:
    module = nn.Conv2d(3, 6, 3)
    active, images = torch.tensor([0, 4]), torch.randn(5, 3, 6, 6)

    def loss(weight: Tensor, image: Tensor) -> Tensor:
        return convolve(image, weight, None, active, (1, 1), (0, 0), (1, 1)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(module.weight.detach(), images)
    for one, image in zip(found, images, strict=True):
        expected = torch.func.grad(loss)(module.weight.detach(), image)
        torch.testing.assert_close(one, expected)
        assert not one[[1, 2, 3, 5]].any()
        assert one[active].any()


def test_without_gradients_and_frozen_it_is_the_modules_own() -> None:
    module, inputs = nn.Conv2d(3, 6, 3), torch.randn(2, 3, 6, 6)
    part_of(module, [1])
    with torch.no_grad():
        assert module(inputs).grad_fn is None
    module.weight.requires_grad_(False)
    module(inputs).sum().backward()
    assert module.weight.grad is None
    assert module.bias is not None
    assert module.bias.grad is not None


def test_copies_and_what_is_saved_are_plain_and_stop_ends_it() -> None:
    module, inputs = nn.Sequential(nn.Conv2d(3, 6, 3)), torch.randn(2, 3, 6, 6)
    part = part_of(module[0], [1])
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (copy.deepcopy(module), torch.load(file, weights_only=False)):
        assert torch.equal(other(inputs), module(inputs))
        other(inputs).sum().backward()
        assert other[0].weight.grad.flatten(1).any(1).all()
        with torch.no_grad():
            other[0].weight.zero_()
            assert not torch.equal(other(inputs), module(inputs)), "it computes with its own weight"
    part.stop()
    part.stop()
    module(inputs).sum().backward()
    assert module[0].weight.grad.flatten(1).any(1).all()


def test_where_torch_traces_or_goes_forward_it_is_the_modules_own() -> None:
    module, inputs = nn.Conv2d(3, 6, 3), torch.randn(2, 3, 6, 6)
    part_of(module, [1])
    traced = torch.jit.trace(module, inputs)
    assert "PythonOp" not in str(traced.graph)
    assert torch.equal(traced(inputs), module(inputs))
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(module(forward_ad.make_dual(inputs, inputs))).tangent
    assert module.bias is not None
    torch.testing.assert_close(tangent, module(inputs) - module.bias[:, None, None])


class Own(nn.Conv2d):
    def forward(self, inputs: Tensor) -> Tensor:
        return F.conv2d(inputs, self.weight * 2)


def test_reasons() -> None:
    patched = nn.Conv2d(4, 4, 3)
    patched.forward = lambda inputs: inputs  # type: ignore[method-assign]
    computed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
    started = nn.Conv2d(4, 4, 3)
    part_of(started, [1])
    expected: list[tuple[Any, str | None]] = [
        (nn.Conv2d(4, 4, 3), None),
        (nn.Conv2d(4, 4, 3, groups=2), "it has 2 groups"),
        (nn.Conv2d(4, 8, 3, groups=4), "it has 4 groups"),
        (nn.ConvTranspose2d(4, 4, 3), "it is a ConvTranspose2d"),
        (nn.Linear(4, 4), "it is a Linear"),
        (computed, "its weight is computed"),
        (Own(4, 4, 3), "this Own computes in a way of its own"),
        (patched, "this Conv2d computes in a way of its own"),
        (nn.Conv2d(4, 4, 3, dtype=torch.complex64), "its weight is complex"),
        (copy.deepcopy(started), None),
        (started, "this Conv2d computes in a way of its own"),
    ]
    for module, reason in expected:
        assert reason_for_whole_gradient(module) == reason
