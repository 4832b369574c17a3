"""What the documentation shows works: its scripts run, its commands are accepted, its links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import filtersmith as fs
from filtersmith import cli
from filtersmith.lab.recipe.config import CompareConfig, merge

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("**/*.md"))]
BUILT_BY_ITS_OWN_TEST = {"extending.md", "exported-files.md", "hub.md", "timm.md", "torchvision.md"}
MEASURED = [ROOT / "results" / "README.md", ROOT / "benchmarks" / "README.md"]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))  # their prose; test_notebooks runs them


def prose(page: Path) -> str:
    """A page's Markdown; of a notebook that between its code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", prose(page), re.M | re.S)


# --- scripts ---------------------------------------------------------------------------------------------


def network() -> nn.Module:
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 10))


def given() -> dict[str, Any]:
    """The names that the README's example leaves to its reader."""
    loader = [(torch.randn(4, 3, 8, 8), torch.randint(10, (4,))) for _ in range(2)]
    return {"fs": fs, "torch": torch, "F": F, "model": network(), "loader": loader}


def test_the_readmes_example_trains_and_gives_back_the_plain_network() -> None:
    (script,) = blocks(README, "python")
    assert len(script.splitlines()) <= 13
    names = given()
    before = {name: value.clone() for name, value in names["model"].state_dict().items()}
    exec(compile(script, "README.md", "exec"), names)
    deployed = names["deployed"].state_dict()
    network().load_state_dict(deployed, strict=True)
    assert list(deployed) == list(before)
    assert not torch.equal(deployed["0.weight"], before["0.weight"])


SCRIPTS = [
    pytest.param(script, id=f"{page.stem}-{number}")
    for page in PAGES[1:]
    if page.name not in BUILT_BY_ITS_OWN_TEST
    for number, script in enumerate(blocks(page, "python"))
    if "fsdp_plugin" not in script  # which is for several processes: test_accelerate starts them
]


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 3


@pytest.mark.long
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_runs(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With half of ResNet-18, and images of a quarter."""
    for library in ("torchvision", "huggingface_hub", "onnxruntime", "onnxscript"):
        if library in script:
            pytest.importorskip(library)
    models = pytest.importorskip("torchvision.models")
    half = partial(models.ResNet, models.resnet.BasicBlock, [1, 1, 1, 1])
    monkeypatch.setattr(models, "resnet18", half)
    script = script.replace("64, 64)", "32, 32)")
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "script", "exec"), {"__name__": "__main__"})


# --- commands --------------------------------------------------------------------------------------------

SMALL = [*("--data", "digits", "--model", "vanilla-1-4", "--epochs", "1", "--set", "train.batch_size=512")]
"""Put behind a command's own options, so that it trains for a second on data that needs no network."""


def commands(text: str) -> list[list[str]]:
    """The command lines of a block, without their comments."""
    lines = text.replace("\\\n", " ").splitlines()
    return [arguments for line in lines if (arguments := shlex.split(line, comments=True))]


@pytest.fixture
def filtersmith(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], int]:
    def run(arguments: list[str]) -> int:
        monkeypatch.setattr(sys, "argv", ["filtersmith", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return run


@pytest.mark.long
def test_the_readmes_commands_work(
    filtersmith: Callable[[list[str]], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("torchvision", "timm", "onnxruntime"):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        file = Path("photos", "ab"[number % 2], f"{number}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80 + number, 70), (30 * number, 90, 60)).save(file)

    own = commands(blocks(ROOT / "docs" / "your-network.md", "bash")[0])  # which the README points to
    tried = [command for block in blocks(README, "bash") for command in commands(block)] + own
    make = [command[1] for command in tried if command[0] == "make"]
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M) for target in make)
    other = [command for command in tried if command[0] in ("echo", "python")]
    rest = [command[1:] for command in tried if command[0] == "filtersmith"]
    assert len(make) + len(other) + len(rest) == len(tried)
    names = ["compare", "train", "export", "audit", "report", "reproduce", "list", "describe", "compare"]
    assert [command[0] for command in rest] == names
    (_, text, _, file), (_, _, script) = other  # a network and its weights
    Path(file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, Path(file).stem, raising=False)
    exec(compile(script, "script", "exec"), {})
    for command in rest:
        if command[0] == "report":
            Path("runs/mine").mkdir(parents=True)
            shutil.copy(ROOT / "results" / "digits.json", "runs/mine/results.json")
        instead = {"compare": ["--dry-run"], "train": SMALL, "reproduce": ["--plan"]}.get(command[0], [])
        assert filtersmith([*command, *instead]) == 0, command
    assert Path("runs/one/export.onnx").is_file()


COMMANDS = [
    command[1:]
    for page in (*PAGES[1:], *MEASURED, *NOTEBOOKS)
    for text in (*blocks(page, "bash"), *re.findall(r"`(filtersmith [^`]*)`", prose(page)))
    for command in commands(text)
    if command[0] == "filtersmith"
]
"""Of the other pages, in blocks and within the text."""


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_is_accepted(
    filtersmith: Callable[[list[str]], int], command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    if command[0] in ("--install-completion", "--show-completion"):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr(
            "shellingham.detect_shell", lambda: ("bash", "/bin/bash")
        )  # not that of who runs the tests
    if command[0] in ("compare", "train"):
        command = [*command, "--print-config"]
    elif command[0] == "reproduce":
        command = [*command, "--plan"] if "--next" not in command else ["reproduce", "--help"]
    elif command[0] in ("audit", "export"):
        command = [*command, "--help"]
    elif command[0] == "report":
        there = sorted(ROOT.glob(command[1])) or [ROOT / "results" / "digits.json"]  # or where a reader has runs
        options = command[command.index("--format") :] if "--format" in command else []
        command = ["report", *map(str, there), *options, "--format", "json"]
    assert filtersmith(command) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_recipes_that_are_shown_can_be_used(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "yaml"):
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        assert merge(CompareConfig, recipe=str(tmp_path / "recipe.yaml")).methods


# --- the README, and links -------------------------------------------------------------------------------


def test_the_readme_is_short_and_in_order() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 7_000
    order = ["for people who train", "make demo", "make test", "table: results/demo.json", "fs.compose("]
    order += ["table: methods", "filtersmith compare", "filtersmith describe", "## Limits"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *PAGES[1:], *MEASURED, *NOTEBOOKS], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", prose(page))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tests_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", page.read_text(encoding="utf-8"))
    assert not [file for file in named if not (ROOT / file).is_file()]


@pytest.mark.parametrize("page", MEASURED, ids=lambda page: page.parent.name)
def test_measurements_are_led_by_three_findings(page: Path) -> None:
    before_the_first_section = page.read_text(encoding="utf-8").partition("\n## ")[0]
    assert re.findall(r"^(\d)\. \*\*", before_the_first_section, re.M) == ["1", "2", "3"]
