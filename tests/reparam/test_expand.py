"""Expanding and collapsing, whatever the method: what survives, what is refused, and that nothing else changes."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from reference import two_processes
from reference.nets import Net, assert_same, batch_number, loss_of, net, train, train_step
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import cached, is_parametrized
from torch.optim import SGD, Adam, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import filtersmith as fs
from filtersmith.reparam.pairs import Branches

METHODS = {"kflo": fs.KFLO(), "kflo-3": fs.KFLO(3, 1.5), "do-conv": fs.DOConv(), "acnet": fs.ACNet(), "dbb": fs.DBB()}
EXACT = ("kflo", "kflo-3", "do-conv")
"""Those that start as the plain network."""

every = pytest.mark.parametrize("method", METHODS)
images = batch_number(99)[0]


def sgd(model: nn.Module) -> Optimizer:
    return SGD(fs.param_groups(model, weight_decay=1e-3), lr=0.05, momentum=0.9)


def trained(method: str, steps: int = 3) -> tuple[Net, Optimizer]:
    model = net()
    assert fs.expand(model, METHODS[method]) is model
    optimizer = sgd(model)
    train(model, optimizer, steps)
    return model, optimizer


def randomise(model: nn.Module) -> None:
    """Other batch-norm statistics and values than a few steps give."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()


@every
def test_the_deployed_network_is_plain_and_computes_the_same(method: str) -> None:
    model, _ = trained(method)
    randomise(model)
    model.eval()
    before = copy.deepcopy(model.state_dict())
    outputs = model(images)
    deployed = fs.collapse(model)
    assert type(deployed) is Net
    torch.testing.assert_close(deployed(images), outputs, rtol=0, atol=1e-5)
    for one, other in zip(deployed.modules(), net().modules(), strict=True):
        assert type(one) is type(other)
    fresh = net(5)
    fresh.load_state_dict(deployed.state_dict(), strict=True)
    assert list(fresh.state_dict()) == list(deployed.state_dict())
    assert_same(fresh.eval()(images), deployed(images))
    again = fs.collapse(deployed)
    assert again is not deployed
    assert_same(again.state_dict(), deployed.state_dict())
    assert_same(model.state_dict(), before)
    with torch.no_grad():
        for parameter in deployed.parameters():
            parameter.zero_()
    assert_same(model.state_dict(), before), "nothing is shared"


@every
def test_the_source_trains_on_as_if_nothing_had_happened(method: str) -> None:
    model, optimizer = trained(method)
    undisturbed = copy.deepcopy((model, optimizer.state_dict()))
    fs.collapse(model)
    train(model, optimizer, 2, start=7)
    twin = undisturbed[0]
    theirs = sgd(twin)
    theirs.load_state_dict(undisturbed[1])
    train(twin, theirs, 2, start=7)
    assert_same(model.state_dict(), twin.state_dict())


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


@every
def test_deep_copies_train_by_themselves(method: str) -> None:
    model, _ = trained(method)
    before = copy.deepcopy(model.state_dict())
    twin = copy.deepcopy(model)
    train(twin, sgd(twin), 2)
    assert_same(model.state_dict(), before)
    assert not torch.equal(twin.eval()(images), model.eval()(images))
    torch.testing.assert_close(fs.collapse(twin)(images), twin(images), rtol=0, atol=1e-5)


@every
def test_averaged_models_average_what_is_trained(method: str) -> None:
    model, optimizer = trained(method)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    expected = {}
    for step in range(3):
        train(model, optimizer, 1, start=step)
        averaged.update_parameters(model)
        for name, parameter in model.named_parameters():
            now = parameter.detach().clone()
            expected[name] = now if step == 0 else 0.5 * expected[name] + 0.5 * now
    for name, parameter in averaged.module.named_parameters():
        torch.testing.assert_close(parameter, expected[name])
    averaged.eval()
    deployed = fs.collapse(averaged)
    torch.testing.assert_close(deployed(images), averaged(images), rtol=0, atol=1e-5)
    net().load_state_dict(deployed.module.state_dict(), strict=True)


@every
def test_compiled_networks_train_and_collapse(method: str) -> None:
    model, plain = net(), None
    fs.expand(model, METHODS[method])
    plain = copy.deepcopy(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for network in (compiled, plain):
        train(network, sgd(network), 2)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    deployed = fs.collapse(compiled)
    assert type(deployed) is Net
    torch.testing.assert_close(deployed.eval()(images), plain.eval()(images), rtol=1e-4, atol=1e-5)
    expanded_late = torch.compile(net(), backend="aot_eager")
    assert fs.expand(expanded_late, METHODS[method]) is expanded_late
    assert sum(p.numel() for p in expanded_late.parameters()) == sum(p.numel() for p in model.parameters())


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
    with pytest.raises(ValueError, match=r"^layer 'norm' cannot be expanded .* has a parametrization already$"):
        fs.expand(model, fs.KFLO())
    assert not is_parametrized(model.layer.linear1), "a refusal comes before any change"
    fs.expand(model, fs.KFLO(), layers=["layer.linear1", "layer.linear2", "layer.self_attn.out_proj"])
    assert_same(model(x), before)
    deployed = fs.collapse(model)
    assert_same(deployed(x), before)
    assert is_parametrized(deployed.norm), "others' parametrizations stay"
    assert deployed.norm.weight.shape == (4, 8), "and work"
    model(x).sum().backward()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
@every
def test_networks_of_torchvision(method: str, name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    model = models.get_model(name, num_classes=10)
    names = list(model.state_dict())
    fs.expand(model, METHODS[method])
    x = torch.randn(4, 3, 64, 64)
    model.train()(x).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    randomise(model)
    model.eval()
    deployed = fs.collapse(model)
    assert list(deployed.state_dict()) == names
    outputs = model(x)
    torch.testing.assert_close(deployed(x), outputs, rtol=0, atol=1e-5 * float(outputs.detach().abs().max()))
    models.get_model(name, num_classes=10).load_state_dict(deployed.state_dict(), strict=True)


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


def test_a_layer_that_is_used_twice_stays_one() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    fs.expand(model, fs.KFLO())
    deployed = fs.collapse(model)
    assert deployed[0] is deployed[2]
    assert type(deployed[0]) is nn.Conv2d


def test_attributes_hooks_and_frozen_weights_come_along() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    model[0].tag = "stem"
    seen: list[int] = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    fs.expand(model, fs.KFLO())
    for parameter in model[1].parameters():
        parameter.requires_grad_(False)
    deployed = fs.collapse(model.eval())
    assert deployed[0].tag == "stem"
    assert not deployed.training
    deployed(torch.randn(1, 3, 8, 8))
    assert seen == [1]
    assert [p.requires_grad for p in deployed.parameters()] == [True, True, False, False]


def test_values_that_torch_caches_are_not_deployed() -> None:
    model, optimizer = trained("kflo")
    with cached():
        model(images)
        train_step(model, optimizer, batch_number(3))
        deployed = fs.collapse(model)
    assert_same(deployed.eval()(images), model.eval()(images))


def test_it_works_on_the_meta_device_and_in_low_precision() -> None:
    with torch.device("meta"):
        model = fs.expand(net(), fs.KFLO(width=2))
    assert fs.collapse(model).fc.weight.is_meta
    model = net().bfloat16()
    before = model(images.bfloat16())
    fs.expand(model, fs.KFLO())
    assert_same(model(images.bfloat16()), before)
    assert fs.collapse(model).fc.weight.dtype == torch.bfloat16


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
            "^layer '0' .*: it shares its kernel with another layer: leave it out with layers=$",
        ),
        (
            _tied_to_an_embedding,
            KFLO,
            None,
            "^layer '1' .*: it shares its kernel with another layer: leave it out with layers=$",
        ),
        (_spectral, KFLO, None, "^layer '0' .*: it has a parametrization already$"),
        (
            lambda: nn.Sequential(nn.LazyConv2d(3, 3)),
            KFLO,
            None,
            "^layer '0' .*: it is lazy .*run one forward pass first$",
        ),
        (lambda: DataParallel(net()), KFLO, None, "^cannot expand under DataParallel"),
        (
            net,
            fs.DOConv(d_mul=4),
            None,
            "^layer 'dense' .*: d_mul must be at least its window of 9 positions, got 4$",
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
        with pytest.raises(ValueError, match=r"^layer 'dense\S*' cannot be expanded .*: it is expanded already$"):
            fs.expand(model, METHODS[second], layers=layers)
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("method", ["do-conv", "acnet", "dbb"])
def test_wau_on_filters_that_are_not_rows_of_a_parameter_is_refused(method: str) -> None:
    model = net()
    fs.expand(model, METHODS[method], layers=["dense"])
    with pytest.raises(ValueError, match=r"^the weight of layer 'dense\S*' is"):
        fs.WAU(model)


def test_someone_elses_parametrization_on_top_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    fs.expand(model, fs.KFLO())
    parametrizations.spectral_norm(model[0])
    with pytest.raises(
        ValueError, match=r"^layer '0' has a parametrization of its weight that collapse does not know$"
    ):
        fs.collapse(model)


@pytest.mark.parametrize(
    "options",
    [{"weight_decay": -1.0}, {"weight_decay": "x"}, {"inner_weight_decay": float("nan")}, {"decay_factor": True}],
)
def test_decays_out_of_range_name_themselves(options: dict[str, Any]) -> None:
    ((option, value),) = options.items()
    with pytest.raises(ValueError, match=rf"^{option} must be a number of at least 0, got {value!r}$"):
        fs.param_groups(net(), **({"weight_decay": 0.1} | options))


def test_groups_of_a_plain_network_are_one() -> None:
    model = net()
    groups = fs.param_groups(model, 0.1)
    assert len(groups) == 1
    assert [id(p) for p in groups[0]["params"]] == [id(p) for p in model.parameters()]
    ours, theirs = net(), net()
    for network, optimizer in (
        (ours, Adam(fs.param_groups(ours, 0.1), lr=0.01)),
        (theirs, Adam(theirs.parameters(), lr=0.01, weight_decay=0.1)),
    ):
        train(network, optimizer, 3)
    assert_same(ours.state_dict(), theirs.state_dict())
    assert loss_of(ours, batch_number(0)).isfinite()


class NoteTaker(nn.Module):
    """A hook that is bound to the network itself, and a layer inside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.conv.inner = nn.Linear(2, 2)
        self.conv.register_forward_hook(self.note)
        self.seen = 0

    def note(self, *_: Any) -> None:
        self.seen += 1

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def test_layers_inside_layers_and_hooks_of_the_network_belong_to_the_deployed_one() -> None:
    model = fs.expand(NoteTaker(), fs.KFLO())
    deployed = fs.collapse(model)
    NoteTaker().load_state_dict(deployed.state_dict(), strict=True)
    deployed(images)
    assert (deployed.seen, model.seen) == (1, 0)


def test_a_layer_that_was_compiled_in_place_deploys_its_own_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].compile(backend="aot_eager")
    fs.expand(model, fs.KFLO())
    x = torch.randn(2, 4)
    deployed = fs.collapse(model)
    before = deployed(x).detach().clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert_same(deployed(x).detach(), before)


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
        with pytest.raises(ValueError, match=rf"cannot be expanded with .*: {reason}$"):
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
