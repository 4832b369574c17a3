"""CCA, SVCCA and CKA against numpy and scipy, on noise, and under the maps that they must not see."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from reference.similarity import adjusted, hsic_by_tuples
from torch import Generator, Tensor

from filtersmith.measure import similarity
from filtersmith.measure.similarity import cca, cka, svcca


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("p", "q"), [(3, 3), (2, 7), (7, 2)])
def test_two_layers_as_by_the_angles_of_their_subspaces(p: int, q: int) -> None:
    x = noise(60, p) @ noise(p, p, seed=1)
    y = noise(60, q, seed=2) + x @ noise(p, q, seed=3)
    assert cca(x, y).item() == pytest.approx(adjusted(x.numpy(), y.numpy()), abs=1e-6)
    assert cca(y, x).item() == pytest.approx(cca(x, y).item(), abs=1e-9)


def test_positions_are_samples_of_two_layers_and_the_fewer_count() -> None:
    x, y = noise(20, 3, 4, 4), noise(20, 5, 4, 4, seed=1)
    rows = [one.movedim(1, -1).reshape(-1, one.shape[1]) for one in (x, y)]
    assert cca(x, y).item() == pytest.approx(adjusted(*(one.numpy() for one in rows)), abs=1e-6)
    halves = torch.nn.functional.avg_pool2d(x, 2)
    assert cca(x, halves).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("how", [cca, svcca, cka])
def test_a_layer_is_like_itself_whatever_rotates_shifts_and_scales_it(how) -> None:  # type: ignore[no-untyped-def]
    x = noise(200, 6) * torch.tensor([9.0, 5.0, 3.0, 2.0, 2.0, 1.0])
    turned = 3 * x @ torch.linalg.qr(noise(6, 6, seed=1)).Q + 5
    assert how(x, turned).item() == pytest.approx(1, abs=1e-9)
    y = noise(200, 4, seed=2) + x[:, :4]
    assert how(turned, y).item() == pytest.approx(how(x, y).item(), abs=1e-9)


def test_cca_does_not_see_any_invertible_map() -> None:
    x, y = noise(200, 6), noise(200, 4, seed=2)
    y[:, 0] += x[:, 0]
    mixed = x @ (noise(6, 6, seed=1) * 1e4)
    assert cca(mixed, y).item() == pytest.approx(cca(x, y).item(), abs=1e-8)


@pytest.mark.parametrize(
    ("how", "samples", "p", "q", "error"),
    [
        (cca, 100, 10, 40, math.sqrt(8) / 60),
        (cca, 1000, 8, 8, math.sqrt(2) / 992),
        (svcca, 200, 20, 20, math.sqrt(2) / 180),
        (cka, 50, 300, 500, math.sqrt(2) / 50),
        (cka, 50, 2, 3, math.sqrt(2) / 50),
    ],
)
def test_independent_noise_is_zero_within_the_stated_error(how, samples: int, p: int, q: int, error: float) -> None:  # type: ignore[no-untyped-def]
    found = torch.stack([how(noise(samples, p, seed=s), noise(samples, q, seed=1000 + s)) for s in range(60)])
    assert abs(found.mean().item()) < 4 * error / math.sqrt(60)
    assert found.std().item() < 1.5 * error


def test_alignment_is_the_mean_over_all_quadruples() -> None:
    x, y = noise(9, 5), noise(9, 3, seed=1)
    y[:, 0] += x[:, 0]
    a, b = x.numpy(), y.numpy()
    expected = hsic_by_tuples(a, b) / np.sqrt(hsic_by_tuples(a, a) * hsic_by_tuples(b, b))
    assert cka(x, y).item() == pytest.approx(expected, abs=1e-6)
    assert cka(x.view(9, 5, 1), y.view(9, 1, 3)).item() == pytest.approx(expected, abs=1e-6)


def test_from_features_and_from_kernels_block_by_block_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = noise(30, 5) + 100, noise(30, 7, seed=1) + 100
    by_features = cka(x, y).item(), cka(x, x).item()
    monkeypatch.setattr(similarity, "_of_features", similarity._of_kernels)
    assert (cka(x, y).item(), cka(x, x).item()) == pytest.approx(by_features, abs=1e-9)
    monkeypatch.setattr(similarity, "BLOCK", 7)
    assert (cka(x, y).item(), cka(x, x).item()) == pytest.approx(by_features, abs=1e-9)


@pytest.mark.parametrize("how", [cca, svcca])
def test_fewer_samples_than_channels_are_refused_or_said(how) -> None:  # type: ignore[no-untyped-def]
    x, y = noise(40, 64), noise(40, 64, seed=1)
    with pytest.raises(ValueError, match="x must have more samples, got 40 samples for 64 channels"):
        how(x, y)
    with pytest.warns(UserWarning, match="40 samples for 64 channels: with shrinkage the value is no estimate"):
        assert 0 < how(x, y, shrinkage=0.5).item() < 1


def test_few_samples_for_the_positions_of_filters_likewise() -> None:
    with pytest.raises(ValueError, match="got 30 samples for maps of 16 positions"):
        cca(noise(30, 4, 4, 4))
    with pytest.warns(UserWarning, match="no estimate"):
        cca(noise(30, 4, 4, 4), shrinkage=0.1)


def test_what_does_not_vary_is_like_nothing() -> None:
    x, still = noise(40, 3), torch.full((40, 3), 1e3, dtype=torch.float64)
    assert [how(x, still).item() for how in (cca, svcca, cka)] == [0, 0, 0]


def test_what_is_no_activations_is_refused_in_one_line() -> None:
    x = noise(40, 3)
    broken = x.clone()
    broken[3, 1] = torch.nan
    for call, said in (
        (lambda: cca(x, broken), "y must be finite, and channel 1 is not"),
        (lambda: cka(broken, x), "x must be finite, and channel 1 is not"),
        (lambda: cka(x, x[:30]), "y must be on the 40 samples of x, got '30 samples'"),
        (lambda: cka(x[:3], x[:3]), "x must be of 4 samples or more, got '3 samples'"),
        (lambda: cca(x, x[:30]), r"y must be on the samples and positions of x, \(40, 3\)"),
        (lambda: cca(x[:, 0]), "x must be activations"),
        (lambda: svcca(x, [1]), "y must be activations"),
        (lambda: cca(x, shrinkage=1), r"shrinkage must be a number in \[0, 1\), got 1"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            call()  # type: ignore[no-untyped-call]
        assert "\n" not in str(error.value)


def test_the_examples() -> None:
    assert doctest.testmod(similarity).attempted > 5
    assert doctest.testmod(similarity).failed == 0


def test_constant_channels_of_doubles_are_not_alike_by_rounding() -> None:
    x, y = noise(500, 3), noise(500, 3, seed=1)
    x[:, 2] = y[:, 2] = 0.1
    assert cca(x, y).item() == pytest.approx(cca(x[:, :2], y[:, :2]).item(), abs=0.01)
    assert [how(x[:, 2:], y[:, 2:]).item() for how in (cca, svcca)] == [0, 0]


def test_maps_of_other_sizes_are_averaged_in_their_own_precision() -> None:
    x = noise(300, 3, 4, 4) * 1e-3 + 1e6
    assert cca(x, torch.nn.functional.avg_pool2d(x, 2)).item() == pytest.approx(1, abs=1e-4)
