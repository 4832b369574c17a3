"""What `fs.why_not` says of every method and of networks of all kinds, against what the methods really do."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from reference.nets import assert_same, net
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import SGD

import filtersmith as fs
from filtersmith.filters import Surroundings
from filtersmith.methods.registry import Method
from filtersmith.methods.why_not import why_not_of


class Residual(nn.Module):
    """A stem, a block with the 1x1 projection of a shortcut, a depthwise convolution with its 1x1, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.a, self.norm = nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.b, self.last = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.project = nn.Conv2d(4, 6, 1)
        self.deep, self.wide = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.last(self.b(self.norm(self.a(x)).relu())) + self.project(x)).relu()
        outputs: Tensor = self.fc(self.wide(self.deep(x)).relu().mean((2, 3)))
        return outputs


def plain() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    )


def tied() -> nn.Module:
    model: Any = plain()
    model[6].weight = model[3].weight
    return model


def lazy() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))


def spectral() -> nn.Module:
    model: Any = plain()
    nn.utils.parametrizations.spectral_norm(model[3])
    nn.utils.spectral_norm(model[6])
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": plain,
    "residual": Residual,
    "every kind": net,
    "tied": tied,
    "lazy": lazy,
    "kflo": lambda: fs.expand(Residual(), fs.KFLO(width=2), layers=["a", "deep"]),
    "do-conv": lambda: fs.expand(Residual(), fs.DOConv(), layers=["b"]),
    "acnet": lambda: fs.expand(Residual(), fs.ACNet()),
    "spectral norm": spectral,
    "linear": lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)),
    "no layer": lambda: nn.Sequential(nn.ReLU()),
    "wrapped": lambda: nn.DataParallel(plain()),
}


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    return dict(Surroundings.of(model).layers)


def sgd(model: nn.Module) -> SGD:
    """An optimizer of all parameters, each with a gradient; where there are none, of another one."""
    parameters = list(model.parameters()) or [nn.Parameter(torch.ones(1))]
    for parameter in (p for p in parameters if not is_lazy(p)):
        parameter.grad = torch.ones_like(parameter)
    return SGD(parameters, lr=0.1)


def with_twins(model: nn.Module, names: Iterable[str]) -> set[str]:
    """These layers, and those that share a kernel with them."""
    layers = layers_of(model)
    kernels = {id(kernel) for name in names if (kernel := layers[name]._parameters.get("weight")) is not None}
    return {*names, *(name for name, layer in layers.items() if id(layer._parameters.get("weight")) in kernels)}


# --- which layers take part in each method, found by trying -------------------------------------------------------


def in_wau(model: nn.Module) -> set[str]:
    wau = fs.WAU(model).attach(optimizer := sgd(model))
    optimizer.step()
    return with_twins(model, wau.active)


def in_flow(make: Callable[..., Any]) -> Callable[[nn.Module], set[str]]:
    return lambda model: with_twins(model, make(fs.WAU(model), sgd(model)).state_dict()["wau"]["layers"])


def in_conv_lr(model: nn.Module) -> set[str]:
    fs.ConvLR(model, rate=0.5).attach(optimizer := sgd(model))
    slow = {id(p) for group in optimizer.param_groups if group["lr"] < 0.1 for p in group["params"]}
    return {name for name, layer in layers_of(model).items() if slow & {id(p) for p in layer.parameters()}}


def in_expansion(method: Any) -> Callable[[nn.Module], set[str]]:
    def expanded(model: nn.Module) -> set[str]:
        before, names = {id(p) for p in model.parameters()}, list(layers_of(model))
        fs.expand(model, method)
        return {name for name in names if {id(p) for p in model.get_submodule(name).parameters()} - before}

    return expanded


def in_ema(model: nn.Module) -> set[str]:
    if not any(True for _ in model.parameters()):
        return set()
    ema = fs.EMA(model, decay=0.5).attach(optimizer := sgd(model))
    before = [p.clone() for p in ema.network.parameters()]
    for _ in range(2):
        optimizer.step()
    moved = {id(p) for p, old in zip(ema.network.parameters(), before, strict=True) if not torch.equal(p, old)}
    return {name for name, layer in layers_of(ema.network).items() if moved & {id(p) for p in layer.parameters()}}


def in_repr(model: nn.Module) -> set[str]:
    cycle = fs.RePr(model, sgd(model))
    whole = {name for name, layer in layers_of(model).items() if not isinstance(layer, nn.Linear)} - {*cycle.pruned}
    assert cycle.left_whole == {n: r for n, r in fs.why_not(model, "repr").items() if n in whole}
    assert cycle.left_whole.keys() == whole
    return set(cycle.pruned)


def in_dsd(model: nn.Module) -> set[str]:
    dsd = fs.DSD(model, sgd(model), s1=1)
    dsd.step()
    return with_twins(model, dsd.pruned)


def in_prune(model: nn.Module) -> set[str]:
    pruning = fs.Prune(model, sgd(model), after=1)
    pruning.step()
    return set(pruning.pruned)


def in_ortho_loss(model: nn.Module) -> set[str]:
    fs.OrthoLoss(model)().backward()
    moved = {id(p) for p in model.parameters() if p.grad is not None and p.grad.any()}
    return {name for name, layer in layers_of(model).items() if moved & {id(p) for p in layer.parameters()}}


def in_dacnn(model: nn.Module) -> set[str]:
    return {name for group in fs.share_kernels(model).groups for name in group}


TRIED: dict[str, Callable[[nn.Module], set[str]]] = {
    "wau": in_wau,
    "asa": in_flow(fs.ASA),
    "sas": in_flow(fs.SAS),
    "flow": in_flow(lambda wau, optimizer: fs.Flow([(0.5, 1)], wau, optimizer)),
    "conv-lr": in_conv_lr,
    "kflo": in_expansion(fs.KFLO()),
    "do-conv": in_expansion(fs.DOConv()),
    "acnet": in_expansion(fs.ACNet()),
    "dbb": in_expansion(fs.DBB()),
    "ema": in_ema,
    "repr": in_repr,
    "dsd": in_dsd,
    "prune": in_prune,
    "ortho-loss": in_ortho_loss,
    "dacnn": in_dacnn,
    "kd": lambda model: set(layers_of(model)),  # all layers learn from both
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", TRIED)
def test_each_layer_takes_part_or_has_a_reason(method: str, network: str) -> None:
    model = NETWORKS[network]()
    layers = layers_of(model)
    reasons = fs.why_not(model, method)
    assert list(reasons) == [name for name in layers if name in reasons], "in the order of the network"
    assert all(reason and "\n" not in reason for reason in reasons.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old spectral norm, and of few filters
        refusal, taking_part = "", set[str]()
        try:
            taking_part = TRIED[method](model)
        except ValueError as error:
            refusal = str(error)
    if refusal:
        told = any(reason in refusal for reason in reasons.values())
        assert told or reasons.keys() == layers.keys(), f"{refusal} is not in {reasons}"
        return
    assert taking_part | reasons.keys() == layers.keys()
    assert not taking_part & reasons.keys()


def test_every_method_is_tried() -> None:
    own = {name for name, record in fs.METHODS.items() if record.cls.__module__.startswith("filtersmith.")}
    assert own == {*TRIED, "regulators"}


@pytest.mark.parametrize("method", fs.METHODS)
def test_the_network_stays_as_it_is(method: str) -> None:
    model = Residual().train()
    model.deep.eval()
    before = copy.deepcopy(model)
    state, attributes = torch.get_rng_state(), {name: dict(vars(module)) for name, module in model.named_modules()}
    first = fs.why_not(model, method)
    assert fs.why_not(model, method) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(model.state_dict(), before.state_dict())
    for name, module in model.named_modules():
        twin = before.get_submodule(name)
        assert vars(module).keys() == attributes[name].keys()
        assert (type(module), module.training) == (type(twin), twin.training)
        assert not module._forward_pre_hooks
        assert not module._forward_hooks
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_reasons_of_regulators_are_those_of_the_report() -> None:
    def ends_in_linear(self: Any, x: Tensor) -> Tensor:
        outputs: Tensor = x + self.fc(self.a(x))
        return outputs

    block: Any = type("Block", (nn.Module,), {"forward": ends_in_linear})()
    block.a, block.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(6, 6)
    model = nn.Sequential(Residual().a, nn.Conv2d(6, 3, 1), block)
    assert fs.why_not(Residual(), "regulators") == {}
    expected = fs.why_not(model, "regulators")
    assert list(expected) == ["2"]
    assert fs.why_not(nn.Sequential(nn.Linear(2, 2)), "regulators") == {"0": "no convolution ends a section"}
    twice = Residual()
    fs.add_regulators(twice)
    assert set(fs.why_not(twice, "regulators").values()) == {"it has a regulator already"}
    assert list(fs.why_not(lazy(), "regulators")) == ["2", "4"]


def test_options_count_where_they_decide_who_takes_part() -> None:
    model = Residual()
    assert fs.why_not(model, "repr")["stem"] == "it is the first layer (first_layer=True ranks it, too)"
    assert "stem" not in why_not_of(model, fs.RePr, {"first_layer": True, "prune": 0.1})
    assert why_not_of(model, fs.Prune, {"unit": "weight"}) == {}
    assert "layers= does not name it" in why_not_of(model, fs.Prune, {"layers": ["b"]}).values()
    assert "d_mul must be" in why_not_of(model, fs.DOConv, {"d_mul": 4})["a"]
    assert list(why_not_of(model, fs.WAU, {"rate": 0.1, "layers": ["fc"]})) == [
        "stem", "a", "b", "project", "deep", "wide"
    ]  # fmt: skip
    assert fs.why_not(model, "wau(layers=[fc])") == why_not_of(model, fs.WAU, {"layers": ["fc"]}), (
        "options in the text"
    )
    assert why_not_of(model, fs.share_kernels, {"scope": "stage"}).keys() == fs.why_not(model, "dacnn").keys()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"^unknown method 'rpr' \(did you mean 'repr'\?\)"):
        fs.why_not(plain(), "rpr")
    for several in ("wau+repr", "baseline"):
        with pytest.raises(ValueError, match=r"^method must be one method, among wau, .*, got"):
            fs.why_not(plain(), several)
    with pytest.raises(ValueError, match=r"^method must be the name of a method, .*, got 3$"):
        fs.why_not(plain(), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^model must be a torch.nn.Module, got 'str'$"):
        fs.why_not("resnet18", "repr")  # type: ignore[arg-type]
    silent = Method("silent", "", "", type("Silent", (), {"__module__": __name__}))
    with pytest.raises(ValueError, match=r"^Silent does not tell.*why_not\(model, \*\*options\)$"):
        why_not_of(plain(), silent.cls, {})
