"""Cyclic methods and terms of the loss in the laboratory: phases, warnings, held-out images, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference.running import config, digits, run, weights
from torch import nn
from torch.nn import functional as F

from filtersmith import zoo
from filtersmith.lab.compare import check_methods, normalised, title
from filtersmith.lab.data import with_held_out
from filtersmith.lab.recipe.config import CompareConfig
from filtersmith.lab.results.document import Comparison, Run
from filtersmith.lab.results.report import render
from filtersmith.lab.training.run import load_data
from filtersmith.lab.training.session import Session
from filtersmith.methods.prune import Prune

NETWORK = "vanilla-2-6"


def session(method: str, epochs: int, **options: Any) -> Session:
    return Session(config(method, model=NETWORK, epochs=epochs, **{"schedule": "constant"} | options), digits())


def subs(one: Session) -> tuple[tuple[int, int], ...]:
    return tuple((phase.start, phase.stop) for phase in one.composition.phases if phase.name == "sub")


@pytest.mark.parametrize(
    ("method", "epochs", "phases"),
    [
        ("repr", 100, ((20, 30), (50, 60), (80, 90))),
        ("repr", 20, ((4, 6), (10, 12), (16, 18))),
        ("repr", 15, ((3, 5), (8, 10))),
        ("repr", 3, ((1, 2),)),
        ("repr(s1=2,s2=1)", 20, ((2, 3), (5, 6), (8, 9))),
        ("dsd(s1=2,s2=3,cycles=1)", 9, ((2, 5),)),
        ("repr(cycles=0)", 2, ()),
        ("wau", 9, ()),
        ("prune", 9, ((4, 9),)),
        ("prune", 2, ((1, 2),)),
        ("prune(after=7,unit=weight)", 9, ((7, 9),)),
        ("prune(share=0.0)", 9, ()),
    ],
)
def test_phases_in_proportion_to_the_budget(method: str, epochs: int, phases: tuple[tuple[int, int], ...]) -> None:
    assert subs(session(method, epochs)) == phases


def test_the_last_restore_comes_while_the_rate_is_useful() -> None:
    """Cosine over 20 epochs has a tenth of its sum behind the 12th."""
    for method in ("repr", "dsd", "repr(s1=2)", "repr(cycles=1)"):
        found = session(method, 20, schedule="cosine")
        assert 5 < subs(found)[-1][1] <= 12
        assert not found.composition.warnings
    assert subs(session("repr", 20, schedule="multistep"))[-1][1] <= 9, "before the rate drops to a tenth"


@pytest.mark.parametrize(("method", "epochs"), [("repr", 2), ("repr(s1=5,s2=5,cycles=1)", 10), ("dsd(s1=3)", 3)])
def test_a_budget_without_an_epoch_after_the_last_restore_is_refused(method: str, epochs: int) -> None:
    with pytest.raises(ValueError, match=rf"^epochs must be above the \d+ of .* epochs, got {epochs}$"):
        session(method, epochs)


@pytest.mark.parametrize(("method", "epochs", "after"), [("prune", 1, 1), ("prune(after=9)", 9, 9)])
def test_a_budget_without_an_epoch_after_pruning_is_refused(method: str, epochs: int, after: int) -> None:
    with pytest.raises(ValueError, match=rf"^epochs must be above after={after}, .*, got {epochs}$"):
        session(method, epochs)
    with pytest.raises(ValueError, match=r"^after must be a whole number of at least 1, got 0$"):
        session("prune(after=0)", epochs)


def test_schedules_that_leave_no_rate_for_what_comes_back_are_warned_of() -> None:
    found = {
        schedule: session("repr(s1=4,s2=2,cycles=3)", 20, schedule=schedule, **options).composition.warnings
        for schedule, options in {"constant": {}, "cosine": {}, "cyclic": {"step_epochs": 4}, "multistep": {}}.items()
    }
    assert [bool(found[schedule]) for schedule in ("constant", "cosine", "cyclic", "multistep")] == [
        *(False, True, False, True)  # after the 18th of 20 epochs; the cycle rises again until the 19th
    ]
    assert found["cosine"][0].startswith("after the last restore, behind epoch 18, comes 0.3% of the training")
    assert not session("repr(prune=0.0)", 20, schedule="cosine").composition.warnings
    assert not session("repr(s1=2,s2=2,cycles=1)", 20, schedule="cosine").composition.warnings

    wanted = {
        "methods": ["baseline", "repr(s1=4,s2=2,cycles=3)"],
        "seeds": 1,
        "train": {"epochs": 20},
        "model": {"name": NETWORK},
    }
    compared = normalised(CompareConfig.model_validate(wanted))
    assert [text.split(":")[:2] for text in check_methods(compared, digits())] == [
        ["warning", " repr(s1=4,s2=2,cycles=3)"]
    ]


def test_a_run_with_surgery(tmp_path: Path) -> None:
    what = config("repr(s1=1,s2=1,cycles=1,prune=0.4)+ortho-loss(0.1)", model=NETWORK, epochs=3, schedule="constant")
    result = run(what, tmp_path / "run")
    assert result.status == "finished"
    assert result.sub_phases == ((1, 2),)
    assert result.parameters_training == result.parameters_deployed
    network = zoo.build(NETWORK, 10, 1, image_size=8)
    network.load_state_dict(weights(tmp_path / "run"), strict=True)
    assert all(p.flatten(1).any(1).all() for p in network.parameters() if p.ndim > 1), "complete"


@pytest.mark.parametrize("unit", ["filter", "weight"])
def test_a_pruned_network_is_deployed_with_its_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    finish, finished = Prune.finish, []

    def finishes(self: Prune) -> None:
        finished.append((self.phase, (tmp_path / "run" / "model.safetensors").exists()))
        finish(self)

    monkeypatch.setattr(Prune, "finish", finishes)
    what = config(f"prune(share=0.5,unit={unit})", model=NETWORK, epochs=2, batch_size=256)
    result = run(what, tmp_path / "run")
    assert result.sub_phases == ((1, 2),)
    network = zoo.build(NETWORK, 10, 1, image_size=8)
    network.load_state_dict(weights(tmp_path / "run"), strict=True)
    total, zeros = sum(p.numel() for p in network.parameters()), 0
    for name, module in network.named_modules():
        if unit == "weight" and isinstance(module, (nn.Conv2d, nn.Linear)):
            zeros += int((module.weight == 0).sum())
        elif name == "features.3":  # half of its filters, with batch norm and the columns of the linear layer
            zeros = 3 * (6 * 9 + (module.bias is not None) + 2 + 10 * 64)
            assert int((module.weight == 0).flatten(1).all(1).sum()) == 3
    assert zeros > 0
    assert (result.parameters_training, result.parameters_deployed) == (total, total - zeros)
    # Interrupted right behind the last epoch, before the network was written.
    (tmp_path / "run" / "model.safetensors").unlink()
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"finished"', '"running"'))
    again = run(what, tmp_path / "run", resume=True)
    assert again.parameters_deployed == result.parameters_deployed
    assert finished == [("sub", False)] * 2, "before the network is written"
    assert all(torch.equal(weights(tmp_path / "run")[name], value) for name, value in network.state_dict().items())


def test_an_average_of_what_is_pruned_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^ema and prune do not go together: the average would not have the zeros"):
        session("prune+ema", 4)


def test_the_term_is_in_the_gradient() -> None:
    plain, with_term = session("baseline", 3), session("ortho-loss(0.5)", 3)
    images, labels = next(iter(plain.batches.train.epoch(0)))
    for one in (plain, with_term):
        one._train_batch(images, labels, len(labels))
    moved = [dict(one.model.named_parameters())["features.3.weight"] for one in (plain, with_term)]
    assert not torch.equal(*moved)
    assert float(with_term.composition.penalty(images, None, labels)) > 0
    assert plain.composition.penalty(images, None, labels) == 0
    assert F.cosine_similarity(moved[0].flatten(), moved[1].flatten(), dim=0) > 0.9


def test_ranking_by_data_needs_images_that_nothing_is_trained_on() -> None:
    with pytest.raises(
        ValueError, match=r"^held_out must be batches .* for rank='oracle' .*data.holdout above 0.*, got None$"
    ):
        session("repr(rank=oracle)", 3)
    data = with_held_out(digits(), 100)
    assert data.held_out is not None
    assert (len(data.train), len(data.held_out)) == (len(digits().train) - 100, 100)
    rows = {tuple(image.flatten().tolist()) for image in digits().train.images}  # type: ignore[union-attr]
    parts = [{tuple(i.flatten().tolist()) for i in part.images} for part in (data.train, data.held_out)]  # type: ignore[union-attr]
    assert parts[0] | parts[1] == rows
    one = Session(config("repr(rank=taylor)", model=NETWORK, epochs=3, schedule="constant"), data)
    one.composition.end_epoch()
    assert subs(one) == ((1, 2),)
    assert not one.composition.deployable
    assert (
        sum(parameter.numel() for parameter in one.composition.deployed.parameters())
        == one.composition.parameters_kept
    )


@pytest.mark.parametrize("count", [-1, 10_000])
def test_more_cannot_be_held_out_than_there_is(count: int) -> None:
    with pytest.raises(ValueError, match="holdout"):
        load_data(CompareConfig.model_validate({"data": {"holdout": count}}))


def test_titles_say_that_training_images_are_held_out() -> None:
    compared = CompareConfig.model_validate({"methods": ["baseline"], "data": {"holdout": 200}})
    assert "1,237 training images" in title(compared, load_data(compared))


def test_pictures_shade_the_phases_of_the_sub_network() -> None:
    epochs = [
        {"epoch": e, "lr": 0.1, "train_loss": 1 / e, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5,
         "train_seconds": 1.0} for e in range(1, 7)
    ]  # fmt: skip
    runs = [
        Run.model_validate({"method": m, "seed": 0, "status": "finished", "sub_phases": phases, "epochs": epochs})
        for m, phases in (("baseline", ()), ("repr", ((2, 3), (4, 5))))
    ]
    common = {"title": "t", "data": "d", "data_title": "D", "model": "m", "epochs": 6, "seeds": [0]}
    pages = [
        render([Comparison.model_validate({**common, "methods": [r.method for r in some], "runs": some})])
        for some in (runs, runs[:1])
    ]
    assert ["Shaded: phases" in page for page in pages] == [True, False]
