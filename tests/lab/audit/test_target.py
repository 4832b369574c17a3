"""What a target names, and every kind of target that names nothing or does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reference.running import config, run
from torch import nn

from filtersmith import zoo
from filtersmith.lab.audit.target import open_target


def test_a_network_with_random_weights_and_its_null_are_drawn_by_seed() -> None:
    before = torch.get_rng_state()
    target = open_target("resnet8")
    assert target.random
    assert target.weights == "random"
    assert not target.network.training
    assert torch.equal(torch.get_rng_state(), before)
    again, other = target.drawn(0), target.drawn(1)
    assert torch.equal(again.conv1.weight, target.network.conv1.weight)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(other.conv1.weight, target.network.conv1.weight)  # type: ignore[union-attr, arg-type]
    assert target.facts["image_size"] == 32
    assert open_target("torchvision:resnet18").facts["num_classes"] == 1000
    facts = {"num_classes": 7, "in_channels": 1, "image_size": 8}
    assert open_target("resnet8", data=facts).network.fc.out_features == 7  # type: ignore[union-attr]


def test_a_run_is_the_network_that_it_deploys(tmp_path: Path) -> None:
    run(config("kflo", epochs=1), tmp_path / "run")
    target = open_target(str(tmp_path / "run"))
    assert target.title == "kflo@vanilla-1-4"
    assert target.weights == "of the run: kflo, seed 0, 1 epoch"
    assert not target.random
    assert type(target.network) is type(target.drawn(1))
    assert {name: one.shape for name, one in target.network.state_dict().items()} == {
        name: one.shape for name, one in target.drawn(1).state_dict().items()
    }
    assert not torch.equal(next(target.network.parameters()), next(target.drawn(1).parameters()))
    with pytest.raises(ValueError, match="weights must be left out where the target is a run"):
        open_target(str(tmp_path / "run"), "pretrained")
    with pytest.raises(ValueError, match=r"is not the folder of one run; choose one that it holds: .*run"):
        open_target(str(tmp_path))


def test_weights_of_a_file_fit_whatever_the_classes_and_may_be_nan(tmp_path: Path) -> None:
    network = zoo.build("resnet8", 7)
    network.conv1.weight.data[3] = torch.nan  # type: ignore[union-attr, index]
    torch.save({"state_dict": network.state_dict()}, tmp_path / "w.pt")
    target = open_target("resnet8", str(tmp_path / "w.pt"))
    assert target.network.conv1.weight[3].isnan().all()  # type: ignore[union-attr, index]
    assert target.weights.startswith("w.pt, ")
    assert not target.random


def test_a_pickle_of_a_network_needs_trust(tmp_path: Path) -> None:
    torch.save(zoo.build("resnet8"), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match=r"holds objects .*; --trust reads it, and runs the code that it names"):
        open_target("resnet8", str(tmp_path / "whole.pt"))
    assert open_target("resnet8", str(tmp_path / "whole.pt"), trust=True).weights.startswith("whole.pt, ")
    (tmp_path / "no.pt").write_bytes(b"no pickle")
    with pytest.raises(ValueError, match=r"no\.pt cannot be read: "):
        open_target("resnet8", str(tmp_path / "no.pt"), trust=True)


def test_pretrained_weights_are_those_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    drawn = timm.create_model("resnet18")
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **_: drawn if pretrained else nn.ReLU())
    target = open_target("timm:resnet18", "pretrained")
    assert target.network is drawn
    assert (target.weights, target.facts["mean"]) == ("pretrained", [0.485, 0.456, 0.406])


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("nothing", None, "TARGET must be the folder of a run, or a network: .*, got 'nothing'"),
        ("resnet9", None, "resnet depth must be 6n.2"),
        ("timm:resnet1888", None, "unknown timm classification network 'resnet1888'"),
        ("resnet8", "gone.pt", "there is no file of weights gone.pt"),
        ("resnet8", "pretrained", "weights must be a file with resnet8"),
        ("torchvision:nothing", "pretrained", "torchvision has no pretrained nothing here"),
    ],
)
def test_what_names_nothing_is_refused_in_one_line(name: str, weights: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        open_target(name, weights)
    assert "\n" not in str(error.value)


def test_a_file_of_weights_and_weights_that_do_not_fit(tmp_path: Path) -> None:
    torch.save(zoo.build("resnet8").state_dict(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="a file of weights goes behind --weights"):
        open_target(str(tmp_path / "w.pt"))
    with pytest.raises(ValueError, match=r"must fit all of resnet14: .* not in the file, drawn fresh: layer1"):
        open_target("resnet14", str(tmp_path / "w.pt"))
    with pytest.raises(ValueError, match=r"conv1\.weight \(16x3x3x3 in the file, 16x1x3x3 here\)"):
        open_target("resnet8", str(tmp_path / "w.pt"), {"num_classes": 10, "in_channels": 1, "image_size": 32})
