"""The overlap of all filters of a network, and its sum."""

from __future__ import annotations

import doctest

import pytest
import torch
from reference.overlap import overlap_list
from torch import nn

import filtersmith as fs
from filtersmith import zoo
from filtersmith.measure import orthogonal
from filtersmith.measure.orthogonal import ortho_sum, orthogonality


def test_by_layer_it_is_minus_the_criterion_and_the_sum_adds_them_up() -> None:
    model = zoo.build("resnet8")
    found = orthogonality(model)
    for name, scores in fs.rank(model).items():
        torch.testing.assert_close(found[name], -scores)
        assert found[name].tolist() == pytest.approx(overlap_list(model.get_submodule(name).weight, 1), abs=1e-6)
    assert ortho_sum(model) == pytest.approx(sum(float(of.sum()) for of in found.values()), rel=1e-6)
    first = next(iter(found))
    assert ortho_sum(model, [first]) == pytest.approx(float(found[first].sum()))
    torch.testing.assert_close(orthogonality(model.get_submodule(first).weight), found[first])


def test_an_orthogonal_network_has_zero_whatever_its_norms_and_biases() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 3))
    for module in (model[0], model[2]):
        nn.init.orthogonal_(module.weight)  # type: ignore[arg-type]
    before = ortho_sum(model)
    assert before == pytest.approx(0, abs=1e-5)
    for parameter in (model[1].weight, model[1].bias, model[0].bias):
        nn.init.normal_(parameter, 5)  # type: ignore[arg-type]
    assert ortho_sum(model) == before


def test_filters_with_nan_are_named_and_do_not_spread() -> None:
    layer = nn.Conv2d(3, 5, 3)
    rest = orthogonality(layer.weight[:4])
    layer.weight.data[4, 0, 0, 0] = torch.nan
    found = orthogonality(layer)[""]
    assert found.isnan().tolist() == [False] * 4 + [True]
    torch.testing.assert_close(found[:4], rest * 4 / 5)
    assert ortho_sum(layer) == pytest.approx(float(found[:4].sum()))


def test_groups_and_depthwise() -> None:
    weight = torch.randn(6, 2, 3, 3)
    both = torch.cat([orthogonality(weight[:3]), orthogonality(weight[3:])])
    torch.testing.assert_close(orthogonality(weight, groups=2), both)
    assert orthogonality(nn.Conv2d(4, 4, 3, groups=4))[""].tolist() == [0] * 4


def test_the_examples() -> None:
    assert doctest.testmod(orthogonal).failed == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: orthogonality(torch.zeros(3)), "model must be filters"),
        (lambda: orthogonality(torch.zeros(4, 2), groups="2"), "groups must be a whole number"),
        (lambda: orthogonality(torch.zeros(4, 2), ["0"]), "layers must be left out with filters alone"),
        (lambda: orthogonality(nn.Conv2d(2, 4, 1), groups=2), "groups must be left out with a network"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said) as error:
        call()
    assert "\n" not in str(error.value)
