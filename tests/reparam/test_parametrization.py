"""What parametrizations of `expand` have in common: decay, drawn once against a penalty; new and original tensors."""

from __future__ import annotations

import copy
import gc
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from filtersmith.reparam.parametrization import Expansion, fresh, originals


class Product(Expansion):
    """A kernel that is the product of two matrices."""

    roles = ("filtered", "inner")

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.decayed(left @ right, (left, right))

    def right_inverse(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        return kernel.clone(), torch.eye(kernel.shape[1])


def layer() -> nn.Linear:
    torch.manual_seed(0)
    made = nn.Linear(3, 4, bias=False)
    parametrize.register_parametrization(made, "weight", Product())
    with torch.no_grad():
        for original in originals(made.parametrizations["weight"]):  # type: ignore[index]
            original.normal_()
    return made


def expansion(made: nn.Module) -> Product:
    return made.parametrizations["weight"][0]  # type: ignore[index, return-value]


def gradients(made: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in originals(made.parametrizations["weight"])]  # type: ignore[index, union-attr]


def expected(
    made: nn.Module, inputs: Sequence[Tensor], decay: float, trained: Sequence[int] = (0, 1)
) -> list[Tensor]:
    """The gradients of the losses and of one penalty, computed without the parametrization."""
    tensors = [p.detach().clone().requires_grad_() for p in originals(made.parametrizations["weight"])]  # type: ignore[index]
    kernel = tensors[0] @ tensors[1]
    loss = sum((x @ kernel.T).square().sum() for x in inputs)
    return list(torch.autograd.grad(loss + decay / 2 * kernel.square().sum(), [tensors[n] for n in trained]))


@pytest.mark.parametrize("cleared", [True, False])
def test_decay_is_added_once_for_each_gradient_however_it_accumulates(cleared: bool) -> None:
    made, inputs = layer(), torch.randn(3, 2, 3).unbind()
    expansion(made).set_decay(0.5, None)
    for _ in range(2):
        sum(made(x).square().sum() for x in inputs).backward()  # type: ignore[union-attr]
        torch.testing.assert_close(gradients(made), expected(made, inputs, 0.5), msg="one pass, called three times")
        made.zero_grad(set_to_none=cleared)
        for x in inputs:
            made(x).square().sum().backward()
        torch.testing.assert_close(gradients(made), expected(made, inputs, 0.5), msg="three passes")
        made.zero_grad(set_to_none=cleared)


def test_gradients_that_are_asked_for_have_it_too_and_frozen_parameters_do_not_matter() -> None:
    made, x = layer(), torch.randn(2, 3)
    expansion(made).set_decay(0.5, None)
    tensors = originals(made.parametrizations["weight"])  # type: ignore[index]
    for _ in range(2):  # nothing is accumulated, so each has it
        found = torch.autograd.grad(made(x).square().sum(), tensors)
        torch.testing.assert_close(list(found), expected(made, [x], 0.5))
    tensors[0].requires_grad_(False).grad = torch.ones(4, 3)  # of the time when it was trained
    made(x).square().sum().backward()
    torch.testing.assert_close([tensors[1].grad], expected(made, [x], 0.5, trained=[1]))
    tensors[1].requires_grad_(False)
    assert not made.weight.requires_grad
    torch.testing.assert_close(made.weight, tensors[0] @ tensors[1])


def test_without_decay_it_is_the_kernel_itself() -> None:
    how, kernel = Product(), torch.randn(2, 2, requires_grad=True)
    assert how.decayed(kernel, ()) is kernel
    how.set_decay(0.5, None)
    assert torch.equal(how.decayed(kernel, ()), kernel)


def test_a_scaled_loss_has_scaled_decay_and_half_precision_needs_to_be_told() -> None:
    made, x = layer(), torch.randn(2, 3)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    expansion(made).set_decay(0.5, scaler)
    scaler.scale(made(x).square().sum()).backward()
    torch.testing.assert_close([g / 8 for g in gradients(made)], expected(made, [x], 0.5))
    assert expansion(copy.deepcopy(made)).decay == 0.5, "a network with a scaler can be copied"

    half = torch.randn(2, 2, dtype=torch.float16, requires_grad=True)
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(expansion(made).decayed(half, ()), half)
        del scaler
        gc.collect()
        with pytest.raises(ValueError, match=r"^scaler must be given to param_groups for float16 autocast, got None"):
            expansion(made).decayed(half, ())
        assert expansion(made).decayed(half.detach(), ()).dtype == torch.float16, "a frozen one has no decay to scale"
    assert torch.equal(expansion(made).decayed(half, ()), half), "no autocast, no scaled loss"


def test_new_tensors_are_drawn_as_torch_draws_them() -> None:
    like = torch.empty(0, dtype=torch.float64)
    found = fresh((50, 40), 25, like)
    assert (found.shape, found.dtype) == ((50, 40), torch.float64)
    assert found.abs().max() <= 0.2
    assert found.abs().max() > 0.19
    assert abs(found.mean()) < 0.01
    assert found.var().item() == pytest.approx(0.2**2 / 3, rel=0.05)
    torch.manual_seed(0)
    linear = nn.Linear(25, 50)
    torch.manual_seed(0)
    torch.testing.assert_close(fresh((50, 25), 25, linear.weight), linear.weight.detach())
    assert fresh((2,), 1, torch.empty(0, device="meta")).device.type == "meta"


def test_the_originals_of_one_tensor_and_of_several() -> None:
    several, one = layer(), nn.Linear(2, 2)
    parametrize.register_parametrization(one, "weight", nn.Tanh(), unsafe=True)
    weight = several.parametrizations["weight"]  # type: ignore[index]
    assert [id(p) for p in originals(weight)] == [id(p) for p in several.parameters()]  # type: ignore[arg-type]
    assert len(originals(weight)) == len(Product.roles)  # type: ignore[arg-type]
    (original,) = originals(one.parametrizations["weight"])  # type: ignore[index]
    assert torch.equal(original.tanh(), one.weight)
