"""A user's network from a user's weights, from the first run to the export, also where either has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference.running import config, digits, manifest, run

from filtersmith import zoo
from filtersmith.lab import compare as comparing
from filtersmith.lab.export import export
from filtersmith.lab.network import fingerprint
from filtersmith.lab.recipe.config import CompareConfig, ModelOptions, RunConfig, merge
from filtersmith.lab.results.document import dumps, load
from filtersmith.lab.training.session import Session
from filtersmith.zoo import importing

FILE = """
from torch import nn
import parts

def make(num_classes, in_channels=3):
    return nn.Sequential(parts.conv(in_channels), nn.ReLU(), parts.conv(4), nn.Flatten(), nn.Linear(64, num_classes))

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = make(10, 1)
    def forward(self, x):
        y = self.net(x)
        return (y, y) if self.training else y

def many(): return make(12, 1)
def few(): return make(9, 1)
def maps(): return make(10, 1)[:2]
"""
PARTS = "from torch import nn\ndef conv(channels): return nn.Conv2d(channels, 4, 3)\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a network and weights of it for other classes."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(FILE)
    Path("parts.py").write_text(PARTS)
    torch.save({"state_dict": zoo.build("net.py:make", 20, 1).state_dict()}, "net.pt")
    return tmp_path


def what(
    method: str = "baseline", model: str = "net.py:make", file: str | None = "net.pt", **options: Any
) -> RunConfig:
    asked = config(method, **{"epochs": 1, "batch_size": 512, **options})
    return asked.model_copy(update={"model": ModelOptions(name=model, weights=file)})


def session(asked: RunConfig) -> Session:
    return Session(asked, digits())


def test_every_method_begins_with_the_weights_of_the_file(here: Path) -> None:
    given = torch.load("net.pt", weights_only=True)["state_dict"]
    images = torch.randn(2, 1, 8, 8)
    body = zoo.build("net.py:make", 20, 1)
    body.load_state_dict(given)
    wanted = body[:4](images)
    for method in ("baseline", "wau", "kflo(width=4)", "ema", "repr", "do-conv"):
        deployed = session(what(method, epochs=4)).composition.deployed
        assert torch.allclose(deployed[:4](images), wanted, atol=1e-5), method  # type: ignore[index]
    seeds = [session(what(seed=seed)).model for seed in (0, 0, 1)]
    heads = [model[4].weight for model in seeds]  # type: ignore[index]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2]), "the classifier is drawn by the seed"


def test_a_run_is_known_by_its_code_and_its_weights(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = here / "run"
    run(what(), out)
    noted = manifest(out)["model"]
    assert noted == {
        "name": "net.py:make",
        "folder": str(here),
        **fingerprint(what().model),
        "weights": {
            **fingerprint(what().model)["weights"],
            "fitted": 4,
            "other_shape": ["4.weight", "4.bias"],
        },
    }
    assert set(noted["sources"]) == {"net.py", "parts.py"}
    run(what(), out, resume=True)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")  # its code is found where it was
    assert export(out, "safetensors").changed == ()
    monkeypatch.chdir(here)
    for file, said in (("net.pt", "net.pt holds other weights now"), ("parts.py", "parts.py has changed since")):
        before = Path(file).read_bytes()
        if file == "net.pt":
            torch.save(zoo.build("net.py:make", 20, 1).state_dict(), file)
        else:
            Path(file).write_bytes(before + b"# more\n")
        importing.refresh()
        with pytest.raises(ValueError, match=rf"holds a run of another network: {said}; choose another --out"):
            run(what(), out, resume=True)
        if file == "parts.py":
            assert export(out, "safetensors").changed == ("parts.py",)
        Path(file).write_bytes(before)
        importing.refresh()
    assert run(what(), out, resume=True).status == "finished"


def test_results_say_which_network_and_which_weights(here: Path) -> None:
    values = {"model.name": "net.py:make", "model.weights": "net.pt", "train.epochs": 1, "train.batch_size": 512}
    values |= {"methods": ["baseline", "baseline@resnet20"], "seeds": 1, "train.device": "cpu"}
    asked = comparing.normalised(merge(CompareConfig, options=values))
    with pytest.raises(ValueError, match=r"baseline@resnet20: weights net.pt for resnet20: nothing fits"):
        comparing.check_methods(asked, digits())
    asked = comparing.normalised(merge(CompareConfig, options={**values, "methods": ["baseline"]}))
    assert "net.py:make from net.pt · 1 epoch" in comparing.title(asked, digits())
    (note,) = comparing.check_methods(asked, digits())
    assert note.startswith("note: net.py:make from net.pt: 4 of 6 tensors fit; drawn fresh for the classes: 4.weight")

    from filtersmith.lab.data.fingerprint import fingerprint as of_data
    from filtersmith.lab.publish import Results

    (planned,) = comparing.plan(asked, here / "out")
    run(planned.config, planned.folder.path)
    found = Results(asked, here / "out", digits(), of_data(digits())).publish([planned])
    assert found.networks["net.py:make"]["weights"]["fitted"] == 4
    assert str(here) not in dumps(found)
    assert load(here / "out").networks == found.networks


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("net.py:Two", "model 'net.py:Two' must give logits in training mode, got a tuple"),
        ("net.py:few", "model 'net.py:few' must give 10 logits for each image, got 9 logits"),
        ("net.py:maps", r"must give 10 logits for each image, got a tensor \(2, 4, 6, 6\) for 2 images"),
    ],
)
def test_what_gives_no_logits_is_refused_before_anything_is_trained(model: str, said: str, here: Path) -> None:
    with pytest.raises(ValueError, match=said):
        session(what(model=model, file=None))


def test_logits_beyond_the_classes_are_said(here: Path) -> None:
    made = session(what(model="net.py:many", file=None)).made
    assert made.notes() == ["warning: net.py:many gives 2 logits more than there are classes"]


def test_a_network_of_our_own_has_no_fingerprint() -> None:
    assert fingerprint(ModelOptions(name="resnet20")) == {}
