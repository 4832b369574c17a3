"""Odd values of every option: exit code 2, one line that has the option as it was typed, and nothing is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from filtersmith import cli
from filtersmith.lab.typer_options import DEBUG

ODD_WHOLE = (
    *("", " ", "0", "-1", "+5", " 5", "5 ", "5.0", "1.5", "1e3", "010", "0x10", "1_000", "1,000", "\uff11\uff12"),
    *("nan", "inf", "many", "1:30", "9" * 5000, "[1]", "{}", "None", "true", "\n", "5\x00", "\u0665"),
)
ODD_METHODS = ("", ",", "baseline,,wau", "wauu", "wau(", "wau(rate=7)", "wau(rate=)", "+", "wau+wau", "WAU", "wau()x")
ODD_SETS = (
    *("train.lr=", "train.lr=0", "train.lr=nan", "train.lr=1:30", "train.lr=0x1", "train.lr=1_0", "train.lr=true"),
    *(
        "train.epochs=010",
        "train.epochs=1e3",
        "train.epochs=5.0",
        "train.epochs=yes",
        "train.epochs=[",
        "=1",
        "train",
    ),
    *("train.lr=1 # x", "train..lr=1", "train.lr.x=1", "train=3", "seed.x=1", "train.compile=yes", "data.augment=on"),
    *("data.name=3", "data.limit=0", "train.milestones=[1,-1]", "train.milestones=x", "train.optimizer=SGD"),
    *(
        "train.lr=&a 1",
        "train.lr=*a",
        "train.lr=!!int 3",
        "train={lr: 1, lr: 2}",
        "train={1: 2}",
        "train.lr=2020-01-01",
    ),
    *(
        "data.holdout=-1",
        "train.momentum=1",
        "train.gamma=0",
        "x=1",
        "train.lr=1e400",
        "data.image_size=" + "9" * 400,
    ),
)
CALLS = [
    *(("train", "--epochs", text) for text in ODD_WHOLE),
    *(("train", "--seed", text) for text in ODD_WHOLE if text != "0"),
    *(("compare", "--seeds", text) for text in ODD_WHOLE),
    *(("compare", "--methods", text) for text in ODD_METHODS),
    *(("train", "--method", text) for text in ODD_METHODS),
    *(("train", "--set", text) for text in ODD_SETS),
    *(
        ("train", "--data", text)
        for text in ("", "Digits", "digits ", "cifar", "hf:", "imagefolder:", "digits:x", "\n")
    ),
    *(("train", "--model", text) for text in ("", "resnet", "resnet21", "resnet020", "timm:no", "vanilla-0-0")),
    *(
        ("train", "--model", text)
        for text in ("no.py:make", "no_such_module:make", "a/net:make", ":make", "x.py", "no.py:f(")
    ),
    *(("train", "--weights", text) for text in ("", "no.pt", "a" * 300, "/dev/null", ".", "~nobody/x.pt")),
    *((command, "--recipe", text) for text in ("", "digit", ".", "/dev/null", "a" * 300) for command in ("train",)),
    *(
        (command, "--out", text)
        for text in ("", " ", "a" * 300, "a\0b")
        for command in ("train", "compare", "report")
    ),
    *(("train", "--precision", text) for text in ("", "FP32", "fp8", "32")),
    *(("train", "--resume", text) for text in ("", "yes", "AUTO")),
]


def test_there_are_many() -> None:
    assert len(CALLS) > 150


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(call)[:50])
def test_one_line_and_nothing_written(
    call: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, option, value = call
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DEBUG, "wished", False)
    monkeypatch.setattr(sys, "argv", ["filtersmith", command, *(["x"] if command == "report" else []), option, value])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    captured = capsys.readouterr()
    assert (caught.value.code, captured.out) == (2, ""), captured
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("filtersmith: error: ")
    assert option in captured.err
    assert len(captured.err) < 1000
    assert list(tmp_path.iterdir()) == []
