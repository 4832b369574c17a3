"""What a run is made of: facts of the data, batches, the machine, the optimizer of a recipe."""

from __future__ import annotations

import dataclasses
from typing import Any

import accelerate
import pytest
import torch
from reference.running import config, digits
from torch import nn

from filtersmith.lab.data import Augment
from filtersmith.lab.training.setup import (
    augmentation,
    make_accelerator,
    make_optimizer,
    make_run_batches,
    network_facts,
    with_bias_lr,
)


def test_facts_are_those_of_the_training_images() -> None:
    values = digits().train.images.double() / 255  # type: ignore[union-attr]
    assert network_facts(digits()) == {
        "num_classes": 10,
        "in_channels": 1,
        "image_size": 8,
        "mean": [pytest.approx(values.mean().item())],
        "std": [pytest.approx(values.std(correction=0).item())],
    }


def test_batches_are_shuffled_for_training_and_in_order_for_the_rest() -> None:
    from filtersmith.lab.data import with_held_out

    what, data = config(batch_size=600), with_held_out(digits(), 100)
    found = make_run_batches(what, data, network_facts(data), make_accelerator(what.train))
    assert (found.train.global_sizes, found.test.global_sizes) == ([600, 600, 137], [360])
    orders = [torch.cat([labels for _, labels in found.train.epoch(epoch)]) for epoch in (0, 1)]
    assert not torch.equal(*orders)
    assert torch.equal(orders[0].sort().values, data.train.labels.sort().values)
    assert torch.equal(torch.cat([labels for _, labels in found.test.epoch(0)]), data.test.labels)
    assert found.held_out is not None
    assert data.held_out is not None
    for _ in range(2):  # as often as they are asked for
        assert torch.equal(torch.cat([labels for _, labels in found.held_out]), data.held_out.labels)


@pytest.mark.parametrize(
    ("options", "kind", "values"),
    [
        ({}, torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
        ({"momentum": 0.5, "nesterov": True}, torch.optim.SGD, {"momentum": 0.5, "nesterov": True}),
        ({"optimizer": "rmsprop", "momentum": 0.3}, torch.optim.RMSprop, {"momentum": 0.3}),
        ({"optimizer": "adam"}, torch.optim.Adam, {"betas": (0.9, 0.999)}),
        ({"optimizer": "adamw"}, torch.optim.AdamW, {"betas": (0.9, 0.999)}),
        ({"optimizer": "adagrad"}, torch.optim.Adagrad, {}),
    ],
)
def test_the_optimizer_of_a_recipe(options: dict[str, Any], kind: type, values: dict[str, Any]) -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "weight_decay": decay} for decay in (0.25, 0.0)]
    optimizer = make_optimizer(groups, config(lr=0.125, **options).train)
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0], "each group has its own"
    for group in optimizer.param_groups:
        assert values | {"lr": 0.125} == {name: group[name] for name in ("lr", *values)}


def test_precisions_do_not_stick_and_those_that_a_cpu_has_not_are_refused() -> None:
    for precision, expected in (("bf16", "bf16"), ("fp32", "no")):
        accelerator = make_accelerator(config(precision=precision).train)
        assert (accelerator.mixed_precision, accelerator.device.type) == (expected, "cpu")
    with pytest.raises(ValueError, match=r"^train.precision must be fp32 or bf16 on a CPU, got 'fp16'$"):
        make_accelerator(config(precision="fp16").train)


def test_weights_in_pieces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerate.Accelerator, "distributed_type", accelerate.DistributedType.FSDP)
    with pytest.raises(ValueError, match=r"trains in one process or with DistributedDataParallel, got .* with FSDP$"):
        make_accelerator(config().train)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (True, Augment(4, True)),
        (False, None),
        ("mirror", Augment(0, True)),
        ("reflect", Augment(4, True, reflect=True)),
    ],
)
def test_what_of_the_sets_own_augmentation_is_asked_for(asked: Any, wanted: Augment | None) -> None:
    what = config()
    what = what.model_copy(update={"data": what.data.model_copy(update={"augment": asked})})
    assert augmentation(what, dataclasses.replace(digits(), augment=Augment(4, True))) == wanted
    assert augmentation(what, digits()) is None, "a set without any has none"


def test_biases_have_a_rate_of_their_own() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    groups = [{"params": list(network.parameters()), "weight_decay": 0.1}]
    plain = config().train
    assert with_bias_lr(groups, network, plain) is groups
    found = with_bias_lr(groups, network, plain.model_copy(update={"bias_lr": 2.0}))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert [[names[id(p)] for p in group["params"]] for group in found] == [
        ["0.weight", "1.weight"],
        ["0.bias", "1.bias"],
    ]
    optimizer = make_optimizer(found, plain)
    assert [group["lr"] for group in optimizer.param_groups] == [plain.lr, 2 * plain.lr]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1]
