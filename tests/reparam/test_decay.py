"""Decay of computed kernels: exact in float32, right on average in bfloat16, scaled with the loss."""

from __future__ import annotations

import pytest
import torch

from filtersmith.reparam.decay import add_decay, with_decay


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_it_is_the_gradient_of_the_penalty(dtype: torch.dtype) -> None:
    kernel = torch.randn(4, 5, dtype=dtype, requires_grad=True)
    direction = torch.randn(4, 5, dtype=dtype)
    ((with_decay(kernel, 0.25) * direction).sum()).backward()
    torch.testing.assert_close(kernel.grad, direction + 0.25 * kernel.detach())


def test_a_decay_below_the_last_bit_of_bfloat16_is_not_lost() -> None:
    """Rounded to the nearest number, these gradients would all stay what they are."""
    gradient = torch.randn(200_000).bfloat16()
    kernel = torch.full_like(gradient, 0.5)
    decay = 1e-4
    assert (torch.add(gradient, kernel, alpha=decay) == gradient).float().mean() > 0.95
    change = (add_decay(gradient, kernel, decay).float() - gradient.float()).double()
    assert add_decay(gradient, kernel, decay).dtype == torch.bfloat16
    error = change.std() / change.numel() ** 0.5
    assert abs(change.mean() - decay * 0.5) < 4 * error
    assert 4 * error < 0.5 * decay * 0.5, "the test could not tell"


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_signs_and_sizes_are_kept_in_bfloat16(sign: float) -> None:
    gradient = sign * torch.logspace(-30, 30, 1000).bfloat16()
    assert torch.equal(add_decay(gradient, torch.zeros_like(gradient), 1.0), gradient), "nothing to add"
    zero = torch.zeros(1000).bfloat16()
    kernel = sign * torch.rand(1000).bfloat16()
    torch.testing.assert_close(add_decay(zero, kernel, 1e-3).float(), 1e-3 * kernel.float(), rtol=2**-7, atol=0)


def test_it_asks_each_time_and_scales_with_the_loss() -> None:
    kernel = torch.ones(3, requires_grad=True)
    answers = [1.0, 0.0, torch.tensor(True), torch.tensor(False)]
    computed = with_decay(kernel, 0.5, share=lambda: answers.pop(0))
    for expected in (1.5, 1.0, 1.5, 1.0):
        (gradient,) = torch.autograd.grad(computed.sum(), kernel, retain_graph=True)
        assert torch.equal(gradient, torch.full((3,), expected))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    (gradient,) = torch.autograd.grad(scaler.scale(with_decay(kernel, 0.5, scaler=scaler).sum()), kernel)
    assert torch.equal(gradient, torch.full((3,), 1024 * 1.5))
