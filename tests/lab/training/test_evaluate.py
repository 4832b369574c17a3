"""Testing: against the network that is deployed, and without a trace."""

from __future__ import annotations

import pytest
import torch
from reference.running import assert_same, config, digits
from torch.nn import functional as F

from filtersmith.lab.training.evaluate import evaluate
from filtersmith.lab.training.progress import Silent
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.stopping import StopRequest


@pytest.mark.parametrize("method", ["wau", "kflo+ema(0.5)"])
def test_what_is_tested_is_what_would_be_deployed_and_nothing_changes(method: str) -> None:
    ours = Session(config(method, batch_size=300), digits())
    ours.train_epoch(StopRequest(), Silent())
    before, generator = {n: v.clone() for n, v in ours.model.state_dict().items()}, torch.get_rng_state()
    found = evaluate(ours.task, ours.composition, ours.batches.test, ours.accelerator)
    assert evaluate(ours.task, ours.composition, ours.batches.test, ours.accelerator) == found
    assert_same(ours.model.state_dict(), before)
    assert ours.model.training
    assert torch.equal(torch.get_rng_state(), generator)

    deployed, data = ours.composition.deployed.eval(), digits().test
    images = (data.images / 255 - ours.facts["mean"][0]) / ours.facts["std"][0]  # type: ignore[union-attr]
    with torch.no_grad():
        logits = deployed(images)
    assert found.loss == pytest.approx(F.cross_entropy(logits, data.labels).item(), rel=1e-4)
    assert found.score == pytest.approx((logits.argmax(1) == data.labels).double().mean().item())
