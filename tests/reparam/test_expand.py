"""Expanding, whatever the method: how it starts, what it survives, what is refused, and that nothing else changes."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from reference import two_processes
from reference.expansions import EXACT, METHODS, every, images, sgd, trained
from reference.nets import Net, assert_same, batch_number, net, train, train_step
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import SGD

import filtersmith as fs
from filtersmith.reparam import Branches, layers_not_expanded


@pytest.mark.parametrize("method", EXACT)
def test_it_starts_as_the_plain_network(method: str) -> None:
    model, plain = net(), net()
    fs.expand(model, METHODS[method])
    assert_same(fs.collapse(model).state_dict(), plain.state_dict())
    assert_same(model(images), plain(images))


@every
def test_a_run_that_is_saved_and_loaded_goes_on_bit_for_bit(method: str) -> None:
    model, optimizer = trained(method)
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    train(model, optimizer, 3, start=3)
    resumed = net(8)
    fs.expand(resumed, METHODS[method])
    theirs = sgd(resumed)
    file.seek(0)
    states = torch.load(file)
    resumed.load_state_dict(states[0])
    theirs.load_state_dict(states[1])
    train(resumed, theirs, 3, start=3)
    assert_same(resumed.state_dict(), model.state_dict())


def ddp_training() -> dict[str, Any]:
    """In each of two processes: half of a batch, for every method; and what is refused."""
    result: dict[str, Any] = {}
    for name, method in METHODS.items():
        torch.manual_seed(0)
        model = net()
        fs.expand(model, method)
        model.bn.eval() if isinstance(model.bn, nn.BatchNorm2d) else None
        wrapped = DistributedDataParallel(model)
        optimizer = sgd(wrapped)
        rank = torch.distributed.get_rank()
        for n in range(2):
            x, y = batch_number(n)
            train_step(wrapped, optimizer, (x[2 * rank : 2 * rank + 2], y[2 * rank : 2 * rank + 2]))
        result[name] = {k: p.detach().clone() for k, p in model.named_parameters()}
        with pytest.raises(ValueError, match="cannot collapse under DistributedDataParallel"):
            fs.collapse(wrapped)
        with pytest.raises(ValueError, match="cannot expand under DistributedDataParallel"):
            fs.expand(wrapped, fs.KFLO())
        fs.collapse(wrapped.module)
    return result


def test_distributed_training_keeps_the_ranks_equal(tmp_path: Any) -> None:
    first, second = two_processes.run(ddp_training, tmp_path)
    for name in METHODS:
        assert_same(first[name], second[name])
    for name in EXACT:  # without batch norm's statistics of other batches, halves are worth the whole
        model = net()
        torch.manual_seed(0)
        fs.expand(model, METHODS[name])
        model.bn.eval()
        train(model, sgd(model), 2)
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(first[name][key], parameter, rtol=1e-4, atol=1e-6)


class Attention(nn.Module):
    """Layers that torch reads the weights of without calling them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.norm = parametrizations.weight_norm(nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x))


def test_layers_that_are_read_and_not_called_and_others_own_parametrizations() -> None:
    model = Attention()
    x = torch.randn(2, 3, 8)
    before = model(x)
    with pytest.raises(ValueError, match=r"^layer 'norm' cannot .*: its weight is not a parameter but computed"):
        fs.expand(model, fs.KFLO(), layers=["layer.linear1", "norm"])
    assert not is_parametrized(model.layer.linear1), "a refusal comes before any change"
    assert list(fs.why_not(model, "kflo")) == ["norm"]
    fs.expand(model, fs.KFLO())
    for name in ("linear1", "linear2", "self_attn.out_proj"):
        assert is_parametrized(model.layer.get_submodule(name)), "one odd layer is no reason for the others"
    assert_same(model(x), before)
    deployed = fs.collapse(model)
    assert_same(deployed(x), before)
    assert is_parametrized(deployed.norm), "others' parametrizations stay"
    assert deployed.norm.weight.shape == (4, 8), "and work"
    model(x).sum().backward()


def test_a_mixture_of_methods_on_different_layers() -> None:
    model = net()
    fs.expand(model, fs.KFLO(), layers=["fc", "up"])
    fs.expand(model, fs.DOConv(), layers=["depthwise"])
    fs.expand(model, fs.ACNet(), layers=["dense"])
    train(model, sgd(model), 2)
    model.eval()
    deployed = fs.collapse(model)
    torch.testing.assert_close(deployed(images), model(images), rtol=0, atol=1e-5)
    assert type(deployed) is Net
    net().load_state_dict(deployed.state_dict(), strict=True)


def test_a_layer_by_itself() -> None:
    layer = nn.Conv2d(3, 4, 3)
    x = torch.randn(1, 3, 6, 6)
    before = layer(x)
    fs.expand(layer, fs.KFLO())
    assert_same(layer(x), before)
    deployed = fs.collapse(layer)
    assert type(deployed) is nn.Conv2d
    assert_same(deployed(x), before)
    with pytest.raises(ValueError, match="it is the whole network"):
        fs.expand(nn.Conv2d(3, 4, 3), fs.ACNet())


def _shared() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1))
    model[1].weight = model[0].weight
    return model


def _tied_to_an_embedding() -> nn.Module:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    model[1].weight = model[0].weight
    return model


def _spectral() -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(3, 3, 3)))


def _bare_pair() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), nn.ReLU(), nn.BatchNorm2d(3))


KFLO, AC = fs.KFLO(), fs.ACNet()


@pytest.mark.parametrize(
    ("make", "method", "layers", "message"),
    [
        (net, KFLO, ["dens"], r"^unknown layer 'dens' \(did you mean 'dense'\?\); known: dense, grouped"),
        (net, KFLO, "dense", r"^layers must be a sequence of layer names, got 'dense'$"),
        (net, KFLO, [], r"^layers must be None or at least one layer name, got \[\]$"),
        (net, KFLO, [3], r"^layers must be None or at least one layer name, got \[3\]$"),
        (net, KFLO, ["bn"], "^layer 'bn' cannot be expanded with KFLO.*: it is a BatchNorm2d, which has no filters$"),
        (
            net,
            fs.KFLO,
            None,
            r"^method must be KFLO\(\), DOConv\(\), ACNet\(\) or DBB\(\), got 'KFLO \(a class: call it\)'$",
        ),
        (net, "kflo", None, "^method must be KFLO"),
        (lambda: "net", KFLO, None, "^model must be a torch.nn.Module, got 'str'$"),
        (lambda: nn.Sequential(nn.ReLU()), KFLO, None, "^Sequential has no layer that KFLO"),
        (lambda: nn.Sequential(nn.Linear(3, 3)), fs.DOConv(), None, "^Sequential has no layer that DOConv"),
        (
            _shared,
            KFLO,
            None,
            "^layer '0' .*: it shares its kernel with another layer, '1' ",
        ),
        (
            _tied_to_an_embedding,
            KFLO,
            None,
            "^layer '1' .*: it shares its kernel with another layer, '0' ",
        ),
        (_spectral, KFLO, None, "^layer '0' .*: its weight is not a parameter but computed from others"),
        (
            lambda: nn.Sequential(nn.LazyConv2d(3, 3)),
            KFLO,
            None,
            "^layer '0' .*: it is lazy .*run one forward pass first",
        ),
        (lambda: DataParallel(net()), KFLO, None, "^cannot expand under DataParallel"),
        (
            net,
            fs.DOConv(d_mul=4),
            ["dense", "depthwise"],
            "^layer 'd.*' .*: d_mul must be at least its window of 9 positions, got 4$",
        ),
        (
            net,
            fs.DOConv(),
            ["fc"],
            r"^layer 'fc' cannot be expanded with DOConv\(d_mul=None\): it is no convolution$",
        ),
        (net, fs.DOConv(), ["one"], "^layer 'one' .*: a window of one position has nothing to mix$"),
        (_bare_pair, AC, ["0"], "^layer '0' .*: it has no bias and no batch norm directly behind it"),
        (_bare_pair, AC, None, "^Sequential has no layer that ACNet"),
        (net, AC, ["up"], "^layer 'up' cannot be expanded with ACNet"),
    ],
)
def test_what_is_refused_changes_nothing(make: Any, method: Any, layers: Any, message: str) -> None:
    model = make()
    before = copy.deepcopy(model.state_dict()) if isinstance(model, nn.Module) else None
    with pytest.raises(ValueError, match=message) as caught:
        fs.expand(model, method, layers=layers)
    assert "\n" not in str(caught.value)
    if isinstance(model, nn.Module) and not isinstance(
        model[0] if isinstance(model, nn.Sequential) else None, nn.LazyConv2d
    ):
        assert_same(model.state_dict(), before)


@every
@pytest.mark.parametrize("second", METHODS)
def test_expanding_twice_is_refused(method: str, second: str) -> None:
    model = net()
    fs.expand(model, METHODS[method], layers=["dense"])
    before = copy.deepcopy(model.state_dict())
    inner = ["dense.conv"] if isinstance(model.dense, Branches) else ["dense"]
    for layers in (["dense"], inner, None) if second.startswith("kflo") else (["dense"], inner):
        with pytest.raises(ValueError, match=r"^layer 'dense\S*' cannot be expanded .*: it is expanded already, "):
            fs.expand(model, METHODS[second], layers=layers)
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("method", ["do-conv", "acnet", "dbb"])
def test_wau_on_filters_that_are_not_rows_of_a_parameter_is_refused(method: str) -> None:
    model = net()
    fs.expand(model, METHODS[method], layers=["dense"])
    with pytest.raises(ValueError, match=r"^layer 'dense' cannot take part: it is expanded already"):
        fs.WAU(model)


@every
def test_a_failure_in_the_middle_leaves_the_model_as_it_was(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    names, before = list(model._modules), copy.deepcopy(model.state_dict())
    kinds = [type(module) for module in model.modules()]
    optimizer = SGD(model.parameters(), lr=0.1)
    chosen = METHODS[method]
    verb = "block" if isinstance(chosen, (fs.ACNet, fs.DBB)) else "register"
    real, calls = getattr(chosen, verb), []

    def second_fails(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise MemoryError("no room")
        return real(*arguments)

    monkeypatch.setattr(chosen, verb, second_fails, raising=False)
    with pytest.raises(MemoryError):
        fs.expand(model, chosen, layers=["dense", "depthwise"])
    assert len(calls) == 2
    assert_same(model.state_dict(), before)
    assert (list(model._modules), [type(module) for module in model.modules()]) == (names, kinds)
    train(model, optimizer, 1)
    assert not torch.equal(model.dense.weight, before["dense.weight"]), "the optimizer still has its parameters"


def test_layers_that_torch_can_make_but_nobody_can_expand() -> None:
    pruned = nn.Sequential(nn.Conv2d(3, 3, 3))
    prune.l1_unstructured(pruned[0], "bias", amount=1)
    for model, reason in ((pruned, "its bias is not a parameter"), (nn.Linear(0, 3), "its weight is empty")):
        with pytest.raises(ValueError, match=rf"cannot be expanded with .*: {reason}"):
            fs.expand(model, fs.KFLO())


def test_a_module_with_two_names_may_be_called_by_either() -> None:
    shared = nn.Linear(3, 3)
    model = nn.ModuleDict({"a": shared, "b": shared})
    fs.expand(model, fs.KFLO(), layers=["b", "a"])
    assert is_parametrized(shared)
    assert fs.collapse(model)["a"] is not shared


def test_modes_and_frozen_layers_are_kept() -> None:
    model = net().eval()
    for parameter in model.dense.parameters():
        parameter.requires_grad_(False)
    fs.expand(model, fs.ACNet(), layers=["dense"])
    fs.expand(model, fs.KFLO(), layers=["fc"])
    assert not any(module.training for module in model.modules())
    assert {name for name, p in model.dense.named_parameters() if p.requires_grad} == {"bn.weight", "bn.bias"}


@every
def test_all_other_layers_are_expanded_than_those_with_a_reason(method: str) -> None:
    model = net()
    reasons = layers_not_expanded(model, METHODS[method])
    plain = {id(p) for p in model.parameters()}
    fs.expand(model, METHODS[method])
    for name in ("dense", "grouped", "depthwise", "up", "one", "grouped_up", "fc"):
        parameters = {id(p) for p in model.get_submodule(name).parameters()}
        assert (parameters <= plain) == (name in reasons), name
    after = layers_not_expanded(model, METHODS[method])
    assert all(reason.startswith("it is expanded already") for name, reason in after.items() if name not in reasons)


def test_a_whole_network_that_is_refused_gives_the_reason_for_each_layer() -> None:
    wrapped = layers_not_expanded(DataParallel(net()), fs.KFLO())
    assert list(wrapped) == ["dense", "grouped", "depthwise", "up", "one", "grouped_up", "fc"]
    assert {reason.partition(":")[0] for reason in wrapped.values()} == {"cannot expand under DataParallel"}
    assert layers_not_expanded(_shared(), KFLO).keys() == {"0", "1"}
    large = nn.Sequential(nn.Conv2d(3, 3, 9, padding=4), nn.BatchNorm2d(3))
    assert layers_not_expanded(large, AC) == {"0": "the paper does not expand its kind (layers= may name it)"}
    fs.expand(large, AC, layers=["0"])
