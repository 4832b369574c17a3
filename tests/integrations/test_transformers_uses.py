"""`FilterMethodsCallback` with models and Trainers as others write them: it works, or is refused in one line."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.loops import batches_of, same, sgd, trained
from torch import Tensor, nn
from torch.nn import functional as F

import filtersmith as fs
from filtersmith.reparam import Expansion
from filtersmith.testing import small_network

transformers = pytest.importorskip("transformers")
import integrations.test_transformers as base  # noqa: E402
from integrations.test_transformers import BATCHES, EPOCHS, InOrder, Model, arguments, data, train  # noqa: E402
from transformers import Trainer  # noqa: E402

from filtersmith.integrations.transformers import FilterMethodsCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Plain(nn.Module):
    """An own module, which says nothing of its inputs."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.network, self.kind = small_network(), kind

    def forward(self, labels: Any = None, pixel_values: Any = None, image: Any = None, target: Any = None) -> Any:
        images, labels = pixel_values if image is None else image, labels if target is None else target
        logits = self.network(images)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits} if self.kind == "mapping" else (loss, logits)


@pytest.mark.parametrize("names", [("pixel_values", "labels"), ("image", "target")])
@pytest.mark.parametrize("kind", ["mapping", "tuple"])
def test_a_module_of_ones_own(kind: str, names: tuple[str, str], tmp_path: Path, monkeypatch: Any) -> None:
    renamed = [{names[1]: one["labels"], names[0]: one["pixel_values"]} for one in data()]
    monkeypatch.setattr(base, "data", lambda: renamed)
    methods = FilterMethodsCallback([fs.KD(small_network(9))])
    train(methods, tmp_path, model=Plain(kind), label_names=[names[1]])
    expected = trained(small_network(), [fs.KD(small_network(9))], batches_of(BATCHES), EPOCHS, sgd)
    same(methods.deployed.network, expected.deployed)


class Pixels(nn.Module):
    """Labels of pixels, some ignored: the loss is the sum over those of a whole step, divided by their number."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, pixel_values: Tensor, labels: Tensor, num_items_in_batch: Any, **_: Any) -> Any:
        logits = self.network(pixel_values)
        return {"loss": F.cross_entropy(logits, labels, reduction="sum") / num_items_in_batch, "logits": logits}


def test_a_term_weighs_the_same_where_there_are_many_labels(tmp_path: Path, monkeypatch: Any) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(20, 3, 6, 6), torch.randint(4, (20, 6, 6))
    labels[:, 0] = -100
    given = [{"pixel_values": x, "labels": y} for x, y in zip(images, labels, strict=True)]
    monkeypatch.setattr(base, "data", lambda: given)
    torch.manual_seed(0)
    methods, model = FilterMethodsCallback("ortho-loss(0.5)"), Pixels()
    expected = trained(
        copy.deepcopy(model.network),
        "ortho-loss(0.5)",
        list(zip(images.split(4), labels.split(4), strict=True)),
        1,
        sgd,
    )
    train(methods, tmp_path, model=model, num_train_epochs=1)
    same(methods.deployed.network, expected.deployed)


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from data()


def test_a_stream_has_no_epochs(tmp_path: Path) -> None:
    def go(methods: FilterMethodsCallback, optimizers: Any = (None, None)) -> None:
        given = arguments(tmp_path, max_steps=2 * BATCHES + 1)
        Trainer(Model(), given, train_dataset=Stream(), callbacks=[methods], optimizers=optimizers).train()

    methods = FilterMethodsCallback("wau(0.5)")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        go(methods)
    assert type(methods.deployed) is Model
    for text in ("repr", "dsd"):
        with pytest.raises(ValueError, match=f"^train_dataset must have a length for {text}"):
            go(FilterMethodsCallback(text))


def test_a_search_is_refused(tmp_path: Path) -> None:
    methods = FilterMethodsCallback("wau")
    state = transformers.TrainerState(is_hyper_param_search=True)
    with pytest.raises(ValueError, match=r"^FilterMethodsCallback must be a new one in each trial"):
        methods.on_train_begin(arguments(tmp_path), state, transformers.TrainerControl(), model=Model())


def test_decay_is_scaled_as_the_loss_of_the_trainer(tmp_path: Path) -> None:
    from accelerate.optimizer import AcceleratedOptimizer

    InOrder(Model(), arguments(tmp_path))  # as accelerate must have begun
    methods, model = FilterMethodsCallback("kflo(width=2)"), Model()
    optimizer = sgd(methods.param_groups(methods.prepare(model), weight_decay=1e-2))
    scaler = torch.amp.GradScaler("cpu")
    wrapped = AcceleratedOptimizer(optimizer, device_placement=False, scaler=scaler)
    state = transformers.TrainerState(num_train_epochs=1)
    methods.on_train_begin(arguments(tmp_path), state, transformers.TrainerControl(), model=model, optimizer=wrapped)
    scalers = [module._scaler() for module in model.modules() if isinstance(module, Expansion) and module.decay]
    assert scalers
    assert all(one is scaler for one in scalers)


def test_a_teacher_of_transformers(tmp_path: Path) -> None:
    teacher = Model(small_network(9))
    methods = FilterMethodsCallback([fs.KD(teacher)])
    train(methods, tmp_path)
    expected = trained(small_network(), [fs.KD(small_network(9))], batches_of(BATCHES), EPOCHS, sgd)
    same(methods.deployed.network, expected.deployed)


@pytest.mark.long
def test_a_term_beside_a_compiled_model(tmp_path: Path) -> None:
    methods = FilterMethodsCallback("ortho-loss(0.1)")
    train(methods, tmp_path, torch_compile=True, torch_compile_backend="eager")
    expected = trained(small_network(), "ortho-loss(0.1)", batches_of(BATCHES), EPOCHS, sgd)
    same(methods.deployed.network, expected.deployed)
