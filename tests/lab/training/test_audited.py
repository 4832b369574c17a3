"""What is recorded of filters after each epoch, and that recording changes nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from reference.running import assert_same, config, digits, measured, run, weights

from filtersmith import measure, zoo
from filtersmith.lab.audit.images import images_for
from filtersmith.lab.training.audited import filters_of


def test_overlap_rank_dead_filters_and_correlation_are_those_of_the_single_measures() -> None:
    network = zoo.build("vanilla-1-4", 10, 1, image_size=8).eval()
    kernels = [module.weight for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    kernels[0].data[2] = 0
    images = images_for(digits(), {}, 90)
    found = filters_of(network, images.batches())
    assert found.ortho_sum == pytest.approx(measure.ortho_sum(network))
    full = [min(len(kernel), kernel[0].numel()) for kernel in kernels]
    assert found.rank == pytest.approx(sum(map(measure.effective_rank, kernels)) / sum(full))
    assert (found.dead, found.filters) == (1, sum(map(len, kernels)))
    means = []
    for values in measure.activations(network, None, images.batches()).values():
        correlation = measure.pearson(values)
        means.append(float(correlation[~torch.eye(len(correlation), dtype=torch.bool)].abs().mean()))
    assert found.correlation == pytest.approx(sum(means) / len(means), abs=1e-5)
    assert filters_of(network, None).correlation is None


@pytest.mark.parametrize("method", ["baseline", "repr(s1=1,s2=1,cycles=1)", "kflo+ema"])
def test_recording_changes_nothing_else_and_prune_and_restore_show(tmp_path: Path, method: str) -> None:
    plain = run(config(method, model="vanilla-2-4", epochs=4), tmp_path / "plain")
    found = run(config(method, model="vanilla-2-4", epochs=4, audit=True), tmp_path / "audited")
    assert_same(weights(tmp_path / "plain"), weights(tmp_path / "audited"))
    filters = [epoch.filters for epoch in found.epochs]
    assert [epoch | {"filters": None} for epoch in measured(found)] == [
        e | {"filters": None} for e in measured(plain)
    ]
    assert [one is not None and one.correlation is not None for one in filters] == [False] * 3 + [True]
    dead = [one.dead for one in filters if one is not None]
    inside = [any(start < n <= stop for start, stop in found.sub_phases) for n in range(1, 5)]
    assert [count > 0 for count in dead] == inside
    assert any(inside) == method.startswith("repr")
    lines = (tmp_path / "plain" / "metrics.jsonl").read_text().splitlines()
    assert all("filters" not in json.loads(line) for line in lines), (
        "files of runs that record nothing stay as they were"
    )
