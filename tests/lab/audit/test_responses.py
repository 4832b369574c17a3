"""What filters do on images, against all their activations at once."""

from __future__ import annotations

import pytest
import torch
from reference.running import digits
from torch import Tensor, nn

from filtersmith import measure, zoo
from filtersmith.lab.audit import responses
from filtersmith.lab.audit.images import images_for
from filtersmith.lab.audit.responses import canonical, drawn, maps_of, sampled, similarity, spread_over


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(count, 3, 16, 16, generator=generator), torch.zeros(count)) for count in (20, 20, 7)]


def test_batch_by_batch_it_is_what_all_activations_say() -> None:
    network = zoo.build("resnet8", image_size=16).eval()
    told: list[int] = []
    found = maps_of(network, {"conv1": 16, "layer1.0.conv2": 16}, batches(), step=lambda: told.append(1))
    assert len(told) == 3
    for name, values in measure.activations(network, list(found), batches()).items():
        one = found[name]
        torch.testing.assert_close(one.correlation, measure.pearson(values), atol=1e-6, rtol=0)
        off = measure.pearson(values)[~torch.eye(16, dtype=torch.bool)].abs()
        assert one.mean == pytest.approx(float(off.mean()), abs=1e-6)
        assert one.above == pytest.approx([float((off > 0.3).double().mean()), float((off > 0.5).double().mean())])
        assert 1 <= one.rank <= 16
        assert one.filters == tuple(range(16))
        assert one.constant == ()


def test_of_many_filters_some_are_drawn_by_the_seed_and_dead_ones_are_looked_for_in_all() -> None:
    network = nn.Sequential(nn.Conv2d(3, 100, 1), nn.ReLU()).eval()
    network[0].weight.data[97], network[0].bias.data[97] = 0, -1
    found = maps_of(network, {"0": 100}, batches())["0"]
    assert len(found.filters) == responses.MOST
    assert found.filters == sampled("0", 100, 0) != sampled("0", 100, 1)
    assert found.constant == (97,)


def test_canonical_correlations_of_the_layers_that_are_drawn() -> None:
    torch.manual_seed(0)
    network, images = zoo.build("resnet8", 10, 1, image_size=8).eval(), images_for(digits(), {}, 210)
    counts = {name: module.out_channels for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    maps = maps_of(network, counts, images.batches())
    found = canonical(network, maps, drawn(maps), images)
    assert list(found) == spread_over(list(counts), 4)
    expected = measure.cca(measure.activations(network, ["conv1"], images.batches(200), pool=2)["conv1"])
    torch.testing.assert_close(found["conv1"], expected)
    assert canonical(network, maps, drawn(maps), images_for(digits(), {}, 5)) == {}


def test_names_spread_over_a_network() -> None:
    names = [str(n) for n in range(30)]
    assert spread_over(names, 4) == ["0", "10", "19", "29"]
    assert spread_over(names[:3], 4) == ["0", "1", "2"]


def test_similarity_of_each_layer_with_each() -> None:
    one, other = torch.randn(40, 5, 1), torch.randn(40, 3, 1)
    found = similarity({"a": one, "b": other}, {"a": one})
    assert found[0][0] == pytest.approx(1)
    assert found[1][0] == pytest.approx(float(measure.cka(other, one)))
