"""What is computed from parameters, once between two changes of them, however they are changed."""

from __future__ import annotations

import copy
import doctest
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.nets import assert_same, batches, loss_of, net
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import filtersmith as fs
from filtersmith.methods import kflo
from filtersmith.reparam import reuse
from filtersmith.reparam.reuse import Reuse


def test_the_example() -> None:
    assert doctest.testmod(reuse).failed == 0


class Counted:
    """A product of two parameters that counts how often it is computed."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.count = 0
        self.parameters = [nn.Parameter(torch.randn(6, 200)), nn.Parameter(torch.randn(200, 300))]
        self.keep = Reuse()

    def used(self) -> None:
        """A step of several batches, in which it is seen that they are several."""
        self(), self()
        in_place(self.parameters[0])
        self.count = 0

    def compute(self, *parameters: Tensor) -> Tensor:
        self.count += 1
        return parameters[0] @ parameters[1]

    def __call__(self) -> Tensor:
        result = self.keep(self.compute, self.parameters)
        assert torch.equal(result, self.parameters[0] @ self.parameters[1])
        return result


def of_data(one: Tensor) -> None:
    one.data.mul_(0.9)


def another_memory(one: Tensor) -> None:
    one.data = one.data * 0.9


def in_place(one: Tensor) -> None:
    with torch.no_grad():
        one[0, 1] = 7.0


def of_one_value(one: Tensor) -> None:
    one.data[3, 5] += 1e-3


def of_filters_in_another_order(one: Tensor) -> None:
    one.data[:2] = one.data[:2].flip(0)


def by_an_optimizer(one: Tensor) -> None:
    one.grad = torch.ones_like(one)
    torch.optim.SGD([one], lr=0.1).step()


CHANGES = [of_data, another_memory, in_place, of_one_value, of_filters_in_another_order, by_an_optimizer]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_it_is_computed_anew_where_a_parameter_has_changed(
    change: Callable[[Tensor], None], which: int, grad: bool
) -> None:
    product = Counted()
    product.used()
    with torch.set_grad_enabled(grad):
        assert product().data_ptr() == product().data_ptr()
        assert product.count == 1
        change(product.parameters[which])
        product()
        product()
    assert product.count == 2


def test_where_each_step_has_one_batch_nothing_is_kept() -> None:
    product = Counted()
    product.used()
    product()
    for _ in range(2):
        by_an_optimizer(product.parameters[0])
        product()
    assert product.keep._kept is None
    assert product.count == 3


def test_what_is_written_into_the_result_does_not_stay() -> None:
    product = Counted()
    with torch.no_grad():
        product().zero_()
        product()
        product().data.zero_()
        product()
        product().numpy()[2] = 0
        product()


def test_hooks_and_gradients_of_a_result_are_those_of_one_batch() -> None:
    product, found = Counted(), []
    product.used()
    for _ in range(3):
        result = product()
        result.register_hook(lambda gradient: gradient / 2)
        result.retain_grad()
        product.parameters[0].grad = None
        result.sum().backward()
        found.append((result.grad, product.parameters[0].grad))
    assert_same(found[1:], found[:1] * 2, "a later batch")
    assert product.count == 1


def test_of_all_dtypes_and_layouts() -> None:
    for one in (
        torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        torch.randn(4, 3).to(torch.bfloat16),
        torch.randn(4, 3, dtype=torch.float64),
        torch.randn(4, 3, dtype=torch.complex64),
        torch.randn(5),
        torch.randn(0, 3),
        torch.tensor(1.5),
    ):
        parameter, keep = nn.Parameter(one), Reuse()
        for value in (1.0, 2.0):
            parameter.data[...] = torch.full_like(one, value)
            assert torch.equal(keep(lambda p: 2 * p, [parameter]), 2 * parameter)


def test_where_torch_traces_it_is_computed() -> None:
    product = Counted()
    product()
    layer, images = fs.expand(nn.Sequential(nn.Conv2d(3, 4, 3)), fs.KFLO()), torch.randn(1, 3, 4, 4)
    layer(images)
    traced = torch.jit.trace(layer, images)
    with torch.no_grad():
        next(traced.parameters()).mul_(2)
        assert_same(traced(images), layer(images), "a changed parameter")
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(product.keep(product.compute, product.parameters), FakeTensor)
    assert not isinstance(product(), FakeTensor)
    graph = make_fx(lambda x: x + product.keep(product.compute, product.parameters))(torch.ones(1))
    assert "mm" in str(graph.graph)


def test_it_depends_on_autocast_on_gradients_and_on_what_is_frozen() -> None:
    product = Counted()
    assert product().requires_grad
    with torch.no_grad():
        assert not product().requires_grad
    assert product().requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        assert product.keep(product.compute, product.parameters).dtype == torch.bfloat16
        assert product.keep(product.compute, product.parameters).dtype == torch.bfloat16
    assert product().dtype == torch.float32
    with torch.inference_mode():
        product()
    assert product().requires_grad
    product.parameters[0].requires_grad_(False)
    product().sum().backward()
    assert product.parameters[0].grad is None
    assert product.parameters[1].grad is not None


def test_gradients_accumulate_as_without_it() -> None:
    product, plain = Counted(), Counted()
    for one in (product, plain):
        one.used()
    for number in range(3):
        weights = torch.randn(6, 300)
        for result in (product(), plain.parameters[0] @ plain.parameters[1]):
            (result * weights).sum().backward()
        assert_same([p.grad for p in product.parameters], [p.grad for p in plain.parameters], str(number))
    assert product.count == 1


@pytest.mark.parametrize("autocast", [False, True])
def test_two_uses_in_one_backward_pass_do_not_show_what_was_before(autocast: bool) -> None:
    """A run that goes on elsewhere has seen no step yet: it computes anew where the other one keeps."""
    kept, fresh = Counted(), Counted()
    kept.used()
    in_place(fresh.parameters[0])
    for one in (kept, fresh):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            results = [one.keep(one.compute, one.parameters) for _ in range(2)]
        generator = torch.Generator().manual_seed(0)
        sum((result * torch.randn(6, 300, generator=generator)).sum() for result in results).backward()
    assert (kept.count, fresh.count) == (1, 2)
    assert_same([p.grad for p in kept.parameters], [p.grad for p in fresh.parameters])


def test_gradients_of_gradients() -> None:
    product, plain = Counted(), Counted()
    for _ in range(2):
        for one, result in ((product, product()), (plain, plain.parameters[0] @ plain.parameters[1])):
            first = torch.autograd.grad(result.pow(2).sum(), one.parameters, create_graph=True)
            sum(one.pow(2).sum() for one in first).backward()  # type: ignore[union-attr]
    for one, other in zip(product.parameters, plain.parameters, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_parameter_that_is_changed_before_the_backward_pass_is_an_error_as_ever() -> None:
    product = Counted()
    result = product().sum()
    in_place(product.parameters[0])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()


def test_copies_and_what_is_saved_have_nothing() -> None:
    keep = Reuse()
    keep(torch.neg, [nn.Parameter(torch.ones(2))])
    for other in (copy.deepcopy(keep), pickle.loads(pickle.dumps(keep)), copy.deepcopy(nn.ModuleDict()), Reuse()):
        assert not isinstance(other, Reuse) or other._kept is None


# --- in networks ----------------------------------------------------------------------------------------------


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each composition of a kernel."""
    calls: list[int] = []
    compose = kflo.compose

    def counting(filtered: Tensor, pointwise: Any) -> Tensor:
        calls.append(len(filtered))
        return compose(filtered, pointwise)

    monkeypatch.setattr(kflo, "compose", counting)
    return calls


def expanded() -> tuple[nn.Module, torch.optim.Optimizer, int]:
    torch.manual_seed(0)
    model = fs.expand(net(), fs.KFLO(width=2))
    optimizer = torch.optim.SGD(fs.param_groups(model, weight_decay=1e-2), lr=0.1, momentum=0.9)
    return model, optimizer, sum(1 for module in model.modules() if isinstance(module, kflo.Cascade))


def test_kflo_composes_once_in_a_step_of_several_batches_and_once_in_an_evaluation(composed: list[int]) -> None:
    model, optimizer, layers = expanded()
    for step in range(3):
        composed.clear()
        for _, batch in zip(range(4), batches(), strict=False):
            loss_of(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert len(composed) == (layers if step else 4 * layers)
    composed.clear()
    model.eval()
    with torch.no_grad():
        for _, batch in zip(range(3), batches(), strict=False):
            model(batch[0])
    assert len(composed) == layers


def test_kflo_trains_as_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that accumulate, an evaluation in between, weight decay: bit for bit."""

    def run() -> nn.Module:
        model, optimizer, _ = expanded()
        for _ in range(3):
            for _, batch in zip(range(2), batches(), strict=False):
                loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                model(batch[0])
        return model

    mine = run()
    monkeypatch.setattr(Reuse, "__call__", lambda self, compute, parameters: compute(*parameters))
    assert_same(mine.state_dict(), run().state_dict())


@pytest.mark.parametrize("reentrant", [True, False])
def test_with_checkpoints_of_activations(reentrant: bool) -> None:
    model, _, _ = expanded()
    plain = copy.deepcopy(model)
    for _, (images, labels) in zip(range(3), batches(), strict=False):
        images.requires_grad_()
        outputs = checkpoint(model, images, use_reentrant=reentrant)
        nn.functional.cross_entropy(outputs, labels).backward()
        loss_of(plain, (images, labels)).backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_under_vmap_and_functional_gradients() -> None:
    model = fs.expand(nn.Conv2d(3, 4, 3), fs.KFLO(width=2))
    model(torch.randn(1, 3, 5, 5)).sum().backward()
    images = torch.randn(5, 3, 5, 5)
    many = torch.func.vmap(lambda image: model(image))(images)
    torch.testing.assert_close(many, model(images))
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, parameters, (images,)).square().sum()

    found = torch.func.grad(loss)(parameters)
    model.zero_grad()
    model(images).square().sum().backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name], parameter.grad)


def test_hooks_of_parameters_are_called_once() -> None:
    counted, seen = Counted(), []
    counted.parameters[0].register_hook(lambda gradient: seen.append(1) or 2 * gradient)
    counted.parameters[1].register_post_accumulate_grad_hook(lambda parameter: seen.append(2))
    torch.autograd.graph.register_multi_grad_hook(counted.parameters, lambda gradients: seen.append(3))
    counted().sum().backward()
    assert sorted(seen) == [1, 2, 3]
    one, other = counted.parameters
    assert torch.allclose(one.grad, 2 * other.sum(1).expand(6, -1), rtol=1e-5)


def test_torch_counts_the_arithmetic_of_a_step() -> None:
    """By hooks on modules and their parameters."""
    found = []
    for expanded in (False, True):
        model = fs.expand(net(), fs.KFLO(depth=2, width=2)) if expanded else net()
        for _ in range(2):
            with FlopCounterMode(display=False) as counter:
                loss_of(model, next(batches())).backward()
        found.append(counter.get_total_flops())
    assert found[1] > found[0]
