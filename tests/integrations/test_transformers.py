"""`FilterMethodsCallback` in the Trainer of transformers, against the plain loop with the same order of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference import processes
from reference.loops import batches_of, same, sgd, trained
from torch import Tensor, nn
from torch.nn import functional as F

import filtersmith as fs
from filtersmith.testing import small_network

transformers = pytest.importorskip("transformers")
from transformers import Trainer, TrainingArguments  # noqa: E402
from transformers.modeling_outputs import ImageClassifierOutput  # noqa: E402

from filtersmith.integrations.transformers import FILE, FilterMethodsCallback, LeaveRates  # noqa: E402

EPOCHS, BATCHES, SIZE = 4, 5, 4
pytestmark = pytest.mark.filterwarnings("ignore")


class Model(nn.Module):
    """Takes and gives what image classifiers of transformers do."""

    main_input_name = "pixel_values"

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network = small_network() if network is None else network
        self.config = transformers.PretrainedConfig()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ImageClassifierOutput:
        logits = self.network(pixel_values)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def data() -> list[dict[str, Tensor]]:
    return [{"pixel_values": x, "labels": y} for xs, ys in batches_of(BATCHES) for x, y in zip(xs, ys, strict=True)]


class InOrder(Trainer):
    def _get_train_sampler(self, *_: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    given: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": SIZE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TrainingArguments(**given | options)


def train(
    methods: FilterMethodsCallback,
    folder: Path,
    *,
    resume: Any = None,
    model: Any = None,
    kind: Any = InOrder,
    **options: Any,
) -> Any:
    model = Model() if model is None else model
    torch.manual_seed(methods._seed)
    model = methods.prepare(model)
    optimizer = sgd(methods.param_groups(model, weight_decay=1e-2))
    schedule = options.pop("schedule", lambda optimizer: None)
    more = {name: options.pop(name) for name in ("compute_loss_func",) if name in options}
    one = kind(
        model,
        arguments(folder, **options),
        train_dataset=data(),
        callbacks=[methods],
        optimizers=(optimizer, schedule(optimizer)),
        **more,
    )
    one.train(resume_from_checkpoint=resume)
    return one


TEXTS = [
    "baseline",
    "wau(0.5)",
    "wau(mode=skip)",
    "kflo(width=2)+wau(0.5)",
    "repr(s1=1,s2=1,cycles=1,prune=0.3)",
    "dacnn+ema(0.5)",
    "ortho-loss(0.1)",
]


@pytest.mark.parametrize("text", TEXTS)
def test_it_trains_as_the_plain_loop(text: str, tmp_path: Path) -> None:
    methods = FilterMethodsCallback(text, seed=3)
    train(methods, tmp_path)
    expected = trained(small_network(), text, batches_of(BATCHES), EPOCHS, sgd, seed=3)
    assert isinstance(methods.deployed, Model)
    same(methods.deployed.network, expected.deployed)


def test_a_flow_starts_its_schedule_anew(tmp_path: Path) -> None:
    def cosine(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)

    with pytest.raises(ValueError, match=r"^scheduler must be the only schedule"):
        train(FilterMethodsCallback("asa", scheduler=cosine), tmp_path)
    methods = FilterMethodsCallback("asa", scheduler=cosine)
    train(methods, tmp_path, schedule=LeaveRates)
    expected = trained(small_network(), "asa", batches_of(BATCHES), EPOCHS, sgd, scheduler=cosine)
    same(methods.deployed.network, expected.deployed)


def test_a_network_inside_and_a_teacher(tmp_path: Path) -> None:
    teacher = small_network(9)
    methods = FilterMethodsCallback([fs.KFLO(width=2), fs.KD(teacher)], module="network")
    train(methods, tmp_path)
    expected = trained(small_network(), [fs.KFLO(width=2), fs.KD(small_network(9))], batches_of(BATCHES), EPOCHS, sgd)
    same(methods.deployed, expected.deployed)


@pytest.mark.parametrize("text", ["kflo(width=2)+wau(0.5)", "wau(mode=skip)", "wau+ortho-loss(0.1)"])
@pytest.mark.parametrize(
    ("options", "as_plain"),
    [
        ({"gradient_accumulation_steps": 2}, {"accumulate": 2, "divided_by_batches": True}),
        ({"max_grad_norm": 0.1}, {"clip": 0.1}),
        ({"bf16": True}, {"bf16": True}),
    ],
)
def test_accumulated_clipped_and_in_mixed_precision(
    text: str, options: dict[str, Any], as_plain: dict[str, Any], tmp_path: Path
) -> None:
    methods = FilterMethodsCallback(text)
    train(methods, tmp_path, **options)
    expected = trained(small_network(), text, batches_of(BATCHES), EPOCHS, sgd, **as_plain)
    same(methods.deployed.network, expected.deployed)


@pytest.mark.long
@pytest.mark.parametrize("text", ["kflo(width=2)+wau(0.5)", "repr(s1=1,s2=1,cycles=1)", "wau(mode=skip)+ema(0.5)"])
@pytest.mark.parametrize("every", [2, BATCHES])
def test_resumed_twice(text: str, every: int, tmp_path: Path) -> None:
    def go(folder: Path, resume: Any = None) -> FilterMethodsCallback:
        methods = FilterMethodsCallback(text, seed=1)
        if resume is not None and resume.parent != folder:
            methods.resume(resume)
        train(methods, folder, resume=str(resume) if resume else None, save_strategy="steps", save_steps=every)
        return methods

    whole = go(tmp_path / "whole")
    paths = sorted((tmp_path / "whole").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    assert all((path / FILE).is_file() for path in paths)
    first = go(tmp_path / "one", paths[0])
    same(first.deployed, whole.deployed, 0)
    again = sorted((tmp_path / "one").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    same(go(tmp_path / "one", again[-2]).deployed, whole.deployed, 0)


def test_a_checkpoint_without_the_methods_state_is_refused(tmp_path: Path) -> None:
    train(FilterMethodsCallback("wau"), tmp_path, save_strategy="steps", save_steps=BATCHES)
    folder = tmp_path / f"checkpoint-{BATCHES}"
    methods = FilterMethodsCallback("wau")
    with pytest.raises(ValueError, match=r"has no filter_methods.pt: call resume\(folder\)"):
        train(methods, tmp_path / "other", resume=str(folder))
    methods = FilterMethodsCallback("wau")
    methods.resume(tmp_path / f"checkpoint-{2 * BATCHES}")
    with pytest.raises(ValueError, match="of other weights than those that were loaded"):
        train(methods, tmp_path, resume=str(folder))
    with pytest.raises(ValueError, match="saved with"):
        train(FilterMethodsCallback("repr"), tmp_path, resume=str(folder))


def test_another_loss_is_noticed_and_penalties_may_be_added_by_hand(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the Trainer has another one: add penalty\(images, logits, labels\)"):
        train(FilterMethodsCallback("ortho-loss(0.1)"), tmp_path, label_smoothing_factor=0.1)
    methods = FilterMethodsCallback("ortho-loss(0.1)")

    def loss(outputs: Any, labels: Tensor, **_: Any) -> Tensor:
        return F.cross_entropy(outputs.logits, labels) + methods.penalty(None, outputs.logits, labels)

    train(methods, tmp_path, compute_loss_func=loss)
    expected = trained(small_network(), "ortho-loss(0.1)", batches_of(BATCHES), EPOCHS, sgd)
    same(methods.deployed.network, expected.deployed)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rate"):
        FilterMethodsCallback("wau(2)")
    with pytest.raises(ValueError, match=r"^module must be the path of a module in Model, got 'nett'$"):
        FilterMethodsCallback("wau", module="nett").prepare(Model())
    with pytest.raises(ValueError, match=r"comes after prepare\(model\)"):
        InOrder(Model(), arguments(tmp_path), train_dataset=data(), callbacks=[FilterMethodsCallback("kflo")]).train()
    methods = FilterMethodsCallback("wau")
    with pytest.raises(ValueError, match=r"deployed is there when train\(\) has ended"):
        methods.deployed  # noqa: B018
    train(methods, tmp_path)
    with pytest.raises(ValueError, match=r"prepare\(\) was called already"):
        train(methods, tmp_path)
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    methods = FilterMethodsCallback("repr(s1=1,s2=1,cycles=1)")
    with pytest.raises(ValueError, match=r"^load_best_model_at_end must be False with repr"):
        InOrder(
            methods.prepare(Model()),
            arguments(tmp_path, **options),
            train_dataset=data(),
            eval_dataset=data(),
            callbacks=[methods],
        ).train()


def test_a_model_of_transformers(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(
        num_channels=3, embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=4
    )
    torch.manual_seed(0)
    methods = FilterMethodsCallback("kflo(width=2)+wau(0.5)")
    before = list(transformers.ResNetForImageClassification(config).state_dict())
    train(methods, tmp_path, model=transformers.ResNetForImageClassification(config))
    methods.deployed.save_pretrained(tmp_path / "deployed")
    again = transformers.ResNetForImageClassification.from_pretrained(tmp_path / "deployed")
    assert list(again.state_dict()) == before
    same(again, methods.deployed, 0)


LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--local-addr=127.0.0.1")
SCRIPT = """
import sys, torch
from pathlib import Path
from integrations.test_transformers import FilterMethodsCallback, Model, data, train

import integrations.test_transformers as test
# Every process sees all images: the mean of their gradients is that of one.
one = [data()[n // 8 * 4 + n % 4] for n in range(2 * len(data()))]
test.data = lambda: one
methods = FilterMethodsCallback(sys.argv[1], seed=3)
trainer = train(methods, Path(sys.argv[2]))
torch.save(methods.deployed.network.state_dict(), f"{sys.argv[2]}/{trainer.args.process_index}.pt")
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "text", ["kflo(width=2)+wau(0.5)", "wau(mode=skip)", "repr(s1=1,s2=1,cycles=1)", "ortho-loss(0.1)"]
)
def test_two_processes(text: str, tmp_path: Path) -> None:
    expected = trained(small_network(), text, batches_of(BATCHES), EPOCHS, sgd, seed=3).deployed
    for weights in processes.weights_of_ranks(SCRIPT, tmp_path, text, launch=LAUNCH):
        found = small_network()
        found.load_state_dict(weights)
        same(found, expected)


KILLED = """
import sys, time, torch
from pathlib import Path
from integrations.test_transformers import FilterMethodsCallback, InOrder, train
from transformers import TrainerCallback

text, folder, path, slow = sys.argv[1], Path(sys.argv[2]), sys.argv[3] or None, float(sys.argv[4])

class Slow(InOrder):
    def training_step(self, *given, **named):
        time.sleep(slow)
        return super().training_step(*given, **named)

methods = FilterMethodsCallback(text, seed=3)
train(methods, folder, resume=path, kind=Slow, save_strategy="steps", save_steps=3)
torch.save(methods.deployed.network.state_dict(), folder / "deployed.pt")
"""


@pytest.mark.long
@pytest.mark.parametrize("text", ["kflo(width=2)+wau(0.5)", "repr(s1=1,s2=1,cycles=1)+ema(0.5)"])
def test_killed_and_resumed(text: str, tmp_path: Path) -> None:
    processes.check_killed_and_resumed(KILLED, text, tmp_path, second="checkpoint-6", seen=f"checkpoint-9/{FILE}")
