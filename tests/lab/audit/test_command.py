"""``filtersmith audit``, from the command line to its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.running import config, digits, run

from filtersmith import zoo
from filtersmith.lab.audit import command
from filtersmith.lab.audit.command import run as audit
from filtersmith.lab.audit.options import Options

pytest.importorskip("jinja2", reason="pages need the extra filtersmith[report]")
pytest.importorskip("matplotlib", reason="pages need the extra filtersmith[report]")


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_run_is_audited_on_its_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(config("wau", epochs=1), tmp_path / "run")
    assert audit(Options(str(tmp_path / "run"), images=50, oracle=20, out=tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("wau@vanilla-1-4 · weights: of the run: wau, seed 0, 1 epoch\n")
    assert all(len(line) <= 80 for line in printed.splitlines()[:-1])
    assert "Oracle on 20 images" in " ".join(printed.split())
    assert printed.splitlines()[-1] == f"Page: {(tmp_path / 'out' / 'audit.html').resolve()}"
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert (written["data"], written["images"]) == ("digits", 50)
    assert audit(Options(str(tmp_path / "run"), images=50, oracle=20, format="json")) == 0
    assert json.loads(capsys.readouterr().out)["oracle"] == written["oracle"]


def test_weights_alone_and_two_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(Options("resnet8", out=tmp_path)) == 0
    assert "Weights alone do not show" in capsys.readouterr().out
    assert audit(Options("resnet8", data="digits", against="vanilla-1-4", images=40, format="json")) == 0
    assert json.loads(capsys.readouterr().out)["against"]["title"] == "vanilla-1-4"


def test_images_are_brought_to_another_size(capsys: pytest.CaptureFixture[str]) -> None:
    sized = Options("lenet5", data="digits", images=20, format="json", settings=("data.image_size=32",))
    assert audit(sized) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 20


def test_the_page_is_there_before_anything_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(console: object, found: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(command, "_show", broken)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BrokenPipeError):
        audit(Options("torchvision:squeezenet1_1"))
    assert (tmp_path / "runs" / "audit" / "torchvision-squeezenet1-1" / "audit.html").exists()


def test_two_networks_of_one_name_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = (str(tmp_path / f"{name}.pt") for name in "ab")
    for file in (ours, theirs):
        torch.save(zoo.build("resnet8", 10, 1, image_size=8).state_dict(), file)
    both = Options("resnet8", ours, "digits", "resnet8", theirs, images=40, format="json")
    assert audit(both) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["target"], found["against"]["title"]) == (f"resnet8 ({ours})", f"resnet8 ({theirs})")
    runs = [str(tmp_path / f"seed-{seed}") for seed in range(2)]
    for seed, folder in enumerate(runs):
        run(config("wau", epochs=1, seed=seed), Path(folder))
    assert audit(Options(runs[0], against=runs[1], images=40, format="json")) == 0
    found = json.loads(capsys.readouterr().out)
    title = "wau@vanilla-1-4"
    assert (found["target"], found["against"]["title"]) == (f"{title} ({runs[0]})", f"{title} ({runs[1]})")
    assert audit(Options(runs[0], against="resnet8", images=40, format="json")) == 0
    assert json.loads(capsys.readouterr().out)["target"] == title


def test_the_oracle_needs_data_of_the_classes_that_the_network_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config("wau", epochs=1), tmp_path / "run")
    more = replace(digits(), classes=(*digits().classes, "more"))
    monkeypatch.setattr(command.CLASSIFICATION, "load", lambda options: more)
    with pytest.raises(ValueError, match=r"oracle must be left out: the network knows 10 classes, and digits has 11"):
        audit(Options(str(tmp_path / "run"), data="digits", images=50, oracle=20, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert audit(Options(str(tmp_path / "run"), data="digits", images=50, out=tmp_path / "out")) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options("nothing"), "TARGET must be the folder of a run"),
        (Options("resnet8", data="nothing"), "unknown data 'nothing'"),
        (Options("resnet8", oracle=5), "oracle must be given with --data, whose images it needs, got 5"),
        (
            Options("resnet8", against="nothing", data="digits"),
            "--against nothing: TARGET must be the folder of a run",
        ),
        (Options("vanilla", data="digits", against="resnet8", images=3), "images must be a whole number from 4 on"),
        (Options("resnet8", data="digits", images=40, oracle=41), "oracle must be at most the 40 of --images"),
        (Options("resnet8", format="json"), "out must be left out with --format json, which writes nothing"),
        (Options(""), "TARGET must be the folder of a run"),
        (Options("resnet8", settings=("data.image_size=16",)), "set must be given with --data"),
        (
            Options("resnet8", data="digits", settings=("train.lr=1",)),
            "set must be of data, such as data.image_size=64",
        ),
        (Options("torch.nn:Flatten"), "has no convolution"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, options: Options, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as error:
        audit(replace(options, out=tmp_path / "out"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
