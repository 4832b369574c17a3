"""What a run is made of: facts of the data, batches, the machine, the optimizer of a recipe."""

from __future__ import annotations

from typing import Any

import accelerate
import pytest
import torch
from reference.running import config, digits
from torch import Tensor, nn

from filtersmith.lab.training.session import Session
from filtersmith.lab.training.setup import (
    make_accelerator,
    make_optimizer,
    with_bias_lr,
)


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


@pytest.mark.parametrize("wanted", [True, False])
def test_network_and_images_have_the_memory_format_that_is_asked_for(wanted: bool) -> None:
    what = config(model="vanilla-2-8", batch_size=64, channels_last=wanted)
    session = Session(what, digits())
    layout = torch.channels_last if wanted else torch.contiguous_format
    convs = [module for module in session.model.modules() if isinstance(module, nn.Conv2d)]
    assert convs[-1].weight.is_contiguous(memory_format=layout)
    seen: list[Tensor] = []
    convs[-1].register_forward_hook(lambda _, inputs, output: seen.extend([*inputs, output]))
    images, labels = next(iter(session.batches.train.epoch(0)))
    session._train_batch(images, labels, 64)
    assert all(tensor.is_contiguous(memory_format=layout) for tensor in seen)
    assert not any(tensor.is_contiguous() for tensor in seen) or not wanted
