from __future__ import annotations

from typing import Any

import pytest
import torch
from reference import ranking as slow
from reference.nets import assert_same
from reference.ranked_nets import CASES, Case, Repeating, case
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.graph.channels import channel_graph
from filtersmith.measure import oracle
from filtersmith.measure.ranking import rank
from filtersmith.measure.removal import removal_of


def check(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, scores in expected.items():
        torch.testing.assert_close(found[name], scores, rtol=0, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("name", CASES)
def test_equals_full_forward_passes_without_each_filter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "MOST", 10)  # several chunks, joined from batches of 7
    some = case(name)
    data = some.data()
    chosen = list(some.places)[: 4 if name == "wrn" else None]
    if name == "resnet":
        chosen = ["conv1", "layer1.1.conv2", "layer2.0.conv2"]
    found = rank(some.model, "oracle", data=iter(data), layers=chosen)
    expected = slow.oracle(some.model, {layer: some.places[layer] for layer in chosen}, data, some.strides)
    check(found, expected)
    assert any(scores.any() for scores in expected.values())


@pytest.mark.parametrize("name", ["vanilla", "wrn", "dense"])
def test_stored_values_give_the_same_outputs_as_zeroing(name: str) -> None:
    """Closer than accuracy: what comes out without each filter."""
    some = case(name)
    images, _ = some.data()[0]
    model = some.model.eval()
    graph = channel_graph(model)
    removals = [removal_of(graph, name) for name in graph.producers]
    with torch.no_grad():
        chunk = oracle._Chunk.probe(graph.parts[0], removals, images)
        assert chunk is not None
        torch.testing.assert_close(chunk.fill(images), model(images))
        for removal in removals[:5]:
            for f, output in enumerate(chunk.outputs_without(removal)):
                expected = oracle._without(model, graph, removal, f, images)
                torch.testing.assert_close(model(images) if output is None else output, expected)


@pytest.mark.parametrize("name", ["vanilla", "dense", "net"])
def test_a_filter_that_nobody_reads_is_worth_exactly_nothing(name: str) -> None:
    some = case(name)
    readers: dict[str, Any] = {"vanilla": ("features.3", 1), "dense": ("down", 9), "net": ("fc", 49)}
    layer = {"vanilla": "features.0", "dense": "conv2", "net": "grouped_up"}[name]
    module, first = readers[name]
    weight = some.model.get_submodule(module).weight
    f = 1 if name != "dense" else 0
    with torch.no_grad():
        weight[:, first : first + (49 if name == "net" else 1)] = 0
    scores = rank(some.model, "oracle", data=some.data())[layer]
    assert scores[f] == 0
    assert scores.any()


def test_the_gate_of_squeeze_and_excitation_is_set_to_zero_itself() -> None:
    some = case("gated")
    data, model = some.data(), some.model.eval()
    scores = rank(model, "oracle", data=data, layers=["gate"])["gate"]
    with torch.no_grad():
        for f in range(4):
            hits = []
            for images, labels in data:
                x = F.relu(model.a(images))
                gate = torch.sigmoid(model.gate(x.mean((2, 3), keepdim=True)))
                gate[:, f] = 0
                x = x * gate
                x = model.d(F.relu(model.norm(torch.cat([model.b(x), model.c(x)], 1))))
                hits.append((model.fc(x.view(-1, 16)) + x.mean((2, 3))).argmax(1) == labels)
            drop = slow.accuracy(model, data) - float(torch.cat(hits).double().mean())
            assert scores[f] == pytest.approx(drop, abs=1e-12)


def test_without_its_graph_a_convolution_is_zeroed_itself() -> None:
    """Depthwise, and called several times."""
    some = case("net")
    data = some.data()
    check(
        rank(some.model, "oracle", data=data, layers=["depthwise"]),
        slow.oracle(some.model, {"depthwise": [("depthwise", "output", 0)]}, data),
    )
    twice = Case(Repeating(), {}, {"a": [("a", "output", 0)], "b": [("b", "output", 0)]})
    data = twice.data()
    check(rank(twice.model, "oracle", data=data), slow.oracle(twice.model, twice.places, data))


def test_images_of_several_shapes_and_channels_last() -> None:
    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 3, stride=2, dilation=2), nn.Conv2d(6, 4, 3, padding=(1, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.a(x))).mean((2, 3))

    model = Strided()
    small = Case(model, {}, {}, size=6).data()
    large = Case(model, {}, {}, size=9).data()
    data = [small[0], large[0], large[1], small[1]]
    expected = slow.oracle(model, {"a": [("a", "output", 0)], "b": [("b", "output", 0)]}, data)
    check(rank(model, "oracle", data=data), expected)
    check(rank(model.to(memory_format=torch.channels_last), "oracle", data=data), expected)


def test_every_pixel_may_have_a_label() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    images, labels = torch.randn(5, 3, 4, 4), torch.randint(3, (5, 4, 4))
    scores = rank(model, "oracle", data=[(images, labels)])
    check(scores, slow.oracle(model, {"0": [("1", "output", 0)], "2": [("2", "output", 0)]}, [(images, labels)]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [(torch.zeros(4, 3), "labels of shape"), (["cat"] * 4, "a tensor of 4 labels")],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, message: str) -> None:
    some = case("vanilla")
    with pytest.raises(ValueError, match=message):
        rank(some.model, "oracle", data=[(torch.randn(4, 3, 6, 6), labels)])


def test_images_are_left_alone() -> None:
    """Also by a network that writes into its input."""
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 4))
    images = torch.randn(3, 3, 6, 6)
    before = images.clone()
    rank(model, "oracle", data=[(images, torch.zeros(3, dtype=torch.long))])
    assert_same(images, before)
