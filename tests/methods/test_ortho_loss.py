"""The orthogonality loss against pairs of Python lists, and what section 8.4 of the specification asks of it."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from reference.nets import assert_same, assert_same_run, batch_number, loss_of, net, train
from reference.overlap import overlap_list
from torch import Tensor, nn
from torch.optim import SGD

import filtersmith as fs
from filtersmith.methods.ortho_loss import OrthoLoss, ortho_loss


def value(loss: Tensor) -> float:
    return float(loss.detach())


def by_hand(filters: Tensor, groups: int = 1) -> float:
    return sum(overlap_list(filters, groups)) * len(filters) / groups


def test_it_is_the_sum_over_layers_of_every_kind() -> None:
    model = net()
    up = model.up.weight.transpose(0, 1)
    grouped_up = torch.cat([model.grouped_up.weight[:2].transpose(0, 1), model.grouped_up.weight[2:].transpose(0, 1)])
    terms = [by_hand(model.dense.weight), by_hand(model.grouped.weight, 2), by_hand(up), by_hand(grouped_up, 2)]
    assert value(ortho_loss(model)) == pytest.approx(sum(terms), rel=1e-5)
    assert value(ortho_loss(model, layers=["depthwise"])) == 0
    assert value(ortho_loss(model, layers=["up", "fc"])) == pytest.approx(
        terms[2] + by_hand(model.fc.weight), rel=1e-5
    )


def test_orthogonal_filters_have_none_and_the_gradient_is_orthogonal_to_every_filter() -> None:
    model = net().double()
    for layer in (model.dense, model.fc):
        nn.init.orthogonal_(layer.weight)
    assert value(ortho_loss(model, layers=["dense", "fc"])) < 1e-12
    ortho_loss(model, layers=["grouped", "up"]).backward()
    for weight, axes in ((model.grouped.weight, (1, 2, 3)), (model.up.weight, (0, 2, 3))):
        assert weight.grad.any()
        torch.testing.assert_close((weight * weight.grad).sum(axes).abs().max(), torch.tensor(0.0).double())


def test_descending_it_makes_filters_orthogonal() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    optimizer = SGD(model.parameters(), lr=0.01)
    before = value(ortho_loss(model))
    for _ in range(60):
        optimizer.zero_grad()
        ortho_loss(model).backward()
        optimizer.step()
    assert value(ortho_loss(model)) < before / 3


def test_a_layer_of_zeros_has_no_loss_and_no_nan() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    nn.init.zeros_(model[0].weight)
    loss = ortho_loss(model)
    loss.backward()
    assert value(loss) == 0
    assert not model[0].weight.grad.any()


def test_the_class_is_the_function_times_its_weight() -> None:
    model = net()
    penalty = OrthoLoss(model)
    assert torch.equal(penalty(), 0.01 * ortho_loss(model))
    model.double()  # the layers are looked up once, their weights each time
    assert penalty().dtype == torch.float64
    assert torch.equal(OrthoLoss(model, weight=2, layers=["up"])(), 2 * ortho_loss(model, layers=["up"]))


def test_weight_zero_is_plain_training_bit_for_bit() -> None:
    model, twin = net(), net()
    optimizer, plain = (SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2) for m in (model, twin))
    penalty = OrthoLoss(model, weight=0)
    for n in range(3):
        optimizer.zero_grad()
        (loss_of(model, batch_number(n)) + penalty()).backward()
        optimizer.step()
    train(twin, plain, 3)
    assert_same_run((model, optimizer), (twin, plain))


def test_autocast_half_weights_and_wrappers_do_not_change_it() -> None:
    model = net()
    expected = ortho_loss(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ortho_loss(model), expected)
    for wrapped in (torch.compile(model), nn.DataParallel(model)):
        assert torch.equal(ortho_loss(wrapped), expected)
    half = ortho_loss(model.half())
    assert half.dtype == torch.float32
    assert value(half) == pytest.approx(value(expected), rel=1e-2)


def test_of_an_expanded_layer_the_computed_kernel_counts() -> None:
    model = net()
    plain = value(ortho_loss(model))
    fs.expand(model, fs.KFLO(width=2))
    assert value(ortho_loss(model)) == pytest.approx(plain, rel=1e-5)
    train(model, SGD(model.parameters(), lr=0.1), 2)
    with torch.autocast("cpu", torch.bfloat16):
        loss = ortho_loss(model)
    assert value(loss) == pytest.approx(value(ortho_loss(fs.collapse(model))), rel=1e-5)
    loss.backward()
    assert all(p.grad.any() for p in model.dense.parametrizations["weight"].parameters())


@pytest.mark.parametrize("cached", [False, True])
def test_the_decay_of_computed_kernels_stays_that_of_the_forward_pass(cached: bool) -> None:
    """Gradients of the sum of both losses are the sums of their gradients, the decay counted once."""
    model = fs.expand(net(), fs.KFLO(width=2))
    fs.param_groups(model, weight_decay=0.5)
    no_decay = copy.deepcopy(model)
    fs.param_groups(no_decay, weight_decay=0.0)

    def gradients(model: nn.Module, *losses: Any) -> list[Tensor | None]:
        with nn.utils.parametrize.cached() if cached else torch.enable_grad():
            loss = sum(loss(model) for loss in losses)
            return list(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))

    def task(model: nn.Module) -> Tensor:
        return loss_of(model, batch_number(0))

    assert_same(gradients(model, ortho_loss), gradients(no_decay, ortho_loss))
    both = gradients(model, ortho_loss, task)
    for got, a, b in zip(both, gradients(model, task), gradients(no_decay, ortho_loss), strict=True):
        torch.testing.assert_close(got, a if b is None else a + b, atol=1e-5, rtol=1e-4)


def test_states_and_bad_options() -> None:
    model = net()
    penalty = OrthoLoss(model, weight=0.5)
    penalty.load_state_dict(OrthoLoss(model, weight=0.5).state_dict())
    with pytest.raises(ValueError, match=r"saved with weight=0.5, this one has 0.01"):
        OrthoLoss(model).load_state_dict(penalty.state_dict())
    for wrong in (-1, math.inf, math.nan, "much", True, None):
        with pytest.raises(ValueError, match="weight must be a finite number of at least 0, got"):
            OrthoLoss(model, weight=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown layer 'dens'"):
        ortho_loss(model, layers=["dens"])
    with pytest.raises(ValueError, match="layer 'dense' cannot be compared: it is expanded already"):
        ortho_loss(fs.expand(net(), fs.DOConv()))
    before = copy.deepcopy(model.state_dict())
    ortho_loss(model)
    assert_same(model.state_dict(), before)
