"""Every network meets every method: two steps of one batch, as the laboratory takes them, or a refusal that says why.

Networks of one family that differ in depth or width alone stand for each other: the smallest is trained. AlexNet,
VGG, ResNeXt and the ResNets with ImageNet's widths have no narrower members: they are built with an eighth of their
filters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import ConstantLR

from filtersmith import METHODS, zoo
from filtersmith.methods.composition import compose
from filtersmith.methods.spelling import read
from filtersmith.zoo import alexnet, resnet18, resnext, vgg

STAND_INS = {
    r"vanilla(-.*)?": "vanilla-3-8",
    r"resnet\d+": "resnet14",
    r"resnet\d+-(b1|b2|noaffine)(-channels)?": r"resnet8-\1",
    r"resnet\d+-cifar": "resnet18-cifar",
    r"preresnet\d+": "preresnet14",
    r"vgg\d+-bn": "vgg16-bn",
    r"wrn-\d+-\d+": "wrn-16-1",
    r"resnext29-8x64d": "resnext29-2x4d",
    r"densenet-\d+-12": "densenet-13-4",
    r"densenet-bc-\d+-12": "densenet-bc-16-4",
    r"dacnn(3|5|7|9|11)": "dacnn9-w8",
    r"dacnn(3|5|7|9|11)-unshared": "dacnn9-w8-unshared",
    r"dacnn(14|18|24|34)-reg[1-4]?": "dacnn18-reg2",
    r"dacnn(14|18|24|34)-(.+)": r"dacnn18-\2",
    r"dacnn(18|24|34)": "dacnn18",
}
"""Listed names -> the network that is trained for them."""

SPECS = [
    *("wau+ema", "asa+ortho-loss", "sas+conv-lr", "flow(rates=[0.5,1])"),
    *("kflo(width=2)", "do-conv", "acnet", "dbb"),
    *("repr(s1=1,s2=1,cycles=1)+kd(teacher=twin)", "dsd(s1=1,s2=1,cycles=1)"),
    *("prune(after=1)", "prune(after=1,unit=weight)", "dacnn", "regulators"),
]
"""Each method as it has to do something in two steps; what no network is refused with goes with another."""

SHARES = "shares (its|a) kernel"
NO_PLACE = "no layer that .* expands: .* no batch norm directly behind it that could take the folded one"
REFUSED = [
    ("dacnn(?!.*unshared).*", "kflo.*|do-conv|acnet|dbb|repr.*|prune.after=1.", SHARES),
    # Their branches fold into a bias, of the convolution or of the batch norm directly behind it.
    ("densenet.*", "acnet|dbb", NO_PLACE),
    ("resnet8-b.*", "acnet|dbb", NO_PLACE),  # dropout stands between
    ("dacnn.*-reg.*", "regulators", "has a regulator already"),
    ("alexnet|cifar-quick|lenet5", "dacnn", "no two convolutions of equal shape"),
    ("densenet-13-4", "dacnn", "no two convolutions of equal shape"),
]
"""Networks, methods, and why they do not go together."""


def stand_in(name: str) -> str:
    """The network that is trained for a listed one; as narrow as it can be."""
    for pattern, other in STAND_INS.items():
        if match := re.fullmatch(pattern, name):
            name = match.expand(other)
            break
    if name.startswith("dacnn") and "-w" not in name:
        name = name.replace("-unshared", "") + "-w8" + "-unshared" * ("-unshared" in name)
    return name


NETWORKS = sorted({stand_in(name) for name in zoo.names()})


def reason(network: str, spec: str) -> str | None:
    """Why a method is refused on a network, or ``None``."""
    found = (why for name, method, why in REFUSED if re.fullmatch(name, network) and re.fullmatch(method, spec))
    return next(found, None)


@cache
def image_size(network: str) -> int:
    """The smallest power of two that the network takes."""
    for size in (8, 16):
        try:
            with torch.device("meta"):
                zoo.build(network, image_size=size)
            return size
        except ValueError:
            continue
    return 32


def losses(network: str, text: str) -> Iterator[float]:
    """Of two steps with the method, on one batch of two images."""
    size = image_size(network)
    training = compose(text, resolve=lambda name: zoo.build(network, image_size=size))
    torch.manual_seed(0)
    model = training.prepare(zoo.build(network, image_size=size))
    optimizer = torch.optim.SGD(training.param_groups(model, 1e-4), lr=0.01, momentum=0.9)
    training.attach(model, optimizer, epochs=4, scheduler=ConstantLR)
    images, labels = torch.randn(2, 3, size, size), torch.tensor([0, 1])
    for _ in range(2):
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.zero_grad()
        outputs = model(images)
        loss = F.cross_entropy(outputs, labels)
        (loss + training.penalty(images, outputs, labels)).backward()
        optimizer.step()
        training.end_batch()
        training.end_epoch()
        assert any(not torch.equal(old, p) for old, p in zip(before, model.parameters(), strict=True))
        yield float(loss.detach())
    training.finish()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in (alexnet, resnet18, resnext, vgg):
        monkeypatch.setattr(family, "WIDTHS", tuple(width // 8 for width in family.WIDTHS))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("text", SPECS)
@pytest.mark.parametrize("network", NETWORKS)
def test_two_steps(network: str, text: str) -> None:
    if why := reason(network, text):
        with pytest.raises(ValueError, match=why) as caught:
            list(losses(network, text))
        assert "\n" not in str(caught.value)
        return
    assert all(torch.isfinite(torch.tensor(loss)) for loss in losses(network, text))


def test_the_matrix_is_complete() -> None:
    assert {one.name for text in SPECS for one in read(text)} == set(METHODS)
    assert all(any(re.fullmatch(name, network) for network in NETWORKS) for name, _, _ in REFUSED)
