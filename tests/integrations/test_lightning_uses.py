"""`FilterMethods` in LightningModules and Trainers as others write them: it works, or is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference.loops import batches_of, of_batches, same, sgd, trained
from torch import Tensor, nn
from torch.nn import functional as F

import filtersmith as fs
from filtersmith.testing import small_network

pl = pytest.importorskip("lightning.pytorch")
from integrations.test_lightning import BATCHES, EPOCHS, Classifier, fit, loader, trainer  # noqa: E402
from lightning.pytorch.callbacks import (  # noqa: E402
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
)
from lightning.pytorch.plugins import MixedPrecision  # noqa: E402

from filtersmith.integrations.lightning import FilterMethods  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def plain(text: Any, **options: Any) -> nn.Module:
    return trained(small_network(), text, batches_of(BATCHES), EPOCHS, sgd, **options).deployed


class WithTest(Classifier):
    def test_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        self.validation_step(batch, number)


@pytest.mark.parametrize("text", ["kflo(width=2)", "ema(0.5)", "repr(s1=1,s2=1,cycles=1)"])
def test_the_best_checkpoint_is_tested_after_fitting(text: str, tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    methods = FilterMethods(text)
    one, module = trainer(tmp_path, methods, keep, enable_checkpointing=True), WithTest()
    one.fit(module, loader())
    last = methods.deployed
    (found,) = one.test(module, loader(), ckpt_path=tmp_path / "epoch=1.ckpt", verbose=False)
    if text != "kflo(width=2)":
        with pytest.raises(ValueError, match=r"^deployed must be taken before a checkpoint is loaded: of "):
            methods.deployed  # noqa: B018
        return
    best = methods.deployed.eval()
    with torch.no_grad():
        losses = [
            torch.stack([F.cross_entropy(n(x), y) for x, y in batches_of(BATCHES)]) for n in (best, last.eval())
        ]
    assert found["loss"] == pytest.approx(float(losses[0].mean()), rel=1e-4)
    assert found["loss"] != pytest.approx(float(losses[1].mean()), rel=1e-2)
    one.test(WithTest(), loader(), verbose=False)
    same(methods.deployed, best, 0)


def test_phases_are_those_of_the_trainer_that_fits(tmp_path: Path) -> None:
    methods, module = FilterMethods("repr(cycles=1)"), Classifier()
    trainer(tmp_path, methods, epochs=100).validate(module, loader(), verbose=False)
    trainer(tmp_path, methods).fit(module, loader())
    assert methods.training.phases[-1].stop == EPOCHS
    methods = FilterMethods("repr(s1=1,s2=1,cycles=1)")
    accumulate = GradientAccumulationScheduler({0: 1, 2: BATCHES})
    trainer(tmp_path, methods, accumulate, epochs=-1, max_steps=2 * BATCHES + 2).fit(Classifier(), loader())
    assert methods.training.phases[-1].stop == 4
    with pytest.raises(ValueError, match=r"^max_steps must be -1, and max_epochs given, for the phases of repr"):
        fit(FilterMethods("repr(s1=1,s2=1,cycles=1)"), tmp_path, Classifier(manual=1), max_steps=20)


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from batches_of(BATCHES)


def test_a_loader_without_a_length(tmp_path: Path) -> None:
    stream = torch.utils.data.DataLoader(Stream(), batch_size=None)
    methods = FilterMethods("repr(s1=1,s2=1,cycles=1)")
    torch.manual_seed(0)
    trainer(tmp_path, methods, max_steps=100).fit(Classifier(), stream)
    same(methods.deployed, plain("repr(s1=1,s2=1,cycles=1)"))
    with pytest.raises(ValueError, match=r"^max_epochs or max_steps \(of a loader with a length\) must be given"):
        trainer(tmp_path, FilterMethods("wau"), epochs=-1, max_steps=3).fit(Classifier(), stream)


class InSetup(Classifier):
    def __init__(self) -> None:
        super().__init__(nn.Identity())

    def setup(self, stage: str) -> None:
        if isinstance(self.net, nn.Identity):
            self.net = small_network()


class Configured(InSetup):
    def setup(self, stage: str) -> None:
        pass

    def configure_model(self) -> None:
        InSetup.setup(self, "")


@pytest.mark.parametrize("kind", [InSetup, Configured])
def test_a_network_that_is_made_later(kind: type[Classifier], tmp_path: Path) -> None:
    methods = FilterMethods("kflo(width=2)+wau(0.5)")
    module = fit(methods, tmp_path, kind())
    same(methods.deployed, plain("kflo(width=2)+wau(0.5)"))
    assert "configure_model" not in vars(module)


class Anew(Classifier):
    def setup(self, stage: str) -> None:
        self.net = small_network()


def test_what_would_go_wrong_without_a_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^Anew has another network than FilterMethods has prepared"):
        fit(FilterMethods("wau"), tmp_path, Anew())
    keep = ModelCheckpoint(tmp_path, filename="last")
    trainer(tmp_path, keep, enable_checkpointing=True).fit(Classifier(), loader())
    with pytest.raises(ValueError, match=r"^the checkpoint has no state of FilterMethods, which wau"):
        trainer(tmp_path, FilterMethods("wau"), epochs=9).fit(
            Classifier(), loader(), ckpt_path=tmp_path / "last.ckpt"
        )

    class Scheduled(Classifier):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    with pytest.raises(ValueError, match=r"^scheduler must be the only schedule, configure_optimizers has one, too"):
        fit(FilterMethods("asa", scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 1)), tmp_path, Scheduled())

    class Saved(Classifier):
        def __init__(self, net: nn.Module) -> None:
            super().__init__(net)
            self.save_hyperparameters()

    with pytest.raises(ValueError, match=r"^save_hyperparameters must leave out .*\(ignore=\['net'\]\)$"):
        fit(FilterMethods("kflo"), tmp_path, Saved(small_network()))


@pytest.mark.long
def test_processes_that_keep_the_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"strategy must be 'ddp'.* got 'ddp_fork'"):
        fit(FilterMethods("wau"), tmp_path, strategy="ddp_fork", devices=2)


def test_averages_of_the_other_package_are_known(tmp_path: Path) -> None:
    other = pytest.importorskip("pytorch_lightning")
    averaged = other.callbacks.StochasticWeightAveraging(0.01, swa_epoch_start=2)
    with pytest.raises(ValueError, match="an average of factors is none of kernels"):
        trainer(tmp_path, FilterMethods("kflo(width=2)"), averaged).fit(Classifier(), loader())


def test_a_scaled_loss(tmp_path: Path) -> None:
    """The term and the decay of computed kernels are scaled as the loss is."""
    found = []
    for scale in (128.0, 2048.0):
        methods = FilterMethods("kflo(width=2)+ortho-loss(0.1)")
        scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))
        fit(methods, tmp_path, plugins=[scaled])
        assert scaled.scaler.get_scale() == scale
        found.append(methods.deployed)
    same(*found, 1e-3)


class Features(nn.Module):
    """Its forward is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.body = small_network()

    def features(self, images: Tensor) -> Tensor:
        return self.body(images)


class Opaque:
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels


class Beside(Classifier):
    def __init__(self) -> None:
        super().__init__(Features())

    def training_step(self, batch: Opaque, number: int) -> Tensor:
        return F.cross_entropy(self.net.features(batch.images), batch.labels)


def test_a_term_where_forward_is_not_called_and_a_batch_that_nobody_knows(tmp_path: Path) -> None:
    batches = of_batches([Opaque(*batch) for batch in batches_of(BATCHES)])  # type: ignore[arg-type]
    methods = FilterMethods("ortho-loss(0.1)")
    trainer(tmp_path, methods).fit(Beside(), batches)
    same(methods.deployed.body, plain("ortho-loss(0.1)"))
    with pytest.raises(ValueError, match=r"^the network was called 0 times .* by hand$"):
        trainer(tmp_path, FilterMethods([fs.KD(small_network(9))])).fit(Beside(), batches)


class Adversarial(Classifier):
    """The other's step comes first, and the gradients that it leaves here are thrown away."""

    def __init__(self, penalty: Any) -> None:
        super().__init__(manual=1)
        self.other, self.penalty = nn.Linear(4, 1), penalty

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        ours, others = self.optimizers()
        outputs = self(batch[0])
        others.zero_grad()
        self.manual_backward(self.other(outputs.detach()).square().mean())
        others.step()
        ours.zero_grad()
        self.manual_backward(F.cross_entropy(outputs, batch[1]) + self.penalty(*batch))
        ours.step()

    def configure_optimizers(self) -> Any:
        return [super().configure_optimizers(), torch.optim.SGD(self.other.parameters(), 0.1)]


def test_several_optimizers(tmp_path: Path) -> None:
    methods = FilterMethods("ortho-loss(0.1)")
    with pytest.raises(ValueError, match="this step was made without it"):
        fit(methods, tmp_path, Adversarial(lambda *_: 0))
    methods = FilterMethods("ortho-loss(0.1)")
    fit(methods, tmp_path, Adversarial(lambda images, labels: methods.penalty(images, None, labels)))
    same(methods.deployed, plain("ortho-loss(0.1)"))


@pytest.mark.long
def test_a_compiled_child_and_a_search_for_the_rate(tmp_path: Path) -> None:
    text = "kflo(width=2)+wau(0.5)"

    class Rated(Classifier):
        lr = 0.05

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(fs.param_groups(self.net, weight_decay=1e-2), lr=self.lr, momentum=0.9)

    methods = FilterMethods(text)
    search = LearningRateFinder(num_training_steps=8, update_attr=False)
    torch.manual_seed(0)
    module = Rated(torch.compile(small_network(), backend="eager"))  # type: ignore[arg-type]
    trainer(tmp_path, methods, search).fit(module, loader(), loader())
    assert type(methods.deployed) is type(small_network())
    same(methods.deployed, plain(text))
