"""The command line: what it prints, what it exits with, and one line for everything that is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference.example_results import by_method
from reference.running import printed
from torch import nn

from filtersmith import cli, zoo
from filtersmith.lab import cards
from filtersmith.lab.results.document import save
from filtersmith.lab.training import run as train
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.typer_options import DEBUG
from filtersmith.methods import METHODS

TINY = ["--model", "vanilla-1-4", "--epochs", "1", "--set", "train.batch_size=256", "--set", "train.lr=0.05"]


@dataclass
class Ended:
    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: Any) -> Ended:
        monkeypatch.setattr(DEBUG, "wished", False)
        monkeypatch.setattr(sys, "argv", ["filtersmith", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        assert isinstance(code, int)
        return Ended(code, *capsys.readouterr())

    monkeypatch.setenv("COLUMNS", "80")
    return run


def assert_one_line(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code, ended.err
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("filtersmith: error: ")
    assert [word for word in words if word.lower() not in lines[0].lower()] == [], lines[0]


def assert_fits(text: str, width: int = 80) -> None:
    assert [line for line in text.splitlines() if len(line) > width] == []


# Commands


def test_list(command: Command) -> None:
    assert command("list").out == command("list", "methods").out
    for what, names in {
        "methods": ["baseline", *METHODS],
        "models": ["vanilla-N-X[-nobn][-dropout]: C^N(X)", "timm:NAME", "(BN-Inception, RePr T5)"],
        "data": ["digits", "cifar10", "imagefolder:PATH", "hf:PATH_OR_ID"],
        "recipes": ["digits", "cifar-c3", "demonstration"],
    }.items():
        ended = command("list", what)
        assert (ended.code, ended.err) == (0, "")
        assert [name for name in names if name not in ended.out] == []
        assert_fits(ended.out)
    rows = [line.split() for line in command("list", "methods").out.splitlines() if not line.startswith(" ")]
    assert [row[0] for row in rows] == ["method", "baseline", *METHODS], "a row each, in their order"
    changed = [row[0] for row in rows if "changed" in row]
    assert changed == [name for name, record in METHODS.items() if not record.same_network]


def test_list_models(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ("resnetD[-b1|-b2|-noaffine]", "lenet5", "torchvision:NAME", "timm:NAME")
    monkeypatch.setattr(zoo, "MODELS", [info for info in zoo.MODELS if info.pattern in chosen])
    lines = command("list", "models").out.splitlines()
    rows = [re.split(" {2,}", line.strip()) for line in lines if line.startswith("  ")]
    assert [row[0] for row in rows] == [name for info in zoo.MODELS for name in info.names], "each has its row"
    assert rows[0] == ["resnet20", "269,722", "40.6M", "32x32x3", "RePr T3, T4"]
    assert ["lenet5", "61,706", "417k", "28x28x1", "KFLO Fig. 1"] in rows
    assert ["torchvision:resnet50", "25,557,032", "4.09G", "224x224x3", "RePr T5, T7"] in rows
    heads = [line.split(": ")[0] for line in lines if line.startswith(tuple(f"{name}: " for name in chosen))]
    assert heads == list(chosen)


@pytest.mark.parametrize("method", ["baseline", "sas"])
def test_describe(command: Command, method: str) -> None:
    ended = command("describe", method)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == cards.describe(method, 80) + "\n"


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (["compare", "--jobs", "0"], "--jobs must be a whole number of at least 1"),
        (["compare", "--jobs", "x"], "got 'x'"),
        (["compare", "--time-limit", "5x"], "--time-limit must be a time above 0 in h, m and s, such as 90s, 12m"),
        (["train", "--time-limit", ""], "--time-limit must be a time above 0"),
    ],
)
def test_numbers_of_jobs_and_times(command: Command, tmp_path: Path, ask: list[str], words: str) -> None:
    assert_one_line(command(*ask, *TINY, "--out", tmp_path / "out"), 2, words)
    assert not (tmp_path / "out").exists()


def test_the_time_limit(command: Command, tmp_path: Path) -> None:
    for ask, what in ((["train"], "stopped before the first batch"), (["compare", "--seeds", 1], "0 of 3 runs done")):
        ended = command(*ask, *TINY, "--time-limit", "1.5s", "--out", tmp_path / ask[0])
        assert_one_line(ended, 75, "time limit of 1.5s: ", what, "the same command goes on from there")
    assert not (tmp_path / "train").exists()


def test_what_earlier_calls_trained_is_kept_and_a_dry_run_says_so(command: Command, tmp_path: Path) -> None:
    ask = ["compare", *TINY, "--out", tmp_path, "--methods"]
    command(*ask, "baseline,wau", "--seeds", 2)
    before = (tmp_path / "config.yaml").read_text()
    ended = command(*ask, "baseline,asa", "--seeds", 1, "--dry-run")
    assert ended.out.startswith("kept: wau, seed 1 of an earlier call\n")
    assert "asa, seed 0: to do" in ended.out
    assert (tmp_path / "config.yaml").read_text() == before
    ended = command(*ask, "baseline", "--seeds", 1)
    assert "kept: wau, seed 1 of an earlier call" in ended.out
    assert re.search(r"^wau +[0-9]", ended.out, re.MULTILINE), "it stands in the table"


def test_print_config_is_a_recipe(command: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    for name, more in (("compare", ["--methods", 'baseline,flow(rates=[1,0.5]),"wau"']), ("train", ["--seed", 4])):
        out = command(name, *TINY, *more, "--print-config").out
        recipe.write_text(out)
        assert command(name, "--recipe", recipe, "--print-config").out == out
        assert "batch_size: 256" in out
    assert not (Path("runs") / "compare" / recipe.name).exists()


def test_options_beat_recipes_and_assignments_beat_options(command: Command) -> None:
    out = command("train", "--recipe", "digits", "--epochs", 7, "--set", "train.lr=0.7", "--print-config").out
    assert "epochs: 7" in out
    assert "lr: 0.7" in out
    assert "batch_size: 64" in out


def test_compare(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    ask = [
        "compare",
        *TINY,
        "--methods",
        "baseline,conv-lr(0.5),wau(layers=['features.0'])",
        "--seeds",
        2,
        "--out",
        out,
    ]
    dry = command(*ask, "--dry-run")
    assert (dry.code, dry.err) == (0, "")
    assert "1,437 training and 360 test images of 8x8, 10 classes, 6 steps per epoch" in dry.out
    assert "  wau(layers=['features.0']), seed 1: to do" in dry.out
    assert "Nothing was trained" in dry.out
    assert list(tmp_path.iterdir()) == []

    ended = command(*ask)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("digits · vanilla-1-4 · 1 epoch · sgd 0.05, cosine · 2 seeds\n")
    *body, last = ended.out.splitlines()
    assert_fits("\n".join(body))
    assert "[6/6] wau(layers=['features.0']), seed 1: test" in ended.out
    assert "conv-lr(rate=0.5)" in ended.out.split("Last epoch,")[1]
    assert last == f"Report: {out.resolve()}/report.html"
    assert "wau(<wbr>layers=[" in (out / "report.html").read_text()
    assert "finished" in command(*ask, "--dry-run").out

    again = command("report", out, "--out", tmp_path / "new" / "page.html")
    assert (again.code, again.err) == (0, "")
    assert again.out.splitlines()[-1] == f"Report: {tmp_path}/new/page.html"
    assert "conv-lr" in (tmp_path / "new" / "page.html").read_text()
    check_formats(command, out)

    assert_one_line(command(*ask, "--set", "train.lr=0.1"), 2, "train.lr is 0.05 there and 0.1 here", "another --out")

    # A run that fails: the table all the same, and exit code 1.
    def fails(self: train.Session, loss: Any) -> None:
        raise RunFailed("loss is nan [bold]here[/bold]")

    monkeypatch.setattr(train.Session, "_check_finite", fails)
    ended = command(*ask, "--seeds", 3)
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.count("seed 2: failed: loss is nan [bold]here[/bold]") == 3
    assert "(finished before)" in ended.out
    assert ended.out.splitlines()[-1].startswith("Report: ")


def check_formats(command: Command, out: Path) -> None:
    """Of `report`, for the folder of a comparison of three methods with two seeds."""
    (out / "report.html").unlink()
    markdown, table, listed = (command("report", out, "--format", each) for each in ("markdown", "csv", "json"))
    assert [(ended.code, ended.err) for ended in (markdown, table, listed)] == [(0, "")] * 3
    assert markdown.out.startswith("**digits · vanilla-1-4")
    assert "| `conv-lr(rate=0.5)` |" in markdown.out
    rows = json.loads(listed.out)
    assert [(row["method"], row["n"], row["p"]) for row in rows[:2]] == [
        ("baseline", 2, None),
        ("conv-lr(rate=0.5)", 2, None),
    ]
    assert table.out.splitlines()[0] == ",".join(rows[0])
    assert len(table.out.splitlines()) == 4
    twice = json.loads(command("report", out, out / "results.json", "--format", "json").out)
    assert twice[0]["comparison"].startswith("digits · vanilla-1-4")
    assert "One of the 360 test images is 0.28 points." in markdown.out
    assert not (out / "report.html").exists(), "only text comes with a page"
    refused = command("report", out, "--format", "csv", "--out", out / "page.html")
    assert_one_line(refused, 2, f"--out {out}/page.html", "--format text", "--format csv")
    assert_one_line(command("report", out, "--format", "html"), 2, "'html'", "'text', 'markdown', 'csv', 'json'")


def test_what_is_piped_has_a_line_for_each_row(tmp_path: Path) -> None:
    """However long the names: rich takes 80 columns where there is no terminal."""
    long = "wau(rate=0.25,unit=input-channel,draw=with-replacement)+ortho-loss(weight=0.0001,layers=['features.0'])"
    methods = {"baseline": [0.5, 0.5, 0.5], long: [0.5, 0.6, 0.7], "kflo(depth=3,width=2)": [0.5, 0.4, 0.5]}
    save(by_method(methods), tmp_path / "results.json")
    lines = printed("report", str(tmp_path), file=tmp_path / "printed").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("──"))
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == list(methods)
    assert [line.split(": ")[0] for line in lines[start + 5 : start + 7]] == [f"· {name}" for name in methods][1:]
    assert all(line.endswith(")") for line in lines[start + 5 : start + 7])


def test_train(command: Command, tmp_path: Path) -> None:
    ask = [
        "train",
        *TINY,
        "--method",
        "wau(layers=['fc','features.0'],rate=0.5)",
        "--seed",
        3,
        "--out",
        tmp_path / "run",
    ]
    ended = command(*ask)
    assert (ended.code, ended.err) == (0, "")
    assert "epoch   1/1  loss " in ended.out
    assert "wau(rate=0.5,layers=[fc,'features.0']), seed 3: test " in ended.out
    assert ended.out.splitlines()[-1] == f"Deployed network: {tmp_path}/run/model.safetensors"
    assert_fits("\n".join(ended.out.splitlines()[:-1]))
    assert_one_line(command(*ask), 2, "--out", "holds a run already", "--resume auto")
    assert_one_line(command(*ask, "--dry-run"), 2, "--out", "holds a run already", "--resume auto")
    assert "seed 3: finished" in command(*ask, "--dry-run", "--resume", "auto").out
    assert command(*ask, "--resume", "auto").code == 0
    assert_one_line(command(*ask, "--resume", "auto", "--epochs", 2), 2, "train.epochs is 1 there and 2 here")


def test_export(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert command("train", *TINY, "--out", out).code == 0
    ended = command("export", out, "--format", "pt2")
    assert (ended.code, ended.err) == (0, "")
    facts, written = ended.out.splitlines()
    assert re.fullmatch(r"\d+ kB: 1 convolution, no difference \(torch [0-9.]+\)", facts)
    assert written == f"Wrote {out}/export.pt2"
    onnx = command("export", out, "--format", "onnx", "--out", tmp_path / "new" / "net.onnx")
    assert (onnx.code, onnx.err) == (0, "")
    facts, written = onnx.out.splitlines()
    assert re.fullmatch(r"\d+ kB: 1 convolution, relative difference \d.\de-\d\d \(onnxruntime [0-9.]+\)", facts)
    assert written == f"Wrote {tmp_path}/new/net.onnx"
    assert_one_line(command("export", tmp_path, "--format", "pt2"), 2, "not the folder of one run", str(out))
    assert_one_line(command("export", out, "--format", "onn"), 2, "'onn'", "'safetensors', 'pt2', 'onnx'")
    assert_one_line(command("export", out), 2, "--format")
    (out / "manifest.json").write_text('{"status": "interrupted"}')
    assert_one_line(command("export", out, "--format", "pt2"), 2, "not finished", f"--resume auto --out {out}")
    assert_fits(command("export", "--help").out)


def test_module_and_debug() -> None:
    """The two ways to start it, in processes of their own; and a traceback for those who ask."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=60)

    ended = run(sys.executable, "-m", "filtersmith", "describe", "wauu")
    assert ended.returncode == 2
    assert ended.stderr.startswith("filtersmith: error: unknown method 'wauu' (did you mean 'wau'?)")
    assert ended.stderr.count("\n") == 1
    script = Path(sys.executable).with_name("filtersmith")
    ended = run(str(script), "describe", "wauu", "--debug")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")
    assert "ValueError: unknown method 'wauu'" in ended.stderr


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(DEBUG, "wished", False)
    monkeypatch.setattr(sys, "argv", ["filtersmith", "describe", "wauu", "--debug"])
    with pytest.raises(ValueError, match="unknown method 'wauu'"):
        cli.main()


def test_help(command: Command) -> None:
    ended = command()
    assert ended.code == 2
    assert "compare" in ended.out + ended.err
    whole = command("--help")
    assert whole.code == 0
    assert_fits(whole.out)
    for name in ("compare", "train", "export", "report", "list", "describe", "doctor"):
        assert f"\n  {name} " in whole.out
        ended = command(name, "--help")
        assert ended.code == 0
        assert_fits(ended.out)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--method", "wauu"], ["unknown method 'wauu'", "did you mean 'wau'", "conv-lr"]),
        (["train", "--method", "wau("], ["method", "'wau('", "name(option=value, ...)"]),
        (["train", "--method", "wau(ratio=1)"], ["unknown option of wau 'ratio'", "rate, seed, unit"]),
        (["train", "--method", "wau(rate=1.5)"], ["rate must be a number in (0, 1], got 1.5"]),
        (["train", "--method", "asa(rate=0)"], ["rate must be a number in (0, 1], got 0"]),
        (["train", "--method", "conv-lr(-1)"], ["rate must be a number in (0, 1], got -1"]),
        (["train", "--method", "kflo(1)"], ["depth must be a whole number of at least 2, got 1"]),
        (["train", "--method", "do-conv(4)"], ["'features.0'", "d_mul must be at least its window of 9", "got 4"]),
        (["train", "--method", "acnet(3)"], ["acnet with options among none", "'acnet(3)'"]),
        (["train", "--method", "ema+ema(0.9)"], ["method must be without ema twice", "'ema+ema(decay=0.9)'"]),
        (["compare", "--methods", "baseline,kflo(wide=2)"], ["unknown option of kflo 'wide'", "depth, width, init"]),
        (["train", "--model", "resnet21"], ["resnet depth must be 6n+2", "got 21"]),
        (["train", "--model", "nonet"], ["unknown network 'nonet'", "vanilla", "timm:NAME"]),
        (["train", "--model", "alexnet"], ["image_size must be at least", "for alexnet, got 8"]),
        (["train", "--data", "cifar"], ["unknown data 'cifar'", "did you mean 'cifar10'", "digits"]),
        (["train", "--data", "imagefolder:"], ["imagefolder: followed by a path", "'imagefolder:'"]),
        (["train", "--data", "imagefolder:/no/where"], ["no folder /no/where"]),
        (["train", "--epochs", "0"], ["--epochs: train.epochs", "a whole number of at least 1", "got '0'"]),
        (["train", "--epochs", "many"], ["--epochs: train.epochs", "'many'", "whole number"]),
        (["train", "--seed", "-1"], ["--seed: seed must be", "'-1'", "from 0 to 4,294,967,295"]),
        (["train", "--precision", "fp8"], ["error: --precision: 'fp8'", "'fp32', 'bf16', 'fp16'"]),
        (["train", "--resume", "yes"], ["--resume", "'yes'", "'auto', 'never'"]),
        (["train", "--set", "train.lr"], ["--set takes NAME=VALUE", "'train.lr'"]),
        (["train", "--set", "train.learning=1"], ["unknown option 'train.learning'", "train.lr"]),
        (["train", "--set", "train.lr=-1"], ["--set train.lr=-1: train.lr must be a number above 0, got -1"]),
        (["train", "--set", "train.batch_size=0"], ["train.batch_size", "at least 1"]),
        (["train", "--recipe", "digit"], ["unknown recipe", "'digit'", "did you mean 'digits'"]),
        (["train", "--lr", "1"], ["--lr"]),
        (["compare", "--methods", "wau"], ["methods must include 'baseline'", "got wau"]),
        (["compare", "--methods", "baseline,"], ["method", "''"]),
        (["compare", "--methods", "baseline,wau,wau"], ["got wau twice"]),
        (["compare", "--methods", "baseline,wau(rate=7)"], ["rate must be a number in (0, 1], got 7"]),
        (["compare", "--seeds", "0"], ["seeds must be a number from 1 to 10,000 or a list, got '0'"]),
        (["compare", "--seeds", "few"], ["seeds must be a number from 1", "'few'"]),
        (["compare", "--data", "${"], ["--data: unknown data '${'"]),
        (["compare", "--set", "seeds=-1"], ["seeds must be a number from 1"]),
        (["list", "methodes"], ["unknown list 'methodes' (did you mean 'methods'?)", "models, data, tasks, recipes"]),
        (["describe", "asap"], ["unknown method 'asap'", "did you mean 'asa'"]),
        (["describe"], ["Missing argument", "(see `filtersmith describe --help`)"]),
        (["report"], ["Missing argument", "(see `filtersmith report --help`)"]),
        (["describe", "WAU"], ["did you mean 'wau'"]),
        (["train", "--set", "lr=1"], ["unknown option 'lr'", "did you mean 'train.lr'"]),
        (["train", "--data", "/"], ["--data: data must be imagefolder:/ or hf:/ to read that path, got '/'"]),
        (["train", "--recipe", "no/such.yaml"], ["there is no file no/such.yaml", "list recipes"]),
        (["report", "/no/where"], ["/no/where", "does not exist"]),
        (["comparé"], ["comparé"]),
    ],
    ids=lambda value: "-".join(value)[-30:] if value[0] in ("train", "compare", "list", "describe", "report") else "",
)
def test_bad_usage(command: Command, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    out = ["--out", tmp_path / "out"] if arguments[0] in ("train", "compare") else []
    assert_one_line(command(*arguments, *out), 2, *words)
    assert list(tmp_path.iterdir()) == []


def image(path: Path, size: tuple[int, int] = (8, 8)) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)).save(path)


def unequal_images(place: Path) -> tuple[str, list[str]]:
    for number in range(6):
        image(place / ("a" if number < 3 else "b") / f"{number}.png", (8, 8) if number != 4 else (8, 9))
    return f"imagefolder:{place}", ["4.png", "9x8", "data.image_size"]


def images_that_are_not_square(place: Path) -> tuple[str, list[str]]:
    for number in range(20):
        image(place / ("a" if number < 10 else "b") / f"{number}.png", (8, 9))
    return f"imagefolder:{place}", ["8 high and 9 wide", "data.image_size=8"]


def empty_folder(place: Path) -> tuple[str, list[str]]:
    place.mkdir()
    return f"imagefolder:{place}", [str(place), "no class folders"]


def empty_class(place: Path) -> tuple[str, list[str]]:
    image(place / "a" / "1.png")
    (place / "b").mkdir()
    return f"imagefolder:{place}", [str(place), "b"]


def image_that_is_none(place: Path) -> tuple[str, list[str]]:
    for number in range(20):
        image(place / ("a" if number < 10 else "b") / f"{number}.png")
    (place / "b" / "15.png").write_bytes(b"no image")
    return f"imagefolder:{place}", ["15.png", "cannot be read"]


def parquet(place: Path, labels: list[int], size: int = 8) -> Path:
    datasets = pytest.importorskip("datasets")
    place.mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    pictures = [np.full((size, size, 3), number, np.uint8) for number in range(len(labels))]
    columns = {"image": pictures, "label": [min(max(label, 0), 1) for label in labels]}
    whole = datasets.Dataset.from_dict(columns, features=features)
    table = whole.data.table
    whole_file = place / "train-00000-of-00001.parquet"
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = table.set_column(1, table.schema.field("label"), pa.array(labels, pa.int64()))
    pq.write_table(table, whole_file)
    return whole_file


def labels_out_of_range(place: Path) -> tuple[str, list[str]]:
    parquet(place, [0, 1] * 9 + [0, 7])
    return f"hf:{place}", ["label 7", "0 to 1"]


def corrupt_parquet(place: Path) -> tuple[str, list[str]]:
    file = parquet(place, [0, 1] * 10)
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    file.write_bytes(content)
    return f"hf:{place}", [file.name, "cannot be read"]


def truncated_parquet(place: Path) -> tuple[str, list[str]]:
    file = parquet(place, [0, 1] * 10)
    file.write_bytes(file.read_bytes()[:-200])
    return f"hf:{place}", [file.name]


def folder_without_parquet(place: Path) -> tuple[str, list[str]]:
    place.mkdir()
    return f"hf:{place}", ["no parquet file", str(place)]


@pytest.mark.parametrize(
    "make",
    [
        unequal_images,
        images_that_are_not_square,
        empty_folder,
        empty_class,
        image_that_is_none,
        labels_out_of_range,
        corrupt_parquet,
        truncated_parquet,
        folder_without_parquet,
    ],
)
def test_bad_data(command: Command, tmp_path: Path, make: Callable[[Path], tuple[str, list[str]]]) -> None:
    name, words = make(tmp_path / "data")
    for ask in (["train"], ["compare"], ["compare", "--dry-run"]):
        assert_one_line(command(*ask, *TINY, "--data", name, "--out", tmp_path / "out"), 2, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_network_without_convolutions(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "build", lambda *a, **k: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    for method in ("wau", "sas", "conv-lr"):
        ended = command("train", *TINY, "--method", method, "--out", tmp_path / "run")
        assert_one_line(ended, 2, "Sequential", "convolution")
    ended = command("compare", *TINY, "--methods", "baseline,wau", "--out", tmp_path / "out")
    assert_one_line(ended, 2, "Sequential", "convolution")
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_written_to(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/below"):
        for name in ("train", "compare"):
            ended = command(name, *TINY, "--out", tmp_path / out)
            assert_one_line(ended, 2, f"--out {tmp_path / out}", "cannot be written to")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_loss_that_is_not_finite(command: Command, tmp_path: Path) -> None:
    ended = command("train", *TINY, "--set", "train.lr=1e30", "--out", tmp_path / "run")
    assert_one_line(ended, 1, "loss is nan", "train.lr=1e+30", "a smaller train.lr")
    assert (tmp_path / "run" / "manifest.json").is_file()
    ended = command("train", *TINY, "--set", "train.lr=1e30", "--out", tmp_path / "run", "--resume", "auto")
    assert_one_line(ended, 1, "loss is nan")


def test_ctrl_c_before_anything_is_there(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(config: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "load_data", interrupted)
    assert_one_line(command("train", "--out", tmp_path / "run"), 130, "stopped at once")


def test_every_option_says_how_it_is_called() -> None:
    """Some versions of typer take a metavar for the name: `--methods` was not there with them."""
    from typing import Annotated, get_args, get_origin, get_type_hints

    from typer.models import OptionInfo

    seen = 0
    for command in cli.app.registered_commands:
        assert command.callback is not None
        for name, kind in get_type_hints(command.callback, include_extras=True).items():
            if get_origin(kind) is Annotated:
                for given in get_args(kind)[1:]:
                    if isinstance(given, OptionInfo):
                        seen += 1
                        words = (given.default, *(given.param_decls or ()))  # the first word stands for a default
                        assert any(str(word).startswith("--") for word in words), f"{command.name}: {name}"
    assert seen > 40
