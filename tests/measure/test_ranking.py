from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from reference import ranking as slow
from reference.nets import CONVOLUTIONS, assert_same, net
from reference.pointwise import pair
from reference.ranked_nets import Repeating, case
from torch import Tensor, nn
from torch.nn.parallel import DataParallel
from torch.utils.data import DataLoader, TensorDataset

import filtersmith as fs
from filtersmith.measure.overlap import random_cosine
from filtersmith.measure.ranking import CRITERIA, ON_DATA, rank

ON_ACTIVATIONS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "activation": slow.activation,
    "apoz": slow.apoz,
    "taylor": slow.taylor,
}


def check(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, scores in expected.items():
        torch.testing.assert_close(
            found[name].double(), scores, rtol=1e-4, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
        )


# --- against the slow versions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["net", "vanilla", "resnet", "wrn", "dense", "gated", "inverted", "overwriting", "deciding"]
)
@pytest.mark.parametrize("criterion", ON_ACTIVATIONS)
def test_criteria_on_activations(criterion: str, name: str) -> None:
    some = case(name)
    data = some.data()
    found = rank(some.model, criterion, data=iter(data), layers=list(some.behind))
    check(found, ON_ACTIVATIONS[criterion](some.model, some.behind, data))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_linear_layer_that_is_a_convolution_is_ranked_as_one(criterion: str) -> None:
    """``wide`` can be followed, ``narrow`` adds to others."""
    data = [(torch.randn(9, 3, 6, 6, dtype=torch.float64), torch.arange(9) % 4) for _ in range(2)]
    found, expected = (rank(model, criterion, data=data, layers=["wide", "narrow"]) for model in pair())
    check(found, {name: scores.double() for name, scores in expected.items()})


def test_which_linear_layers_are_ranked() -> None:
    linear, convolutional = pair()
    assert list(rank(linear)) == list(rank(convolutional)) == ["stem", "wide", "narrow"]
    with pytest.raises(ValueError, match="layer 'fc' cannot be ranked: it is a linear layer"):
        rank(linear, layers=["wide", "fc"])
    assert [tuple(filters.shape) for filters in seen(linear, ["narrow"])] == [(6, 12, 1, 1)]
    nn.utils.parametrizations.weight_norm(linear.narrow)
    assert list(rank(linear)) == ["stem", "wide"]


def seen(model: nn.Module, layers: list[str]) -> list[Tensor]:
    """What a function of filters gets."""
    found: list[Tensor] = []

    def function(filters: Tensor) -> Tensor:
        found.append(filters)
        return filters.flatten(1).norm(dim=1)

    rank(model, function, layers=layers)
    return found


def test_activations_of_what_the_graph_does_not_tell_are_those_of_the_convolution() -> None:
    some = case("net")
    data = some.data()
    found = rank(some.model, "activation", data=data, layers=["depthwise"])
    check(found, slow.activation(some.model, {"depthwise": ("depthwise", False)}, data))
    model = Repeating()
    maps = []
    model.b.register_forward_hook(lambda m, a, out: maps.append(out.detach()))
    model(data[0][0])
    expected = torch.cat(maps).abs().mean((0, 2, 3)).double()
    maps.clear()
    check(rank(model, "activation", data=data[:1], layers=["b"]), {"b": expected})


def test_gradient() -> None:
    some = case("net")
    data = some.data()
    groups = {name: None for name in CONVOLUTIONS} | {"up": 1, "grouped_up": 2}
    some.model.up.weight.requires_grad_(False)  # type: ignore[union-attr, operator]
    found = rank(some.model, "gradient", data=iter(data), layers=list(groups))
    assert not some.model.up.weight.requires_grad  # type: ignore[union-attr]
    some.model.up.weight.requires_grad_(True)  # type: ignore[union-attr, operator]
    check(found, slow.gradient(some.model, groups, data))


def test_taylor_of_a_frozen_network_and_with_a_loss_of_its_own() -> None:
    some = case("vanilla")
    data = some.data()
    expected = slow.taylor(some.model, some.behind, data)
    some.model.requires_grad_(False)
    check(rank(some.model, "taylor", data=data), expected)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return 3 * nn.functional.cross_entropy(outputs, labels)

    check(rank(some.model, "taylor", data=data, loss=loss), {name: 3 * x for name, x in expected.items()})
    normalised = rank(some.model, "taylor", data=data, normalise="layer")
    check(normalised, {name: x / x.square().sum().sqrt() for name, x in expected.items()})


def test_criteria_on_weights() -> None:
    model = net()
    rows = {
        "dense": model.dense.weight,
        "grouped": model.grouped.weight,
        "up": model.up.weight.transpose(0, 1),
        "one": model.one.weight,
        "grouped_up": torch.stack(
            [model.grouped_up.weight[2 * (f // 2) : 2 * (f // 2) + 2, f % 2] for f in range(4)]
        ),
    }
    rows = {name: w.detach().flatten(1).double() for name, w in rows.items()}
    check(rank(model, "l1"), {name: w.abs().sum(1) for name, w in rows.items()})
    check(rank(model, "l2"), {name: w.square().sum(1).sqrt() for name, w in rows.items()})
    check(rank(model, "l1", normalise="dim"), {name: w.abs().mean(1) for name, w in rows.items()})
    check(rank(model, "l2", normalise="dim"), {name: w.square().mean(1).sqrt() for name, w in rows.items()})
    expected = {}
    for name, w in rows.items():
        size = len(w) // model.get_submodule(name).groups  # type: ignore[operator]
        expected[name] = torch.zeros(len(w), dtype=torch.float64)
        for f in range(len(w)):
            for j in range(f - f % size, f - f % size + size):
                if j != f:
                    expected[name][f] -= (w[f] @ w[j] / w[f].norm() / w[j].norm()).abs() / size
    check(rank(model), expected)
    assert list(rank(model)) == ["dense", "grouped", "up", "one", "grouped_up"]  # as in named_modules
    by_dim = {name: x / random_cosine(rows[name].shape[1]) for name, x in expected.items()}
    check(rank(model, "ortho", normalise="dim"), by_dim)
    depthwise = rank(model, layers=["depthwise", "one"])
    assert list(depthwise) == ["depthwise", "one"]
    assert not depthwise["depthwise"].any()


# --- what the specification asks for --------------------------------------------------------------------------


def test_identical_filters_overlap_most_and_scale_does_not_matter() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3))
    with torch.no_grad():
        model[0].weight[4] = -2 * model[0].weight[1]
    scores = rank(model)["0"]
    assert set(scores.argsort()[:2].tolist()) == {1, 4}
    with torch.no_grad():
        model[0].weight *= torch.tensor([1.0, -2, 3, 4, -5, 6])[:, None, None, None]
    torch.testing.assert_close(rank(model)["0"], scores)
    nn.init.orthogonal_(model[0].weight)
    torch.testing.assert_close(rank(model)["0"], torch.zeros(6), atol=1e-6, rtol=0)


def test_apoz_of_a_filter_that_is_always_negative_is_1() -> None:
    some = case("vanilla")
    with torch.no_grad():
        some.model.features[1].bias[2] = -100  # type: ignore[index, union-attr]
    scores = rank(some.model, "apoz", data=some.data())
    assert scores["features.0"][2] == -1
    assert rank(some.model, "activation", data=some.data())["features.0"][2] == 0
    assert rank(some.model, "oracle", data=some.data())["features.0"][2] == 0


def test_random_is_seeded() -> None:
    first, again, other = (rank(net(), "random", seed=seed) for seed in (1, 1, 2))
    assert_same(first, again)
    assert not torch.equal(first["dense"], other["dense"])
    assert not torch.equal(first["dense"][:6], first["grouped"])


# --- the network is as it was ---------------------------------------------------------------------------------


def _state(model: nn.Module) -> dict[str, Any]:
    return {
        "weights": copy.deepcopy(model.state_dict()),
        "modes": [module.training for module in model.modules()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "trained": [p.requires_grad for p in model.parameters()],
        "objects": [id(tensor) for tensor in (*model.parameters(), *model.buffers())],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "forward": ["forward" in vars(module) for module in model.modules()],
        "random": torch.get_rng_state(),
    }


class _Counting(nn.Module):
    """Draws, counts its calls and replaces a buffer, as well in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x.detach().mean()
        return x + 0 * torch.rand(1)


@pytest.mark.parametrize(
    ("criterion", "breaks"),
    [(one, "not") for one in CRITERIA] + [(one, what) for one in ON_DATA for what in ("data", "model")],
)
@pytest.mark.parametrize("name", ["net", "deciding"])
def test_the_network_is_left_as_it_was(name: str, criterion: str, breaks: str) -> None:
    some = case(name)
    model = nn.Sequential(_Counting(), some.model)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    first.eval()
    first.weight.requires_grad_(False)
    layers = [f"1.{layer}" for layer in some.behind]
    data = [(images[:4], labels[:4]) for images, labels in some.data(batches=2)]

    def broken() -> Iterator[Any]:
        yield data[0]
        if breaks == "data":
            raise OSError("no more")
        yield data[1][0][:, :2], data[1][1]  # two channels: the network raises

    before = _state(model)
    if breaks == "not":
        loader = DataLoader(TensorDataset(*data[0]), batch_size=3, shuffle=True)  # draws from torch's generator
        rank(model, criterion, data=loader, layers=layers)
    else:
        with pytest.raises(OSError if breaks == "data" else RuntimeError):
            rank(model, criterion, data=broken(), layers=layers)
    assert_same(_state(model), before)


def test_wrapped_networks_and_inside_other_contexts() -> None:
    some = case("vanilla")
    some.model.eval()
    data = some.data()
    expected = {criterion: rank(some.model, criterion, data=data) for criterion in CRITERIA}
    compilations = []

    def backend(graph: Any, inputs: Any) -> Any:
        compilations.append(graph)
        return graph

    compiled = torch.compile(some.model, backend="eager")
    with torch.no_grad():
        compiled(data[0][0])
    part = copy.deepcopy(some.model)
    part.features = torch.compile(part.features, backend=backend)
    for criterion in CRITERIA:
        check(rank(compiled, criterion, data=data), _double(expected[criterion]))  # type: ignore[arg-type]
        check(rank(DataParallel(some.model), criterion, data=data), _double(expected[criterion]))
        check(rank(part, criterion, data=data), _double(expected[criterion]))
        assert not compilations
        with torch.inference_mode():
            check(rank(some.model, criterion, data=data), _double(expected[criterion]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = rank(some.model, criterion, data=data)
            if criterion != "oracle":
                for name, scores in expected[criterion].items():
                    torch.testing.assert_close(rough[name].double(), scores.double(), rtol=0.1, atol=0.02)
            some.model(data[0][0]).sum().backward()  # a step in the same context still has gradients
            assert all(p.grad is not None and p.grad.any() for p in some.model.fc.parameters())  # type: ignore[union-attr]


def _double(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: one.double() for name, one in scores.items()}


# --- functions as criteria ------------------------------------------------------------------------------------


def test_a_function_of_filters() -> None:
    model = net()
    shapes = []

    def largest(weight: Tensor) -> Tensor:
        assert not weight.requires_grad
        shapes.append(tuple(weight.shape))
        return weight.flatten(1).amax(1)

    found = rank(model, largest)
    assert shapes == [(8, 3, 3, 3), (6, 4, 1, 1), (5, 6, 3, 3), (1, 5, 1, 1), (4, 2, 2, 2)]
    assert_same(found["up"], model.up.weight.detach().transpose(0, 1).flatten(1).amax(1))
    assert rank(model, lambda w: torch.arange(len(w)))["up"].tolist() == [0, 1, 2, 3, 4]
    one = rank(model, lambda w: model.dense.bias, layers=["dense"])["dense"]
    assert one.data_ptr() != model.dense.bias.data_ptr()
    assert not one.requires_grad


def test_a_function_of_the_network() -> None:
    some = case("net")
    data = some.data()
    some.model.train()
    seen = []

    def criterion(model: nn.Module) -> dict[str, Tensor]:
        seen.append((model, model.training))
        return rank(model, "l2")

    assert_same(rank(DataParallel(some.model), criterion, layers=["up"]), {"up": rank(some.model, "l2")["up"]})
    assert seen == [(some.model, False)]
    taylor = functools.partial(rank, criterion="taylor", data=data)
    assert_same(rank(some.model, taylor), rank(some.model, "taylor", data=data))


# --- refusals -------------------------------------------------------------------------------------------------


def _shared() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    model[1].weight = model[0].weight
    return model


def _zeros(f: float) -> Callable[[Tensor], Tensor]:
    return lambda w: torch.cat([torch.zeros(len(w) - 1), torch.tensor([f])])


class _Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.aux = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.a(x) + self.aux(x) if self.training else self.a(x)).mean((2, 3))


PAIRS = [(torch.randn(2, 3, 6, 6), torch.zeros(2, dtype=torch.long))]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (net, {"criterion": "otho"}, "unknown criterion 'otho' .did you mean 'ortho'"),
        (net, {"criterion": 3}, "criterion must be a name or a function, got 3"),
        (net, {"normalise": "layer"}, "normalise must be None or 'dim' with this criterion, got 'layer'"),
        (net, {"criterion": "taylor", "normalise": "dim", "data": PAIRS}, "None or 'layer'"),
        (net, {"criterion": "apoz", "normalise": "dim", "data": PAIRS}, "normalise must be None with"),
        (net, {"criterion": lambda w: w, "normalise": "dim"}, "normalise must be None with"),
        (net, {"criterion": "random", "seed": 1.5}, "seed must be"),
        (net, {"criterion": "taylor", "data": PAIRS, "loss": "mse"}, "loss must be None or a function"),
        (net, {"criterion": "taylor", "data": PAIRS, "loss": lambda o, y: o}, "one number"),
        (net, {"criterion": "taylor", "data": PAIRS, "loss": lambda o, y: o.detach().sum()}, "differentiated"),
        (net, {"criterion": "oracle", "data": 3}, "data must be an iterable"),
        (net, {"criterion": "oracle", "data": [torch.randn(2, 3, 6, 6)]}, "tuple .images, labels., got 'Tensor'"),
        (net, {"layers": ["fc"]}, "'fc' cannot be ranked: it is a linear layer"),
        (net, {"layers": ["denze"]}, "did you mean 'dense'"),
        (lambda: nn.Sequential(nn.Conv2d(3, 3, 3, groups=3)), {}, "no convolution that is not depthwise"),
        (lambda: nn.Linear(2, 2), {}, "no convolution"),
        (lambda: fs.expand(net(), fs.KFLO(), layers=["dense"]), {}, "'dense' cannot be ranked: it is expanded"),
        (_shared, {}, "'0' cannot be ranked: it shares its kernel with another layer, '1'"),
        (net, {"criterion": _zeros(float("nan"))}, "layer 'dense': the importance of filter 7 is nan"),
        (net, {"criterion": _zeros(float("inf"))}, "layer 'dense': the importance of filter 7 is inf"),
        (net, {"criterion": lambda w: w}, "layer 'dense': its importance must be 8 real numbers"),
        (net, {"criterion": lambda w: [0.0] * len(w)}, "layer 'dense'.*got list"),
        (net, {"criterion": lambda w: torch.zeros(5)}, r"layer 'dense'.*shape \(5,\)"),
        (net, {"criterion": lambda w: torch.zeros(len(w), dtype=torch.complex64)}, "layer 'dense'.*complex64"),
        (net, {"criterion": lambda model: {"dense": torch.zeros(8)}}, "gave nothing for layer 'grouped'"),
        (net, {"criterion": lambda model: torch.zeros(8)}, "mapping of layers to scores, got Tensor"),
        (_Auxiliary, {"criterion": "apoz", "data": PAIRS}, "layer 'aux' is not called in evaluation mode"),
    ],
)
def test_refusals(model: Callable[[], nn.Module], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        rank(model(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("criterion", ON_DATA)
def test_data_have_to_be_there(criterion: str) -> None:
    model = net()
    with pytest.raises(ValueError, match=f"criterion '{criterion}' needs data"):
        rank(model, criterion)
    with pytest.raises(ValueError, match="data is empty"):
        rank(model, criterion, data=[])
    with pytest.raises(ValueError, match="data is empty"):
        rank(model, criterion, data=[(torch.zeros(0, 3, 6, 6), torch.zeros(0, dtype=torch.long))])


def test_an_expanded_layer_may_be_left_out() -> None:
    model = fs.expand(net(), fs.KFLO(), layers=["dense"])
    layers = ["grouped", "up"]
    for criterion in CRITERIA:
        assert list(rank(model, criterion, data=PAIRS, layers=layers)) == layers


@pytest.mark.parametrize("criterion", CRITERIA)
def test_in_a_sub_phase_filters_are_ranked_as_what_they_are(criterion: str) -> None:
    """Those that are left out do nothing on data; the others do what they do in the network without these."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Sigmoid(), nn.Conv2d(6, 6, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(96, 3)),
    )
    cycle = fs.RePr(net, torch.optim.SGD(net.parameters(), 0.1), s1=1, s2=1, cycles=1, prune=0.4, first_layer=True)
    before = fs.rank(net, criterion, data=(given := [(torch.randn(8, 3, 8, 8), torch.arange(8) % 3)]))
    cycle.step()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    plain, found = copy.deepcopy(net), fs.rank(net, criterion, data=given)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    gone = cycle.pruned
    assert any(mask.any() for mask in gone.values())
    for name, scores in found.items():
        if criterion in ON_DATA:
            like = fs.rank(plain, criterion, data=given)[name]
            assert torch.equal(scores[~gone[name]], like[~gone[name]])
            assert (scores[gone[name]] == (-1 if criterion == "apoz" else 0)).all()
        else:
            assert torch.equal(scores, before[name])
