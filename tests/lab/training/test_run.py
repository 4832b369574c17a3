"""One run: the same every time, equal to a loop written by hand, and deployed as it was tested."""

from __future__ import annotations

import copy
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.running import assert_same, config, differ, digits, manifest, measured, run, weights
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

import filtersmith as fs
from filtersmith import zoo
from filtersmith.lab.data import Batching, channel_stats, make_batches
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.training import run as train
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.training.session import Session


def by_hand(what: RunConfig, smoothing: float = 0.0, ema: float | None = None) -> tuple[dict[str, Any], list[float]]:
    """Plain training (or WAU) as anyone would write it; weights and the loss of each epoch."""
    options, data = what.train, digits()
    torch.manual_seed(what.seed)
    model = zoo.build(what.model.name, 10, 1, image_size=8).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), options.lr, momentum=0.9, weight_decay=1e-4)
    if what.method.startswith("wau"):
        fs.WAU(model, 0.5, seed=what.seed).attach(optimizer)
    mean, std = channel_stats(data.train)
    batching = Batching(options.batch_size, torch.device("cpu"), mean, std, shuffle=True, seed=what.seed)
    batches = make_batches(data.train, batching)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * len(batches))
    slow: dict[str, Any] = {}
    losses, steps = [], 0
    for epoch in range(options.epochs):
        total = 0.0
        model.train()
        for images, labels in batches.epoch(epoch):
            loss = F.cross_entropy(model(images), labels, label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(labels)
            for name, value in model.state_dict().items():
                floating = value.is_floating_point() and "running" not in name
                average = ema is not None and name in slow and floating
                decay = min(ema or 0.0, (1 + steps) / (10 + steps))
                slow[name] = decay * slow[name] + (1 - decay) * value if average else value.clone()
            steps += 1
        losses.append(total / len(data.train))
    return slow, losses


@pytest.mark.parametrize(
    ("method", "options"),
    [("baseline", {}), ("wau", {}), ("baseline", {"label_smoothing": 0.1}), ("wau+ema(0.8)", {}), ("ema(0.8)", {})],
)
def test_equals_a_loop_by_hand(tmp_path: Path, method: str, options: dict[str, float]) -> None:
    what = config(method, seed=3, **options)
    result = run(what, tmp_path)
    ema = 0.8 if "ema(0.8)" in method else None
    expected, losses = by_hand(what, options.get("label_smoothing", 0.0), ema)
    found = weights(tmp_path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert [epoch.train_loss for epoch in result.epochs] == pytest.approx(losses, rel=1e-4)
    assert [epoch.lr for epoch in result.epochs] == pytest.approx([0.05, 0.025])


def test_twice_the_same_and_other_seeds_others(tmp_path: Path) -> None:
    results = [run(config("asa", seed, epochs=3), tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert measured(results[0]) == measured(results[1])
    assert differ(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_methods_that_are_off_are_plain_training(tmp_path: Path) -> None:
    names = ["baseline", "wau(rate=1.0)", "conv-lr(1.0)", "flow(rates=[1])", "ema(0)", "wau"]
    for number, name in enumerate(names):
        run(config(name), tmp_path / str(number))
    plain = weights(tmp_path / "0")
    for number in range(1, 5):
        assert_same(plain, weights(tmp_path / str(number)))
    assert differ(plain, weights(tmp_path / "5"))


def test_the_average_is_of_the_baseline_and_only_it_is_deployed(tmp_path: Path) -> None:
    results = [run(config(name), tmp_path / name) for name in ("baseline", "ema(0.9)")]
    trained, averaged = (measured(result) for result in results)
    for plain, slow in zip(trained, averaged, strict=True):
        for what in ("lr", "train_loss", "train_accuracy"):
            assert plain[what] == slow[what], "training does not change"
        assert plain["test_loss"] != slow["test_loss"]


def test_a_run_does_not_depend_on_the_one_before_it(tmp_path: Path) -> None:
    run(config(), tmp_path / "a")
    torch.rand(100)
    run(config("wau+ema(0.9)", 5, precision="bf16"), tmp_path / "b")
    assert not torch.are_deterministic_algorithms_enabled()
    run(config(), tmp_path / "c")
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "c"))


KFLO = 40 * 256 + 10 * 40 + 40 + 16 * 9 + 4 * 16 + 16 + 8
PARAMETERS = {
    "wau": 2618,
    "kflo": KFLO,
    "kflo(3,1.5)": 15 * 256 + 15 * 15 + 10 * 15 + 15 + 6 * 9 + 6 * 6 + 4 * 6 + 6 + 8,
    "do-conv": 2618 + 9 * 9,
    "acnet": 2618 + 2 * (4 * 3 + 8),
    "dbb": 2618 + (4 + 8) + (1 + 2 + 4 * 9 + 8) + (4 + 8 + 8),
    "ema(0.97)": 2618,
    "kflo+wau": KFLO,
    "kflo+ema(0.97)": KFLO,
    "wau+ema(0.97)": 2618,
    "acnet+ema(0.97)": 2618 + 2 * (4 * 3 + 8),
}
"""What is trained of ``vanilla-1-4`` on digits: 4 kernels of 3x3 with bias, batch norm, 256 to 10."""


@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((method, {}) for method in PARAMETERS),
        ("wau", {"precision": "bf16"}),
        ("wau+ema(0.97)", {"precision": "bf16"}),
        ("kflo", {"precision": "bf16"}),
    ],
)
def test_what_is_deployed_is_what_was_tested(tmp_path: Path, method: str, options: dict[str, Any]) -> None:
    what = config(method, seed=1, **options)
    result = run(what, tmp_path)
    facts = manifest(tmp_path)
    assert facts["status"] == "finished"
    assert (facts["parameters_training"], facts["parameters_deployed"]) == (PARAMETERS[method], 2618)
    model = zoo.build("vanilla-1-4", 10, 1, image_size=8)
    model.load_state_dict(weights(tmp_path), strict=True)
    data = digits()
    (mean,), (std,) = channel_stats(data.train)
    images = (data.test.images.float() / 255 - mean) / std
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled="precision" in options):
        logits = model(images).float()
    accuracy = (logits.argmax(1) == data.test.labels).float().mean().item()
    # bf16 rounds differently in other batches and memory layouts
    assert result.epochs[-1].test_accuracy == pytest.approx(accuracy, abs=0.006 if "precision" in options else 1e-6)
    loss = F.cross_entropy(logits, data.test.labels).item()
    assert result.epochs[-1].test_loss == pytest.approx(loss, rel=0.01 if "precision" in options else 1e-4)
    assert accuracy > 0.6


def test_files_of_a_finished_run(tmp_path: Path) -> None:
    result = run(config("asa(rate=0.3)", 4, epochs=3, tensorboard=True), tmp_path)
    facts = manifest(tmp_path)
    assert facts["status"] == "finished"
    assert facts["error"] is None
    assert (facts["method"], facts["seed"], facts["phase_starts"]) == ("asa(rate=0.3)", 4, [1, 2])
    assert facts["parameters_training"] == facts["parameters_deployed"] == 2618
    assert facts["environment"]["torch"] == torch.__version__.partition("+")[0]
    assert facts["processes"] == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(result.epochs) == 3
    with safe_open(str(tmp_path / "model.safetensors"), "pt") as file:
        described = {"format": "pt", "model": "vanilla-1-4", "method": "asa(rate=0.3)", "data": "digits"}
        assert file.metadata() == described
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("config.yaml", "model.safetensors")}
    assert len(modes) == 1  # as readable as everything else
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        ".lock",
        "checkpoints",
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "model.safetensors",
        "tensorboard",
    }


def test_tensorboard_has_every_epoch(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run(config(tensorboard=True), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert found["test_accuracy"] == pytest.approx([epoch.test_accuracy for epoch in result.epochs])
    assert set(found) == {"lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "train_seconds"}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "adagrad"])
def test_optimizers_learn(tmp_path: Path, optimizer: str) -> None:
    result = run(config("wau", epochs=1, lr=0.01, optimizer=optimizer, momentum=0.0), tmp_path)
    assert result.epochs[-1].test_accuracy > 0.5


def test_bf16_is_not_fp32(tmp_path: Path) -> None:
    result = run(config(precision="bf16"), tmp_path / "a")
    run(config(), tmp_path / "b")
    assert differ(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights(tmp_path / "a").values())
    assert result.epochs[-1].test_accuracy > 0.8


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler")
def test_compiled_and_resumed(tmp_path: Path) -> None:
    what = config("wau", compile=True, batch_size=479)  # three batches of one size: one graph
    result = run(what, tmp_path / "a")
    plain = run(config("wau", batch_size=479), tmp_path / "b")
    assert result.epochs[-1].test_loss == pytest.approx(plain.epochs[-1].test_loss, rel=1e-3)
    zoo.build("vanilla-1-4", 10, 1, image_size=8).load_state_dict(weights(tmp_path / "a"))
    first = sorted((tmp_path / "a" / "checkpoints").iterdir())[0]
    (tmp_path / "c" / "checkpoints").mkdir(parents=True)
    shutil.copytree(first, tmp_path / "c" / "checkpoints" / first.name)
    shutil.copy(tmp_path / "a" / "config.yaml", tmp_path / "c")
    run(what, tmp_path / "c", resume=True)
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"^loss is nan in epoch 1, step [23] .train.lr=1e\+30.: a smaller train.lr"):
        run(config(lr=1e30), tmp_path)
    facts = manifest(tmp_path)
    assert facts["status"] == "failed"
    assert facts["error"].startswith("loss is nan")
    assert not (tmp_path / "model.safetensors").exists()


def test_a_failure_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(config(epochs=3), tmp_path / "whole")
    broken = train.Session._train_batch

    def breaks(self: Session, *arguments: Any) -> Any:
        loss, hits = broken(self, *arguments)
        return (loss * float("nan") if self.position.epoch == 2 else loss), hits

    with monkeypatch.context() as patch:
        patch.setattr(train.Session, "_train_batch", breaks)
        with pytest.raises(RunFailed, match="epoch 3, step 1 "):
            run(config(epochs=3), tmp_path / "run")
    assert manifest(tmp_path / "run")["status"] == "failed"
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    # What failed can be tried again, from the last checkpoint.
    again = run(config(epochs=3), tmp_path / "run", resume=True)
    assert measured(again) == measured(plain)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "nonet"}, "unknown network 'nonet'"),
        ({"method": "wau(rate=2)"}, "rate must be a number in .0, 1., got 2"),
        ({"precision": "fp16", "device": "cpu"}, "train.precision must be fp32 or bf16 on a CPU, got 'fp16'"),
        ({"method": "kflo(depth=1)"}, "depth must be a whole number of at least 2, got 1"),
        ({"method": "do-conv(4)"}, "layer 'features.0' .* d_mul must be at least its window of 9 positions, got 4"),
        ({"method": "kflo(1)+wau"}, "depth must be a whole number of at least 2, got 1"),
        ({"method": "dbb+wau"}, "layer 'features.0' cannot take part: it is expanded already, "),
        ({"method": "ema(0.99)+ema(0.9)"}, "method must be without ema twice"),
    ],
)
def test_what_does_not_fit_leaves_nothing_behind(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        run(config(**options), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train.device must be auto or cpu on this machine, got 'cuda'"):
        run(config(device="cuda"), tmp_path)


def test_a_network_without_convolutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "build", lambda *a, **k: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    for number, method in enumerate(("wau", "asa", "conv-lr")):
        with pytest.raises(ValueError, match="convolution"):
            run(config(method), tmp_path / str(number))
    assert run(config(), tmp_path / "baseline").epochs[-1].test_accuracy > 0.5


def test_session_in_memory_needs_no_folder() -> None:
    session = Session(config("wau"), digits())
    before = copy.deepcopy(session.model.state_dict())
    from filtersmith.lab.training.progress import Silent
    from filtersmith.lab.training.stopping import StopRequest

    assert session.train_epoch(StopRequest(), Silent())
    epoch = session.finish_epoch()
    assert epoch.epoch == session.position.epoch == 1
    assert differ(before, session.model.state_dict())


def test_a_network_that_cannot_take_the_images_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(ValueError, match=r"'torchvision:vgg11' cannot take images of 8x8.*data\.image_size"):
        run(config(model="torchvision:vgg11"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
