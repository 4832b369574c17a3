"""Distillation against plain Python numbers, and what section 8.3 of the specification asks of it."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from reference.distill import distilled_loss
from reference.nets import assert_same, batch_number, net
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

import filtersmith as fs
from filtersmith.methods.distill import digest, kl_term

IMAGES, LABELS = batch_number(0)


def total(kd: fs.KD, outputs: Tensor, images: Tensor = IMAGES, labels: Tensor = LABELS) -> Tensor:
    return F.cross_entropy(outputs, labels) + kd.penalty(images, outputs, labels)


def student_and_teacher() -> tuple[nn.Module, nn.Module]:
    return net(), net(seed=5)


@pytest.mark.parametrize(("temperature", "weight"), [(4.0, 0.9), (1.0, 0.5), (2.5, 1.0), (7.0, 0.01)])
def test_the_loss_is_the_mean_of_both(temperature: float, weight: float) -> None:
    student, teacher = (one.double() for one in student_and_teacher())
    images = IMAGES.double()
    outputs, targets = student(images), teacher.eval()(images)
    found = total(fs.KD(teacher, temperature, weight), outputs, images)
    wanted = distilled_loss(outputs.tolist(), targets.tolist(), LABELS.tolist(), temperature, weight)
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-12)


def test_positions_and_soft_labels_count_like_images() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(2, 3, 4, 5, dtype=torch.double), torch.randn(2, 3, 4, 5, dtype=torch.double)
    flat = [one.permute(0, 2, 3, 1).reshape(-1, 3) for one in (outputs, targets)]
    assert float(kl_term(outputs, targets, 3.0)) == pytest.approx(float(kl_term(*flat, 3.0)), rel=1e-12)
    kd = fs.KD(_Constant(targets))
    labels = torch.randint(3, (2, 4, 5))
    soft = F.one_hot(labels, 3).permute(0, 3, 1, 2).double()
    hard_loss, soft_loss = (total(kd, outputs, torch.zeros(2), one) for one in (labels, soft))
    torch.testing.assert_close(hard_loss, soft_loss)


class _Constant(nn.Module):
    def __init__(self, targets: Any) -> None:
        super().__init__()
        self.targets = targets

    def forward(self, images: Tensor) -> Any:
        return self.targets


def test_a_student_that_equals_its_teacher_learns_nothing_from_it() -> None:
    student = net().double().eval()
    kd = fs.KD(copy.deepcopy(student), weight=1.0)
    outputs = student(IMAGES.double())
    loss = total(kd, outputs, IMAGES.double())
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-15)
    assert max(float(p.grad.abs().max()) for p in student.parameters()) < 1e-15


def test_it_is_small_where_the_student_is_almost_its_teacher_and_grows() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    terms = [float(kl_term(logits + step * logits.flip(1), logits, 4.0)) for step in (0.0, 0.1, 0.5, 1.0)]
    assert terms == sorted(terms)
    assert terms[0] == pytest.approx(0, abs=1e-6)


def test_no_weight_is_plain_training_and_asks_no_teacher() -> None:
    class Never(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise AssertionError("the teacher was asked")

    student = net()
    outputs = student(IMAGES)
    assert torch.equal(total(fs.KD(Never(), weight=0), outputs), F.cross_entropy(outputs, LABELS))


def test_the_teacher_is_frozen_in_evaluation_mode_and_afterwards_as_it_was() -> None:
    student, teacher = student_and_teacher()
    teacher.train()
    next(teacher.parameters()).requires_grad_(False)
    modes = [module.training for module in teacher.modules()]
    trainable = [parameter.requires_grad for parameter in teacher.parameters()]
    before = copy.deepcopy(teacher.state_dict())
    seen: list[tuple[bool, bool]] = []
    teacher.register_forward_hook(lambda module, *_: seen.append((module.training, torch.is_grad_enabled())))
    training = fs.compose([fs.KD(teacher)])
    optimizer = SGD(training.param_groups(training.prepare(student), 0.0), lr=0.1)
    training.attach(student, optimizer, epochs=1)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    teacher.train()  # as a loop does that holds both networks in one module
    loss = F.cross_entropy(outputs := student(IMAGES), LABELS) + training.penalty(IMAGES, outputs, LABELS)
    loss.backward()
    optimizer.step()
    training.end_batch()
    training.end_epoch()
    training.finish()
    assert seen == [(False, False)]
    assert_same(teacher.state_dict(), before)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert [module.training for module in teacher.modules()] == modes
    assert [parameter.requires_grad for parameter in teacher.parameters()] == trainable


def test_under_autocast_the_term_is_computed_in_single_precision() -> None:
    student, teacher = student_and_teacher()
    kd = fs.KD(teacher)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = student(IMAGES)
        found = kd.penalty(IMAGES, outputs, LABELS)
        targets = teacher.eval()(IMAGES)
    assert outputs.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    wanted = 0.9 * (kl_term(outputs.float(), targets.float(), 4.0) - F.cross_entropy(outputs.float(), LABELS))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (_Constant(torch.zeros(4, 7)), r"must give logits of \(4, 4\) as the network does, got \(4, 7\)"),
        (_Constant([1]), "as the network does, got a list"),
        (nn.Conv2d(5, 4, 1), r"teacher Conv2d must take images of \(4, 3, 6, 6\): "),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_in_one_line(teacher: nn.Module, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        fs.KD(teacher).penalty(IMAGES, net()(IMAGES), LABELS)
    assert "\n" not in str(error.value)


def test_a_teacher_that_shares_parameters_is_refused_and_nothing_has_changed() -> None:
    student = net().train()
    training = fs.compose([fs.KD(nn.Sequential(student))])
    optimizer = SGD(training.param_groups(training.prepare(student), 0.0), lr=0.1)
    with pytest.raises(ValueError, match="teacher must be another network"):
        training.attach(student, optimizer, epochs=1)
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_names_are_resolved_by_whoever_composes() -> None:
    teacher = net(seed=5)
    asked: list[str] = []
    training = fs.compose("kd(teacher='runs/one',weight=0.5)", resolve=lambda name: asked.append(name) or teacher)
    assert asked == ["runs/one"]
    assert str(training) == "kd(teacher='runs/one',weight=0.5)"
    with pytest.raises(ValueError, match="teacher must be an object: nobody here resolves names, got 'runs/one'"):
        fs.compose("kd(teacher='runs/one')")
    with pytest.raises(ValueError, match=r"teacher must be a torch.nn.Module .*, got 3"):
        fs.compose("kd(teacher='runs/one')", resolve=lambda name: 3)
    with pytest.raises(ValueError, match=r"teacher must be .*, got None"):
        fs.compose("kd")


def test_an_object_is_spelled_by_its_class() -> None:
    assert str(fs.compose([fs.KD(nn.Linear(3, 2), weight=0.5)])) == "kd(teacher=<Linear>,weight=0.5)"


def test_with_a_cycle_that_is_off_it_is_distillation_alone() -> None:
    def trained(text: str) -> Any:
        training = fs.compose(text, resolve=lambda name: net(seed=5))
        student = training.prepare(net())
        optimizer = SGD(training.param_groups(student, 1e-2), lr=0.1, momentum=0.9)
        training.attach(student, optimizer, epochs=5, seed=1)
        for epoch in range(5):
            images, labels = batch_number(epoch)
            loss = F.cross_entropy(outputs := student(images), labels) + training.penalty(images, outputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            training.end_batch()
            training.end_epoch()
        return training.finish().state_dict()

    alone = trained("kd(teacher=t)")
    assert_same(trained("kd(teacher=t)+repr(prune=0.0,s1=1,s2=1,cycles=1)"), alone)
    together = trained("repr(s1=1,s2=1,cycles=1)+kd(teacher=t)")
    assert not torch.equal(together["dense.weight"], alone["dense.weight"])


def test_another_teacher_is_another_training() -> None:
    def attached(seed: int) -> fs.Composition:
        student, training = net(), fs.compose([fs.KD(net(seed=seed))])
        training.attach(training.prepare(student), SGD(student.parameters(), lr=0.1), epochs=2)
        return training

    state = attached(5).state_dict()
    attached(5).load_state_dict(state)
    with pytest.raises(ValueError, match="the state of KD was saved with teacher="):
        attached(6).load_state_dict(state)
    assert digest(net(seed=5)) == digest(net(seed=5)) != digest(net(seed=6))


@pytest.mark.parametrize("temperature", [1e-2, 1.0, 99.0, 1e3, 1e6])
def test_no_temperature_costs_precision(temperature: float) -> None:
    """Squared, it magnifies what single precision rounds away; oracle: the same in double precision."""
    outputs, targets = torch.randn(2, 64, 10, generator=torch.Generator().manual_seed(0)).unbind()
    found = torch.autograd.functional.vjp(lambda z: kl_term(z, targets, temperature), outputs)
    wanted = torch.autograd.functional.vjp(lambda z: kl_term(z, targets.double(), temperature), outputs.double())
    assert found[0].dtype == torch.float32
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-6)


def test_a_class_that_the_teacher_excludes_adds_nothing() -> None:
    outputs, targets = torch.randn(2, 6, 5, dtype=torch.double).unbind()
    without = kl_term(outputs[:, :4], targets[:, :4], 2.0)
    targets[:, 4] = -torch.inf
    masked = outputs.clone().requires_grad_()
    found = kl_term(masked.masked_fill(torch.arange(5) == 4, -torch.inf), targets, 2.0)
    torch.testing.assert_close(found.detach(), without)
    found.backward()
    assert masked.grad is not None
    assert masked.grad.isfinite().all()


@pytest.mark.parametrize("ignored", [-100, 255])
def test_positions_that_the_loss_ignores_teach_nothing(ignored: int) -> None:
    outputs, targets = torch.randn(2, 2, 3, 4, 4, dtype=torch.double).unbind()
    labels = torch.randint(3, (2, 4, 4))
    labels[:, :2] = ignored
    kd = fs.KD(_Constant(targets))
    loss = F.cross_entropy(outputs, labels, ignore_index=ignored) + kd.penalty(torch.zeros(2), outputs, labels)
    kept = [one[:, :, 2:] for one in (outputs, targets)]
    wanted = total(fs.KD(_Constant(kept[1])), kept[0], torch.zeros(2), labels[:, 2:])
    torch.testing.assert_close(loss, wanted)


def test_a_teacher_of_several_is_frozen_until_the_last_is_done() -> None:
    _, teacher = student_and_teacher()
    teacher.train()
    first, second = fs.KD(teacher), fs.KD(teacher)
    for one in (first, first, second):
        one.attach(net())
    first.detach()
    assert not teacher.training
    first.detach()
    second.detach()
    assert teacher.training
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    abandoned = fs.KD(teacher)
    abandoned.attach(net())
    del abandoned  # a training that never came to its end
    again = fs.KD(teacher)
    again.attach(net())
    again.detach()
    assert teacher.training


def test_a_forgotten_teacher_is_not_kept() -> None:
    teacher = net()
    fs.KD(teacher).attach(net())
    kept = weakref.ref(teacher)
    del teacher
    gc.collect()
    assert kept() is None


def test_a_teacher_made_in_inference_mode() -> None:
    with torch.inference_mode():
        teacher = net(seed=5)
    training = fs.compose([fs.KD(teacher)])
    model = training.prepare(net())
    training.attach(model, SGD(model.parameters(), lr=0.1), epochs=1)
    training.penalty(IMAGES, model(IMAGES), LABELS)
    training.end_batch()
    training.end_epoch()
    training.finish()


def test_weights_in_the_same_memory_are_shared_whatever_holds_them() -> None:
    student, teacher = net(), net(seed=5)
    teacher.load_state_dict(student.state_dict(), assign=True)
    with pytest.raises(ValueError, match=r"teacher must be another network: it shares \S*weight with the model"):
        fs.KD(teacher).attach(student)
    ours, theirs = nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, affine=False)
    theirs.running_mean = ours.running_mean  # type: ignore[assignment]
    with pytest.raises(ValueError, match="it shares running_mean with the model"):
        fs.KD(theirs).attach(ours)
    assert theirs.training


def test_a_module_without_weights_may_be_in_both_and_keeps_the_networks_mode() -> None:
    drop = nn.Dropout()
    student, teacher = nn.Sequential(nn.Linear(2, 3), drop), nn.Sequential(nn.Linear(2, 3), drop)
    kd = fs.KD(teacher)
    kd.attach(student)
    assert drop.training
    assert not teacher[0].training
    images, labels = torch.randn(4, 2), torch.arange(4) % 3
    outputs = student(images)
    found = kd.penalty(images, outputs, labels)
    torch.testing.assert_close(
        found, fs.KD(teacher[0]).penalty(images, outputs, labels), msg="it is off in the teacher"
    )
    assert drop.training
    kd.detach()
    assert teacher.training


def test_a_teacher_that_was_thawed_is_frozen_again() -> None:
    teacher = net(seed=5).train()
    fs.KD(teacher).attach(net())
    teacher.requires_grad_(True).train()
    again = fs.KD(teacher)
    again.attach(net())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    again.detach()
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert teacher.training


@pytest.mark.parametrize(
    ("outputs", "labels", "said"),
    [
        ({"logits": 1}, LABELS, r"outputs must be logits \(batch, classes\) or .*, got {'logits': 1}"),
        (torch.zeros(4, 4), None, r"labels must be class numbers \(4,\) or probabilities \(4, 4\), got None"),
        (torch.zeros(4, 4), (LABELS, LABELS), "labels must be class numbers"),
        (torch.zeros(4, 4), torch.eye(4).long(), r"got 'torch.int64 of \(4, 4\)'"),
        (torch.zeros(4, 4), torch.zeros(4), r"got 'torch.float32 of \(4,\)'"),
    ],
)
def test_what_is_no_batch_is_refused_in_one_line(outputs: Any, labels: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        fs.KD(net()).penalty(IMAGES, outputs, labels)
    assert "\n" not in str(error.value)


def test_what_stands_at_a_position_that_is_left_out_is_not_looked_at() -> None:
    outputs, targets = torch.randn(2, 6, 5, dtype=torch.double).unbind()
    wanted = kl_term(outputs[1:], targets[1:], 2.0)
    outputs[0], targets[0] = torch.nan, -torch.inf
    found = kl_term(outputs.requires_grad_(), targets, 2.0, torch.arange(6) > 0)
    torch.testing.assert_close(found.detach(), wanted)
    found.backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_a_compiled_teacher_is_the_same_one() -> None:
    teacher = net(seed=5)
    plain, compiled = fs.KD(teacher), fs.KD(torch.compile(teacher, backend="eager"))  # type: ignore[arg-type]
    assert repr(plain) == repr(compiled)
    assert str(fs.compose([plain])) == str(fs.compose([compiled]))
    compiled.load_state_dict(plain.state_dict())
    in_part = net(seed=5)
    in_part.dense = torch.compile(in_part.dense, backend="eager")  # type: ignore[assignment]
    fs.KD(in_part).load_state_dict(plain.state_dict())


def test_the_digest_is_that_of_todays_teacher() -> None:
    assert digest(nn.Linear(2, 3, bias=False)) != digest(nn.Linear(3, 2, bias=False))
    teacher = net(seed=5)
    kd = fs.KD(teacher)
    before = kd.state_dict()
    with torch.no_grad():
        next(teacher.parameters()).data.add_(1)  # not counted as a change of the tensor
    with pytest.raises(ValueError, match="teacher"):
        kd.load_state_dict(before)
