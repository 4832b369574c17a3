"""CCA, SVCCA and CKA against numpy and scipy, on noise, and under the maps that they must not see."""

from __future__ import annotations

import doctest
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.similarity import adjusted, hsic_by_tuples, shifted
from torch import Generator, Tensor

from filtersmith.measure import canonical, correlation, similarity
from filtersmith.measure.similarity import cca, cka, svcca


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("p", "q"), [(3, 3), (2, 7), (7, 2)])
def test_two_layers_as_by_the_angles_of_their_subspaces(p: int, q: int) -> None:
    x = noise(60, p) @ noise(p, p, seed=1)
    y = noise(60, q, seed=2) + x @ noise(p, q, seed=3)
    assert cca(x, y).item() == pytest.approx(adjusted(x.numpy(), y.numpy()), abs=1e-6)
    assert cca(y, x).item() == pytest.approx(cca(x, y).item(), abs=1e-9)


@pytest.mark.parametrize("samples", [10, 11, 40])
def test_chance_is_measured_where_there_are_positions(samples: int) -> None:
    x, y = noise(samples, 3, 4, 4), noise(samples, 5, 4, 4, seed=1)
    y[:, :3] += x
    expected = shifted(x.flatten(2).numpy(), y.flatten(2).numpy())
    assert cca(x, y).item() == pytest.approx(expected, abs=1e-9)
    assert cca(y, x).item() == pytest.approx(expected, abs=1e-9)
    assert cca(x.float().contiguous(memory_format=torch.channels_last), y).item() == pytest.approx(expected, abs=1e-5)
    assert cca(x, x).item() == pytest.approx(1, abs=1e-12)


def test_one_position_is_none_and_the_fewer_count() -> None:
    x, y = noise(20, 3), noise(20, 5, seed=1)
    assert cca(x.view(20, 3, 1, 1), y.view(20, 5, 1, 1)).item() == pytest.approx(cca(x, y).item(), abs=1e-12)
    x = noise(20, 3, 4, 4)
    for side in (2, 1):
        pooled = torch.nn.functional.adaptive_avg_pool2d(x, side)
        for one, other in ((x, pooled), (pooled, x)):
            assert cca(one, other).item() == pytest.approx(1, abs=1e-9)
        y = noise(20, 4, side, side, seed=1)
        assert cca(x, y).item() == pytest.approx(cca(pooled, y).item(), abs=1e-9)


def smooth(samples: int, channels: int, *, seed: int, noisy: float = 0.05) -> Tensor:
    """Maps whose positions are nearly the same."""
    found = noise(samples, channels, 1, seed=seed).expand(samples, channels, 16)
    return found + noisy * noise(samples, channels, 16, seed=seed + 10**6)


def null(p: int, q: int, samples: int) -> float:
    """The documented standard error of independent layers, from the variance of Pillai's trace."""
    p, q, m = min(p, q), max(p, q), samples - 1
    return math.sqrt(2 * q * (m - p) / (p * (m - q) * (m - 1) * (m + 2)))


@pytest.mark.parametrize(("how", "samples", "p", "q"), [(cca, 20, 16, 16), (cca, 40, 3, 8), (svcca, 20, 12, 12)])
def test_smooth_maps_are_no_more_samples(how, samples: int, p: int, q: int) -> None:  # type: ignore[no-untyped-def]
    draws = [how(smooth(samples, p, seed=s), smooth(samples, q, seed=1000 + s)).item() for s in range(120)]
    assert abs(np.mean(draws)) < 3.5 * np.std(draws) / math.sqrt(120)
    assert np.std(draws) < 1.2 * 1.2 * null(p, q, samples)


def test_maps_without_smoothness_read_as_by_the_formula() -> None:
    found = []
    for seed in range(120):
        x, y = noise(30, 6, 16, seed=seed), noise(30, 8, 16, seed=1000 + seed)
        rows = [one.movedim(1, -1).reshape(-1, one.shape[1]).numpy() for one in (x, y)]
        found.append((cca(x, y).item(), adjusted(*rows)))
    ours, formula = np.array(found).T
    assert abs(np.mean(ours - formula)) < 3.5 * np.std(ours - formula) / math.sqrt(120)
    assert np.std(ours) < 1.2 * np.std(formula)


def test_what_all_samples_share_is_nothing_of_them() -> None:
    shared = noise(1, 3, 16).expand(30, 3, 16)
    assert cca(shared, shared).item() == 0
    draws = [
        cca(shared + 0.1 * noise(30, 3, 16, seed=s), shared + 0.1 * noise(30, 3, 16, seed=500 + s))
        for s in range(100)
    ]
    assert abs(np.mean(draws)) < 3.5 * np.std(draws) / 10


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
    turn, other = (torch.linalg.qr(noise(6, 6, seed=s)).Q for s in (3, 4))
    for condition, error in ((1e5, 1e-6), (1e6, 1e-4)):
        mixed = x @ (turn * torch.logspace(0, -math.log10(condition), 6, dtype=torch.float64)) @ other
        assert cca(mixed, y).item() == pytest.approx(cca(x, y).item(), abs=error)
        assert cca(mixed, mixed).item() == pytest.approx(1, abs=error)


def test_a_small_signal_in_a_direction_of_its_own_is_seen() -> None:
    shared, signal = noise(500, 1), noise(500, 1, seed=1)
    assert cca(torch.cat([shared, shared + 3e-6 * signal], 1), signal).item() == pytest.approx(1, abs=1e-3)


def test_copies_of_channels_are_no_more_channels() -> None:
    x, y = noise(300, 20), noise(300, 20, seed=1)
    copies = torch.cat([x, x @ noise(20, 20, seed=2)], 1)
    assert cca(copies, y).item() == pytest.approx(cca(x, y).item(), abs=1e-9)
    assert cca(copies.float(), y).item() == pytest.approx(cca(x, y).item(), abs=1e-5)


def alignment(_p: int, _q: int, samples: int) -> float:
    return math.sqrt(2 / (samples * (samples - 3)))


@pytest.mark.parametrize(
    ("how", "samples", "p", "q", "error"),
    [
        (cca, 100, 10, 40, null),
        (cca, 300, 8, 8, null),
        (cca, 20, 16, 16, null),
        (cca, 8, 1, 3, null),
        (svcca, 200, 15, 15, null),
        (cka, 50, 300, 500, alignment),
        (cka, 50, 2, 3, alignment),
        (cka, 8, 20, 30, alignment),
        (cka, 5, 20, 30, alignment),
        (cka, 4, 2, 3, alignment),
    ],
)
def test_independent_noise_is_zero_with_the_stated_error(how, samples: int, p: int, q: int, error) -> None:  # type: ignore[no-untyped-def]
    draws = 300
    found = torch.stack([how(noise(samples, p, seed=s), noise(samples, q, seed=1000 + s)) for s in range(draws)])
    stated = error(p, q, samples)
    assert abs(found.mean().item()) < 3.5 * stated / math.sqrt(draws)
    assert found.std().item() == pytest.approx(stated, rel=0.15)  # of 300 draws the error is 4 to 5%


def test_alignment_is_the_mean_over_all_quadruples() -> None:
    x, y = noise(9, 5), noise(9, 3, seed=1)
    y[:, 0] += x[:, 0]
    a, b = x.numpy(), y.numpy()
    expected = hsic_by_tuples(a, b) / np.sqrt(hsic_by_tuples(a, a) * hsic_by_tuples(b, b))
    assert cka(x, y).item() == pytest.approx(expected, abs=1e-6)
    assert cka(x.view(9, 5, 1), y.view(9, 1, 3)).item() == pytest.approx(expected, abs=1e-6)


def test_from_features_and_from_kernels_piece_by_piece_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = noise(30, 5, 2) + 100, noise(30, 7, 2, seed=1) + 100
    by_features = cka(x, y).item(), cka(x, x).item()
    ways = {"features": similarity._of_features, "kernels": similarity._of_kernels}
    for way, piece, held in itertools.product(ways, (2**20, 200, 60, 1), (2**20, 210)):
        monkeypatch.setattr(similarity, "_of_features", ways[way])
        for module in (similarity, correlation):
            monkeypatch.setattr(module, "PIECE", piece)
        monkeypatch.setattr(similarity, "HELD", held)
        assert (cka(x, y).item(), cka(x, x).item()) == pytest.approx(by_features, abs=1e-9)


def test_of_many_samples_or_many_features_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for x, y in ((noise(60, 4), noise(60, 5, seed=1)), (noise(60, 4), noise(60, 90, seed=1))):
        y[:, 0] += x[:, 0]
        found = cka(x, y).item()
        with monkeypatch.context() as patch:
            patch.setattr(similarity, "_of_kernels", similarity._of_features)
            assert cka(x, y).item() == pytest.approx(found, abs=1e-9)


def test_canonical_correlations_piece_by_piece_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = noise(40, 3, 4, 4) + 100, noise(40, 5, 4, 4, seed=1) + 100
    whole = [cca(x, y).item(), svcca(x, y).item(), cca(x, y[:, :, :2, :2]).item()]
    for piece, pairs in itertools.product((500, 1), (2**20, 31, 1)):
        monkeypatch.setattr(correlation, "PIECE", piece)
        monkeypatch.setattr(canonical, "PAIRS", pairs)
        found = [cca(x, y).item(), svcca(x, y).item(), cca(x, y[:, :, :2, :2]).item()]
        assert found == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("how", [cca, svcca])
def test_fewer_samples_than_channels_are_refused_or_said(how) -> None:  # type: ignore[no-untyped-def]
    for shape in ((40, 64), (40, 64, 8, 8), (66, 64, 2, 2)):
        x, y = noise(*shape), noise(*shape, seed=1)
        few = f"{shape[0]} samples for 64 channels"
        with pytest.raises(ValueError, match=f"x must have more samples, got {few}"):
            how(x, y)
        with pytest.warns(UserWarning, match=f"{few}.*: with shrinkage=0.5 the value is no estimate") as said:
            assert 0 < how(x, y, shrinkage=0.5).item() < 1
        assert len(said) == 1
        assert said[0].filename == __file__


def test_few_samples_for_the_positions_of_filters_likewise() -> None:
    with pytest.raises(ValueError, match="got 30 samples for maps of 16 positions"):
        cca(noise(30, 4, 4, 4))
    with pytest.warns(UserWarning, match="30 samples for maps .* no estimate"):
        cca(noise(30, 4, 4, 4), shrinkage=0.1)


def test_shrinkage_always_warns_however_many_the_samples() -> None:
    x = noise(200, 3)
    for call in (
        lambda: cca(x, shrinkage=0.1),
        lambda: cca(x, x, shrinkage=0.1),
        lambda: svcca(x, x, shrinkage=0.1),
        lambda: cca(x.view(50, 3, 4), x.view(50, 3, 4), shrinkage=0.1),
    ):
        with pytest.warns(UserWarning, match=r"^with shrinkage=0.1 the value is no estimate: it depends") as said:
            call()
        assert len(said) == 1


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
        (
            lambda: cca(noise(30, 4, 64), noise(30, 4, 16)),
            r"\(30, 4, 64\), got .*\(30, 4, 16\); activations\(..., pool=\)",
        ),
        (lambda: cca(x[:0], x[:0]), "x must have more samples, got 0 samples for 3 channels"),
        (lambda: svcca(x[:1], x[:1]), "x must have more samples, got 1 samples for 3 channels"),
        (lambda: cca(x[:0]), "x must have more samples, got 0 samples for maps of 1 position,"),
        (lambda: cka(x[:0], x[:0]), "x must be of 4 samples or more"),
        (lambda: cca(x[:1], x[:1], shrinkage=0.5), "x must be 2 samples or more, got '1 of them'"),
        (lambda: cca(x[:3], shrinkage=0.5), "x must be 4 samples or more, got '3 of them'"),
        (lambda: cca(x[:, :0], x), "x must be activations"),
        (lambda: cka(x, x.cfloat()), "y must be activations"),
        (lambda: cka(x, x.to(torch.float8_e5m2)), "y must be activations"),
        (lambda: cca([x], x), "x must be activations"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            call()  # type: ignore[no-untyped-call]
        assert "\n" not in str(error.value)


def test_whole_numbers_and_truth_values_are_numbers() -> None:
    x, y = (noise(40, 3, seed=s) * 9 for s in (0, 1))
    for kind in (torch.int64, torch.uint8, torch.bool, torch.bfloat16):
        one, other = x.abs().to(kind) > 4 if kind == torch.bool else x.abs().to(kind), y
        for how in (cca, svcca, cka):
            assert how(one, other).item() == pytest.approx(how(one.double(), other).item(), abs=1e-12)


MEMORY = """
import re, torch
from filtersmith.measure import canonical, cca, cka, correlation, pearson, similarity, svcca

correlation.PIECE = similarity.PIECE = similarity.HELD = canonical.PAIRS = 2**16

def peak():  # of this program: what resource says is its parent's, where that had more
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

layers = [torch.rand(160, 32, 32, 32), torch.empty(160, 32, 32, 32, memory_format=torch.channels_last).uniform_()]
for call in (cca, svcca, cka, lambda x, y: pearson(x)):
    call(torch.randn(40, 4, 2, 2), torch.randn(40, 4, 2, 2))
    before = peak()
    for x in layers:
        call(x, x)
    print(peak() - before)
"""


@pytest.mark.long
@pytest.mark.skipif(
    not Path("/proc/self/status").is_file() or "VmHWM" not in Path("/proc/self/status").read_text(),
    reason="the system does not tell of peaks",
)
def test_no_copy_of_a_layer_is_made() -> None:
    """Of 20 MB, twice as large in float64, pieces of half a MB are copied."""
    command = [sys.executable, "-c", MEMORY]
    peaks = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split()
    assert len(peaks) == 4
    assert sum(map(int, peaks)) < 17_000


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
