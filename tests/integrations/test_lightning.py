"""`FilterMethods` in Lightning's own Trainer, against the plain loop with the same seed and order of data."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import processes
from reference.loops import batches_of, of_batches, same, sgd, trained
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

import filtersmith as fs
from filtersmith.testing import small_network

pl = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging  # noqa: E402

from filtersmith.integrations.lightning import FilterMethods  # noqa: E402

EPOCHS, BATCHES = 4, 5
pytestmark = pytest.mark.filterwarnings("ignore")


def cosine(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)


class Classifier(pl.LightningModule):
    """As people write it."""

    def __init__(self, net: nn.Module | None = None, manual: int = 0) -> None:
        super().__init__()
        self.net = small_network() if net is None else net
        self.automatic_optimization = not manual
        self.manual = manual
        self.ended: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor | None:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        if self.automatic_optimization:
            return loss
        self.by_hand(loss / self.manual, number)
        return None

    def by_hand(self, loss: Tensor, number: int) -> None:
        self.manual_backward(loss)
        if (number + 1) % self.manual == 0 or number + 1 == BATCHES:
            optimizer = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        self.log("loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> SGD:
        return sgd(fs.param_groups(self.net, weight_decay=1e-2))


def trainer(folder: Path, *callbacks: Any, epochs: int = EPOCHS, **options: Any) -> Any:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=list(callbacks),
        default_root_dir=folder,
        **{"enable_checkpointing": False, "logger": False, "enable_progress_bar": False, **options},
        enable_model_summary=False,
    )


def loader() -> Any:
    return of_batches(batches_of(BATCHES))


def fit(methods: FilterMethods, folder: Path, module: Any = None, **options: Any) -> Classifier:
    module = Classifier() if module is None else module
    torch.manual_seed(methods._seed)
    trainer(folder, methods, **options).fit(module, loader())
    return module


TEXTS = [
    "baseline",
    "wau(0.5)",
    "wau(mode=skip)",
    "kflo(width=2)+wau(0.5)",
    "dbb",
    "repr(s1=1,s2=1,cycles=1,prune=0.3)",
    "dacnn+ema(0.5)",
    "ortho-loss(0.1)",
]


@pytest.mark.parametrize("text", TEXTS)
def test_it_trains_as_the_plain_loop(text: str, tmp_path: Path) -> None:
    methods = FilterMethods(text, seed=3)
    fit(methods, tmp_path)
    expected = trained(small_network(), text, batches_of(BATCHES), EPOCHS, sgd, seed=3)
    same(methods.deployed, expected.deployed)
    assert type(methods.deployed) is type(small_network())
    assert str(methods.training) == str(expected)


def test_a_flow_starts_its_schedule_anew(tmp_path: Path) -> None:
    methods = FilterMethods("asa", scheduler=cosine)
    fit(methods, tmp_path)
    expected = trained(small_network(), "asa", batches_of(BATCHES), EPOCHS, sgd, scheduler=cosine)
    same(methods.deployed, expected.deployed)


def test_objects_and_a_penalty_of_the_batch(tmp_path: Path) -> None:
    teacher = small_network(9)
    methods = FilterMethods([fs.KFLO(width=2), fs.KD(copy.deepcopy(teacher))])
    fit(methods, tmp_path)
    expected = trained(small_network(), [fs.KFLO(width=2), fs.KD(teacher)], batches_of(BATCHES), EPOCHS, sgd)
    same(methods.deployed, expected.deployed)


@pytest.mark.parametrize("text", ["kflo(width=2)+wau(0.5)", "wau(mode=skip)", "wau+ortho-loss(0.1)"])
@pytest.mark.parametrize(
    ("options", "as_plain"),
    [
        ({"accumulate_grad_batches": 2}, {"accumulate": 2}),
        ({"gradient_clip_val": 0.1}, {"clip": 0.1}),
        ({"precision": "bf16-mixed"}, {"bf16": True, "cache": False}),
    ],
)
def test_accumulated_clipped_and_in_mixed_precision(
    text: str, options: dict[str, Any], as_plain: dict[str, Any], tmp_path: Path
) -> None:
    methods = FilterMethods(text)
    fit(methods, tmp_path, **options)
    expected = trained(small_network(), text, batches_of(BATCHES), EPOCHS, sgd, **as_plain)
    same(methods.deployed, expected.deployed)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("text", ["kflo(width=2)+wau(0.5)", "repr(s1=1,s2=1,cycles=1)", "ema(0.5)"])
def test_by_hand(text: str, accumulate: int, tmp_path: Path) -> None:
    methods = FilterMethods(text)
    fit(methods, tmp_path, Classifier(manual=accumulate))
    expected = trained(small_network(), text, batches_of(BATCHES), EPOCHS, sgd, accumulate=accumulate)
    same(methods.deployed, expected.deployed)


def test_penalties_by_hand(tmp_path: Path) -> None:
    expected = trained(small_network(), "ortho-loss(0.1)", batches_of(BATCHES), EPOCHS, sgd)
    methods = FilterMethods("ortho-loss(0.1)")
    fit(methods, tmp_path, Classifier(manual=1))
    same(methods.deployed, expected.deployed)
    with pytest.raises(ValueError, match="several losses make one step: add penalty"):
        fit(FilterMethods("ortho-loss(0.1)"), tmp_path, Classifier(manual=2))

    class ByHand(Classifier):
        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
            images, labels = batch
            outputs = self(images)
            loss = F.cross_entropy(outputs, labels) + methods.penalty(images, outputs, labels)
            self.by_hand(loss / self.manual, number)

    methods = FilterMethods("ortho-loss(0.1)")
    fit(methods, tmp_path, ByHand(manual=2))
    expected = trained(small_network(), "ortho-loss(0.1)", batches_of(BATCHES), EPOCHS, sgd, accumulate=2)
    same(methods.deployed, expected.deployed)


@pytest.mark.long
@pytest.mark.parametrize(
    "text", ["kflo(width=2)+wau(0.5)", "repr(s1=1,s2=1,cycles=1)", "wau(mode=skip)+ema(0.5)", "asa"]
)
@pytest.mark.parametrize("where", ["epoch", "validation", "step"])
def test_resumed_twice(text: str, where: str, tmp_path: Path) -> None:
    """Saved after each epoch, at the end of its validation, or within it; another process, as it were, goes on."""
    steps = {"every_n_train_steps": 3} if where == "step" else {"every_n_epochs": 1}
    saved = {**steps, "save_top_k": -1, "save_on_train_epoch_end": where == "epoch"}
    scheduler = cosine if text == "asa" else None

    def go(folder: Path, path: Any = None) -> FilterMethods:
        methods = FilterMethods(text, seed=1, scheduler=scheduler)
        keep = ModelCheckpoint(folder, filename="{epoch}-{step}", **saved)
        one = trainer(folder, methods, keep, enable_checkpointing=True, limit_val_batches=1)
        torch.manual_seed(1)
        one.fit(Classifier(), Stateful(), loader(), ckpt_path=path)
        return methods

    whole = go(tmp_path / "whole")
    paths = sorted((tmp_path / "whole").glob("*.ckpt"), key=lambda path: int(path.stem.rpartition("=")[2]))
    assert len(paths) >= EPOCHS
    for path in (paths[0], paths[2]):
        same(go(tmp_path / path.stem, path).deployed, whole.deployed, 0)
    first = go(tmp_path / "one", paths[0])
    again = sorted((tmp_path / "one").glob("*.ckpt"), key=lambda path: int(path.stem.rpartition("=")[2]))
    same(go(tmp_path / "two", again[0]).deployed, first.deployed, 0)


class Stateful:
    """A loader that Lightning asks for its position: with others it begins an epoch anew within it."""

    def __init__(self) -> None:
        self.next = 0

    def __iter__(self) -> Any:
        for number in range(self.next, BATCHES):
            self.next = (number + 1) % BATCHES
            yield batches_of(BATCHES)[number]

    def __len__(self) -> int:
        return BATCHES

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


class Stop(pl.Callback):
    """Ends a training after some steps, as a signal does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.steps:
            trainer.should_stop = True


def test_averages_of_weights_come_after_and_go_with_plain_networks(tmp_path: Path) -> None:
    averaged = StochasticWeightAveraging(0.01, swa_epoch_start=2)
    alone, methods = Classifier(), FilterMethods("wau(1.0)")
    trainer(tmp_path, copy.deepcopy(averaged)).fit(alone, loader())
    module = Classifier()
    trainer(tmp_path, methods, copy.deepcopy(averaged)).fit(module, loader())
    same(methods.deployed, alone.net)
    with pytest.raises(ValueError, match="must come before StochasticWeightAveraging"):
        trainer(tmp_path, copy.deepcopy(averaged), FilterMethods("wau")).fit(Classifier(), loader())
    for text, why in (
        ("kflo(width=2)", "an average of factors is none of kernels"),
        ("repr(s1=1,s2=1,cycles=1)", "has phases or an average of its own"),
        ("ema", "has phases or an average of its own"),
    ):
        with pytest.raises(ValueError, match=why):
            trainer(tmp_path, FilterMethods(text), copy.deepcopy(averaged)).fit(Classifier(), loader())


class Whole(Classifier):
    """Its layers are its own children."""

    def __init__(self) -> None:
        super().__init__(nn.Identity())
        torch.manual_seed(0)
        self.one, self.two, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(24, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.two(self.one(images).relu()).flatten(1))

    def configure_optimizers(self) -> SGD:
        return sgd(fs.param_groups(self, weight_decay=1e-2))


def test_a_module_that_is_the_network(tmp_path: Path) -> None:
    methods = FilterMethods("kflo(width=2)+wau+ema(0.5)")
    fit(methods, tmp_path, Whole())
    expected = trained(Whole(), "kflo(width=2)+wau+ema(0.5)", batches_of(BATCHES), EPOCHS, sgd)
    same(methods.deployed, expected.deployed)
    assert methods.deployed._trainer is None


class Two(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.other = small_network(1)


def test_the_network_is_found_or_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^module must name the network among the children of Two, .*: net, other$"):
        fit(FilterMethods("wau"), tmp_path, Two())
    methods = FilterMethods("wau", module="net")
    module = fit(methods, tmp_path, Two())
    assert methods.training.trained is module.net
    module = Two()
    module.other.requires_grad_(False)
    fit(FilterMethods("wau"), tmp_path, module)
    with pytest.raises(ValueError, match=r"^module must be the path of a module in Classifier, .* got 'nett'$"):
        fit(FilterMethods("wau", module="nett"), tmp_path)
    with pytest.raises(ValueError, match="it has none with convolutions that are trained"):
        fit(FilterMethods("wau"), tmp_path, Classifier(nn.Linear(3, 4)))


def test_what_makes_no_sense_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rate"):
        FilterMethods("wau(2)")
    with pytest.raises(ValueError, match="seed must be"):
        FilterMethods("wau", seed=0.5)
    with pytest.raises(ValueError, match=r"max_epochs or max_steps .* must be given"):
        fit(FilterMethods("wau"), tmp_path, epochs=-1)
    methods = FilterMethods("wau")
    with pytest.raises(ValueError, match=r"deployed is there when fit\(\) has ended"):
        methods.deployed  # noqa: B018
    module = fit(methods, tmp_path)
    with pytest.raises(ValueError, match="has been through a training"):
        fit(methods, tmp_path, module)
    with pytest.raises(ValueError, match="another LightningModule"):
        fit(methods, tmp_path)


def test_steps_in_place_of_epochs_and_an_early_end(tmp_path: Path) -> None:
    methods = FilterMethods("repr(s1=1,s2=1,cycles=1)")
    fit(methods, tmp_path, epochs=-1, max_steps=3 * BATCHES)
    assert methods.training.phases[-1].stop == 3
    methods = FilterMethods("repr(s1=1,s2=2,cycles=1,prune=0.5)")
    trainer(tmp_path, methods, Stop(BATCHES + 1)).fit(Classifier(), loader())
    assert all(p.any() for name, p in methods.deployed.named_parameters() if name.endswith("weight"))


def test_it_tests_and_validates_what_was_trained(tmp_path: Path) -> None:
    methods = FilterMethods("kflo(width=2)")
    keep = ModelCheckpoint(tmp_path, filename="last")
    one = trainer(tmp_path, methods, keep, enable_checkpointing=True)
    module = Classifier()
    one.fit(module, loader())
    (before,) = one.validate(module, loader(), verbose=False)
    with torch.no_grad():
        plain = torch.stack([F.cross_entropy(methods.deployed.eval()(x), y) for x, y in batches_of(BATCHES)]).mean()
    assert before["loss"] == pytest.approx(float(plain), rel=1e-4)
    other = Classifier(small_network(5))
    (again,) = trainer(tmp_path, FilterMethods("kflo(width=2)")).validate(
        other, loader(), ckpt_path=tmp_path / "last.ckpt", verbose=False
    )
    assert again["loss"] == pytest.approx(before["loss"], rel=1e-6)


def test_what_it_says(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    methods = FilterMethods("repr(s1=1,s2=1,cycles=1)+ortho-loss(0.1)")
    logger = CSVLogger(tmp_path)
    fit(methods, tmp_path, logger=logger)
    assert "filter_methods/penalty" in (Path(logger.log_dir) / "metrics.csv").read_text()


SCRIPT = """
import sys, torch
from integrations.test_lightning import Classifier, loader, trainer
from filtersmith.integrations.lightning import FilterMethods

methods = FilterMethods(sys.argv[1], seed=3)
one = trainer(sys.argv[2], methods, strategy="ddp", devices=2, use_distributed_sampler=False)
module = Classifier()
torch.manual_seed(3)
one.fit(module, loader())
torch.save(methods.deployed.state_dict(), f"{sys.argv[2]}/{one.global_rank}.pt")
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "text", ["kflo(width=2)+wau(0.5)", "wau(mode=skip)", "repr(s1=1,s2=1,cycles=1)", "ortho-loss(0.1)"]
)
def test_two_processes(text: str, tmp_path: Path) -> None:
    """Both see all batches, so that the mean of their gradients is that of one."""
    expected = trained(small_network(), text, batches_of(BATCHES), EPOCHS, sgd, seed=3).deployed
    for weights in processes.weights_of_ranks(SCRIPT, tmp_path, text):
        found = small_network()
        found.load_state_dict(weights)
        same(found, expected)


KILLED = """
import sys, time, torch
from pathlib import Path
from integrations.test_lightning import Classifier, ModelCheckpoint, Stateful, loader, pl, trainer
from filtersmith.integrations.lightning import FilterMethods

text, folder, path, slow = sys.argv[1], Path(sys.argv[2]), sys.argv[3] or None, float(sys.argv[4])

class Slow(pl.Callback):
    def on_train_batch_start(self, *_):
        time.sleep(slow)

methods = FilterMethods(text, seed=3)
keep = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=3, save_top_k=-1)
torch.manual_seed(3)
trainer(folder, Slow(), methods, keep, enable_checkpointing=True).fit(Classifier(), Stateful(), ckpt_path=path)
torch.save(methods.deployed.state_dict(), folder / "deployed.pt")
"""


@pytest.mark.long
@pytest.mark.parametrize("text", ["kflo(width=2)+wau(0.5)", "repr(s1=1,s2=1,cycles=1)+ema(0.5)"])
def test_killed_and_resumed(text: str, tmp_path: Path) -> None:
    processes.check_killed_and_resumed(KILLED, text, tmp_path, second="step=6.ckpt", seen="step=6.ckpt")
