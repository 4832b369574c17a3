"""The network that a teacher's name stands for, and what a run with one refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from reference.running import StopAfter, assert_same, config, digits, run, weights
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from filtersmith import zoo
from filtersmith.lab.data import with_limit
from filtersmith.lab.deployed import load_network
from filtersmith.lab.export import export
from filtersmith.lab.tasks.classification import CLASSIFICATION
from filtersmith.lab.teachers.load import teacher
from filtersmith.lab.training.errors import Interrupted
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.stopping import StopRequest

FACTS = CLASSIFICATION.facts(digits())
IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teachers") / "run"
    run(config("dacnn", model="vanilla-3-4", epochs=1), out)
    return out


def outputs(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.eval()(IMAGES)


def test_a_run_its_file_and_an_export_are_the_same_network(finished: Path) -> None:
    folder = RunFolder(finished)
    wanted = outputs(load_network(folder.read_config(), FACTS, folder.model))
    exported = export(finished, "safetensors").path
    before = torch.get_rng_state()
    for name in (finished, folder.model, exported):
        found = teacher(str(name), FACTS)
        assert not any(module.training for module in found.modules())
        torch.testing.assert_close(outputs(found), wanted)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_of_the_zoo_with_a_file_of_weights(tmp_path: Path) -> None:
    network = zoo.build("resnet8", 10, 1)
    file = tmp_path / "w.pt"
    torch.save(network.state_dict(), file)
    torch.testing.assert_close(outputs(teacher(f"resnet8@{file}", FACTS)), outputs(network))


def test_a_file_does_not_choose_what_runs_here(tmp_path: Path) -> None:
    known = {"model": "subprocess:run(args='touch ran')", "small_images": "false", "method": "baseline"}
    save_file({"weight": torch.zeros(1)}, tmp_path / "t.safetensors", known)
    with pytest.raises(ValueError, match=r"names a network of a user's own code.*: write NETWORK@"):
        teacher(str(tmp_path / "t.safetensors"), FACTS)


def test_images_are_normalised_as_the_teacher_knows_them(tmp_path: Path) -> None:
    run(config(epochs=1), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    other = {**FACTS, "mean": [0.5], "std": [0.125]}
    pixels = IMAGES * FACTS["std"][0] + FACTS["mean"][0]
    wanted = outputs(load_network(folder.read_config(), FACTS, folder.model))
    found = teacher(str(tmp_path / "run"), other)
    with torch.no_grad():
        torch.testing.assert_close(found((pixels - 0.5) / 0.125), wanted, rtol=1e-4, atol=1e-5)
    assert found.state_dict().keys() == torch.load(folder.model, weights_only=True).keys()


def test_a_network_of_other_data_gives_its_kernels_to_kflo(tmp_path: Path) -> None:
    run(config(epochs=1), tmp_path / "run")
    few = with_limit(digits(), 200)
    assert CLASSIFICATION.facts(few)["mean"] != FACTS["mean"]
    network = Session(config(f"kflo(networks=['{tmp_path / 'run'}'])"), few).composition.deployed
    kept = torch.load(RunFolder(tmp_path / "run").model, weights_only=True)
    torch.testing.assert_close(network.state_dict()["features.0.weight"], kept["features.0.weight"])


def test_one_of_timm_has_its_pretrained_weights_and_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def create_model(name: str, *, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        if name == "gone":
            raise RuntimeError("no weights\nat all")
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        network.pretrained_cfg = {"mean": (0.25,), "std": (0.5,)}  # type: ignore[assignment]
        return network

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    found = teacher("timm:some.net", FACTS)
    assert asked == [("some.net", True)]
    with torch.no_grad():
        torch.testing.assert_close(
            found(IMAGES), found[1](((IMAGES * FACTS["std"][0] + FACTS["mean"][0] - 0.25) / 0.5).flatten(1))
        )
    with pytest.raises(ValueError, match=r"^teacher timm:gone: timm has no pretrained gone here: no weights$"):
        teacher("timm:gone", FACTS)


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        ("image_size", "is for 8 pixels a side, and the data has 7"),
        ("in_channels", "is for 1 channels, and the data has 7"),
    ],
)
def test_a_run_on_other_data_is_refused(finished: Path, fact: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        teacher(str(finished), {**FACTS, fact: 7})


def test_a_teacher_of_other_classes_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save(zoo.build("resnet8", 10, 1).state_dict(), file)
    few = dataclasses.replace(digits(), classes=digits().classes[:9])
    with pytest.raises(ValueError, match=r"all weights of resnet8 must be in .*fc\.weight \(10x64 in the file"):
        Session(config(f"kd(teacher='resnet8@{file}')"), few)
    run(config(epochs=1), tmp_path / "run")
    with pytest.raises(ValueError, match=r"run was trained on other classes: there are 10 classes there and 9 here"):
        Session(config(f"kd(teacher='{tmp_path / 'run'}')"), few)
    named = dataclasses.replace(digits(), classes=("none", *digits().classes[1:]))
    with pytest.raises(ValueError, match=r"on other classes: class 0 is '0' there and 'none' here"):
        Session(config(f"kd(teacher='{tmp_path / 'run'}')"), named)
    of_a_file = f"{config().model.name}@{tmp_path / 'run' / 'model.safetensors'}"
    with pytest.raises(ValueError, match=r"on other classes: class 0 is '0' there and 'none' here"):
        Session(config(f"kd(teacher='{of_a_file}')"), named)


def test_what_a_file_says_of_its_data_counts_with_a_named_network_too(tmp_path: Path) -> None:
    network = zoo.build("resnet8", 10, 1)
    file, bare = tmp_path / "w.safetensors", tmp_path / "bare.safetensors"
    save_file(network.state_dict(), str(file), {"mean": "[0.25]", "std": "[0.5]"})
    save_file(network.state_dict(), str(bare))
    pixels = IMAGES * FACTS["std"][0] + FACTS["mean"][0]
    with torch.no_grad():
        torch.testing.assert_close(teacher(f"resnet8@{file}", FACTS)(IMAGES), network.eval()((pixels - 0.25) / 0.5))
    torch.testing.assert_close(outputs(teacher(f"resnet8@{bare}", FACTS)), outputs(network))


def test_what_does_not_fit_is_refused_in_one_line(finished: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.safetensors"
    save_file(load_file(str(RunFolder(finished).model)), str(plain))
    wrong = tmp_path / "wrong.pt"
    torch.save(zoo.build("resnet8", 7, 1).state_dict(), wrong)
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    begun = tmp_path / "begun"
    RunFolder(begun).create(config())
    RunFolder(begun).write_manifest({"status": "running"})
    for name, said in (
        (str(plain), "nothing in the file names its network: write NETWORK@"),
        (
            f"resnet8@{wrong}",
            "all weights of resnet8 must be in .*wrong.pt: .*drawn fresh for the classes: fc.weight",
        ),
        (f"nothing@{wrong}", "unknown network 'nothing'"),
        (f"resnet8@{tmp_path / 'gone.pt'}", "there is no file of weights"),
        (str(text), "cannot be read as safetensors"),
        (str(begun), "is not finished"),
        (str(tmp_path), "is not the folder of one run; choose one that it holds"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            teacher(name, FACTS)
        assert "\n" not in str(error.value)
        assert str(error.value).count("teacher") >= 1


def test_a_teacher_of_a_deeper_network_that_cannot_take_the_images_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save(zoo.build("vgg16-bn", 10, 1).state_dict(), file)
    with pytest.raises(ValueError, match=r"teacher vgg16-bn@.*"):
        teacher(f"vgg16-bn@{file}", FACTS)


def test_a_run_learns_from_a_run_and_goes_on_only_with_the_same_one(finished: Path, tmp_path: Path) -> None:
    taught_by = tmp_path / "teacher"
    shutil.copytree(finished, taught_by)
    method = f"kd(teacher='{taught_by}',weight=0.5)"
    out = tmp_path / "student"
    run(config(method, epochs=1), out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert list(manifest["teachers"]) == [str(taught_by)]
    assert not torch.equal(weights(out)["fc.weight"], _plain(tmp_path)["fc.weight"])
    run(config(method, epochs=1), out, resume=True)
    taught_by.rename(tmp_path / "elsewhere")
    run(config(method, epochs=1), out, resume=True)  # it has done its work
    (tmp_path / "elsewhere").rename(taught_by)
    with pytest.raises(ValueError, match=r"train\.label_smoothing must be 0 with kd"):
        run(config(method, epochs=1, label_smoothing=0.1), tmp_path / "smoothed")
    with RunFolder(taught_by).model.open("ab") as file:
        file.write(b" ")
    with pytest.raises(
        ValueError, match=r"holds a run with another teacher: model\.safetensors holds other weights now"
    ):
        run(config(method, epochs=1), out, resume=True)


def test_a_run_goes_on_when_its_teacher_stands_elsewhere(finished: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(finished, tmp_path / name)
    first, moved = (f"kd(teacher='{tmp_path / name}')+wau" for name in ("one", "two"))
    run(config(first, epochs=2), tmp_path / "whole")
    with StopRequest() as stop, pytest.raises(Interrupted):
        run(config(first, epochs=2), tmp_path / "out", stop=stop, progress=StopAfter(stop, 20))
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(ValueError, match=r"holds a run of the teacher .*/one, not of timm:other"):
        run(config("kd(teacher='timm:other')+wau", epochs=2), tmp_path / "out", resume=True)
    run(config(moved, epochs=2), tmp_path / "out", resume=True)
    assert_same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


def _plain(tmp_path: Path) -> dict[str, Tensor]:
    run(config(epochs=1), tmp_path / "plain")
    return weights(tmp_path / "plain")
