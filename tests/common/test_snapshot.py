"""Undoing what was done to a network."""

from __future__ import annotations

import pytest
import torch
from reference.nets import assert_same, net
from torch import nn

import filtersmith as fs
from filtersmith.common.snapshot import snapshot


def test_everything_is_put_back() -> None:
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names, classes = list(vars(model)), [type(module) for module in model.modules()]
    restore = snapshot(model)
    weight = model.dense.weight
    model.extra = nn.Linear(2, 2)
    model.note = "left by tracing"
    model.dense.weight = nn.Parameter(torch.zeros(8, 3, 3, 3))
    del model.bn
    model.fc.__class__ = type("Other", (nn.Linear,), {})
    with torch.no_grad():
        model.dense.bias.zero_()
    restore()
    assert list(vars(model)) == names
    assert [type(module) for module in model.modules()] == classes
    assert model.dense.weight is weight
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("look", [fs.ACNet(), fs.DBB()], ids=repr)
def test_hooks_of_before_can_be_removed_afterwards(look: object) -> None:
    model = net()
    handles = [model.fc.register_forward_hook(lambda *_: None), model.register_forward_pre_hook(lambda *_: None)]
    fs.expand(model, look)  # type: ignore[arg-type]
    for handle in handles:
        handle.remove()
    assert not model.fc._forward_hooks
    assert not model._forward_pre_hooks


def odd_buffers() -> dict[str, torch.Tensor]:
    shared = torch.arange(6.0)
    with torch.inference_mode():
        inference = torch.arange(3.0)
    return {
        "expanded": torch.arange(4.0).view(1, 4, 1).expand(2, 4, 3),
        "overlapping": torch.arange(7.0).as_strided((3, 4), (1, 1), 1),
        "shared": shared,
        "view": shared[1:4],
        "complex": torch.arange(3.0) * 1j,
        "quantised": torch.quantize_per_tensor(torch.arange(3.0), 0.1, 0, torch.quint8),
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(3, device="meta"),
        "inference": inference,
        "empty": torch.empty(0, 3),
    }


def test_buffers_of_every_kind_get_their_values_back() -> None:
    model = nn.Module()
    for name, tensor in odd_buffers().items():
        model.register_buffer(name, tensor)
    restore = snapshot(model)
    with torch.no_grad():
        model.expanded[0, :, :1].add_(1)
        model.overlapping[0, 0] = 9
        model.shared.mul_(2)
        model.complex.zero_()
    with torch.inference_mode():
        model.inference.zero_()
    version = model.view._version
    restore()
    for name, tensor in odd_buffers().items():
        if name not in ("meta", "quantised", "sparse"):
            assert torch.equal(getattr(model, name), tensor), name
    assert model.view._version == version + 1  # the shared storage once, through one of the two
    restore()
    assert model.view._version == version + 1  # unchanged values are left alone: autograd counts what is written


class Appending(nn.Module):
    """Keeps what it sees, on itself and on its class."""

    everywhere: list[object] = []  # noqa: RUF012
    count = 0

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[object]] = {"inputs": []}
        self.weight = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def test_containers_classes_and_what_is_trained() -> None:
    model = Appending()
    restore = snapshot(model)
    model.seen["inputs"].append(1)
    Appending.everywhere.append(2)
    Appending.count += 1
    model.weight.requires_grad_(True)
    model.eval()
    restore()
    assert model.seen == {"inputs": []}
    assert (Appending.everywhere, Appending.count) == ([], 0)
    assert (model.weight.requires_grad, model.training) == (False, True)


def test_a_scripted_module_gets_its_mode_back() -> None:
    with pytest.warns((FutureWarning, DeprecationWarning), match="deprecated"):  # older versions of torch: the second
        model = nn.Sequential(torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))))
    restore = snapshot(model)
    model.eval()
    restore()
    assert all(module.training for module in model.modules())
    assert model(torch.randn(2, 3, 4, 4)).shape == (2, 3, 4, 4)
