"""The lines that docs/timm.md and docs/torchvision.md add to training scripts, put into loops of the same names.

The loops are ours (`reference/timm_loop.py`, `reference/torchvision_loop.py`): a comment stands where the page says
that lines go. Then the pages' own commands start them, shortened by options behind. The scripts themselves are
patched and run where a folder has them: `FILTERSMITH_SCRIPTS`, with `timm/train.py` and `torchvision/*.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from test_docs import blocks, commands
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

import filtersmith as fs

ROOT = Path(__file__).parent.parent
PLACE = re.compile(r"^( *)# place: (.*)\n", re.M)
HUNK = re.compile(r"^@@ -(\d+)(,0)? \+(\d+),(\d+) @@ (.*)\n((?:-.*\n)*)((?:\+.*\n)+)", re.M)
FILES = "--- a/train.py\n+++ b/train.py\n"
PAGES = ("timm", "torchvision")
SMALL = {
    "timm": ["--img-size", "32", "--warmup-epochs", "0"],
    "torchvision": ["--train-crop-size", "32"],
}
CPU = ["--device", "cpu", "--epochs", "2", "--batch-size", "4", "--workers", "0"]
LAST = {"timm": "runs/mine/last.pth.tar", "torchvision": "runs/checkpoint.pth"}


class Hunk(NamedTuple):
    """A part of a diff without context: its line in the script, in the patched one, and the lines themselves."""

    line: int
    new_line: int
    count: int
    where: str
    removed: str
    added: str


def diff(page: str, number: int = 0) -> str:
    return blocks(ROOT / "docs" / f"{page}.md", "diff")[number]


def hunks(page: str, number: int = 0) -> list[Hunk]:
    """The parts of a diff of the page; nothing else stands in it."""
    block = diff(page, number)
    found = [Hunk(int(n), int(m), int(c), where, old, new) for n, _, m, c, where, old, new in HUNK.findall(block)]
    assert FILES + "".join(one[0] for one in HUNK.finditer(block)) == block
    return found


def added(page: str, number: int = 0) -> dict[str, str]:
    """Where -> the lines to put in, of a diff of the page."""
    return {one.where: re.sub(r"^\+", "", one.added, flags=re.M) for one in hunks(page, number)}


def patched(page: str, **changed: str) -> str:
    """The loop with the page's lines, each where the page says."""
    for library in (page, "torchvision", "safetensors"):
        pytest.importorskip(library)
    loop = (ROOT / "tests" / "reference" / f"{page}_loop.py").read_text(encoding="utf-8")
    lines = {**added(page), **changed}
    places = [where for _, where in PLACE.findall(loop)]
    assert sorted(places) == sorted(lines), "the page names every place once, and no other"
    for indent, where in PLACE.findall(loop):
        assert textwrap.indent(textwrap.dedent(lines[where]), indent) == lines[where], f"as indented as {where!r}"
    return PLACE.sub(lambda found: lines[found[2]], loop)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    for number in range(18):
        image = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=generator).numpy()
        file = tmp_path / "photos" / ("train" if number < 12 else "val") / "abc"[number % 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return tmp_path


def command(page: str, *more: str, resume: bool = False) -> list[str]:
    """A command of the page without ``python``, shortened by options behind."""
    own = [line for block in blocks(ROOT / "docs" / f"{page}.md", "bash") for line in commands(block)]
    first, again = (line for line in own if line[0] == "python")
    assert again[: len(first)] == first
    assert again[len(first) :] == ["--resume", LAST[page]]
    return [*(again if resume else first)[1:], *SMALL[page], *CPU, *more]


def run(page: str, folder: Path, *more: str, resume: bool = False, script: str = "") -> str:
    """Start the script by the page's command, in this process. What it prints."""
    (folder / "train.py").write_text(script or patched(page))
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        patch.setattr(sys, "argv", command(page, *more, resume=resume))
        try:
            runpy.run_path("train.py", run_name="__main__")
        except SystemExit as ended:
            if ended.code is not None:
                raise
    return printed.getvalue()


def deployed(page: str, folder: Path) -> dict[str, torch.Tensor]:
    """What the page's last script loads with ``strict=True``; the file is taken away."""
    (script,) = blocks(ROOT / "docs" / f"{page}.md", "python")
    assert "strict=True" in script
    names: dict[str, Any] = {}
    with contextlib.chdir(folder):
        exec(compile(script, page, "exec"), names)
    for file in folder.glob("deployed.*"):
        file.unlink()
    found: dict[str, torch.Tensor] = names["model"].state_dict()
    return found


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("page", PAGES)
def test_the_diff_is_well_formed_and_only_adds(page: str) -> None:
    moved, last = 0, 0
    for one in hunks(page):
        assert not one.removed
        assert one.line > last
        assert one.new_line == one.line + moved + 1
        assert one.count == one.added.count("\n")
        moved, last = moved + one.count, one.line


@pytest.mark.parametrize("page", PAGES)
def test_the_second_diff_replaces_one_line_of_the_first(page: str) -> None:
    (second,) = hunks(page, 1)
    (first,) = (one for one in hunks(page) if one.where == second.where.partition(", instead of")[0])
    assert second.line == second.new_line == first.new_line
    assert second.removed[1:] == first.added.splitlines(keepends=True)[0][1:]
    assert second.count == second.added.count("\n")


@pytest.mark.parametrize("page", PAGES)
def test_the_page_names_the_places_of_the_loop(page: str) -> None:
    compile(patched(page), page, "exec")


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_stopped_and_resumed_it_deploys_the_weights_of_a_run_that_went_through(page: str, photos: Path) -> None:
    """By the page's commands: `kflo` collapsed into the plain network, `wau` with its generator in the checkpoint."""
    run(page, photos)
    through = deployed(page, photos)
    run(page, photos, "--stop", "1")
    assert not list(photos.glob("deployed.*"))
    run(page, photos, resume=True)
    assert_equal(deployed(page, photos), through)
    run(page, photos, "--stop", "1")
    forgets = re.sub(r"^( *)training\.load_state_dict\(.*\n", r"\1pass\n", patched(page), flags=re.M)
    run(page, photos, resume=True, script=forgets)
    other = deployed(page, photos)
    assert any(not torch.equal(through[name], other[name]) for name in through), "the state counts"


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_half_of_the_filters_are_held_in_every_step(page: str, photos: Path) -> None:
    kept: dict[torch.Tensor, torch.Tensor] = {}
    steps: list[tuple[int, int]] = []

    def look(optimizer: Any, *_: Any) -> None:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        kept.update({p: p.detach().clone() for p in trained if p.ndim == 4})

    def compare(*_: Any) -> None:
        same = torch.cat([(parameter == before).flatten(1).all(1) for parameter, before in kept.items()])
        steps.append((int(same.sum()), len(same)))

    hooks = register_optimizer_step_pre_hook(look), register_optimizer_step_post_hook(compare)
    try:
        run(page, photos, "--methods", "wau(0.5)", "--epochs", "1")
        held, steps = steps, []
        kept.clear()
        run(page, photos, "--methods", "baseline", "--epochs", "1")
    finally:
        for hook in hooks:
            hook.remove()
    assert len(held) == len(steps) == 3, "batches"
    assert all(some * 2 == every for some, every in held)
    assert all(some < every / 10 for some, every in steps)


def averaged(page: str, folder: Path) -> set[str]:
    """The names of the average of weights that a script has saved."""
    key = {"timm": "state_dict_ema", "torchvision": "model_ema"}[page]
    saved = torch.load(folder / LAST[page], weights_only=False)[key]
    return {name.removeprefix("module.") for name in saved} - {"n_averaged"}


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_averages_of_plain_weights_go_on_and_those_of_factors_are_refused(page: str, photos: Path) -> None:
    with pytest.raises(SystemExit, match=r"--model-ema would average what kernels are computed from"):
        run(page, photos, "--model-ema")
    run(page, photos, "--model-ema", "--methods", "wau(0.5)")
    assert averaged(page, photos) == deployed(page, photos).keys()


@pytest.mark.long
def test_timm_in_two_processes_with_accumulation_clipping_a_penalty_and_a_scaled_loss(photos: Path) -> None:
    more = ["--clip-grad", "1.0", "--grad-accum-steps", "2", "--amp-dtype", "float16"]
    (photos / "train.py").write_text(patched("timm"))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    methods = ["--methods", "kflo(width=4)+wau(0.5)+ortho-loss"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(fs.__file__).parent.parent)}
    started = [sys.executable, *torchrun, *command("timm", *more, *methods)]
    ended = subprocess.run(started, cwd=photos, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-4000:]
    assert all(value.isfinite().all() for value in deployed("timm", photos).values())


@pytest.mark.long
@pytest.mark.parametrize(
    ("page", "expected"),
    [("timm", [0.05, 0.1, 0.05, 0.1, 0.05, 0.0]), ("torchvision", [0.01, 0.1, 0.01, 0.1, 0.01, 0.001])],
)
def test_a_schedule_that_starts_anew(page: str, expected: list[float], photos: Path) -> None:
    ((where, lines),) = added(page, 1).items()
    place, separator, _ = where.partition(", instead of training.attach")
    assert separator
    resumes = added(page)[place].splitlines(keepends=True)[1:]
    after = {"timm": "main(): after train_one_epoch(...)", "torchvision": "main(): after lr_scheduler.step()"}[page]
    ended = added(page)[after]
    indent = ended[: len(ended) - len(ended.lstrip())]
    watched = f"{ended}{indent}print('rate', optimizer.param_groups[0]['lr'])\n"
    script = patched(page, **{place: lines + "".join(resumes), after: watched})
    more = ["--methods", "asa(0.5)", "--epochs", "6"]
    said = run(page, photos, *more, script=script)
    rates = [round(float(rate), 4) for rate in re.findall(r"^rate (\S+)", said, re.M)]
    assert rates == expected
    through = deployed(page, photos)
    run(page, photos, *more, "--stop", "3", script=script)
    run(page, photos, *more, resume=True, script=script)
    assert_equal(deployed(page, photos), through)


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_pruned_and_restored(page: str, photos: Path) -> None:
    run(page, photos, "--methods", "repr(s1=1,s2=1,cycles=1)", "--epochs", "3")
    assert all((value.flatten(1) != 0).any(1).all() for value in deployed(page, photos).values() if value.ndim == 4)


# --- the scripts themselves -------------------------------------------------------------------------------------


@pytest.fixture
def scripts(request: pytest.FixtureRequest, photos: Path) -> Path:
    """A folder with photos and the script of the library, patched by the page's diff."""
    page, given = request.param, os.environ.get("FILTERSMITH_SCRIPTS")
    if not given:
        pytest.skip("FILTERSMITH_SCRIPTS names no folder with timm/train.py and torchvision/train.py")
    for library in (page, "torchvision", "safetensors"):
        pytest.importorskip(library)
    for file in Path(given, page).glob("*.py"):
        shutil.copy(file, photos)
    digest = hashlib.sha256((photos / "train.py").read_bytes()).hexdigest()
    assert digest in (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), "the script that the page names"
    apply(page, photos)
    return photos


def apply(page: str, folder: Path, number: int = 0) -> None:
    said = subprocess.run(
        ["patch", "-p1"], input=diff(page, number), cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert said == "patching file train.py\n", "no offset, no fuzz"


def start(page: str, folder: Path, *more: str, resume: bool = False, before: Sequence[str] = ()) -> list[str]:
    """Start the patched script by the page's command, in a process. The learning rates that it prints."""
    smaller = ["--val-resize-size", "32", "--val-crop-size", "32", "--lr-step-size", "1"]
    options = [*more, *(smaller if page == "torchvision" else ["--log-interval", "1"])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(fs.__file__).parent.parent)}
    started = [sys.executable, *before, *command(page, *options, resume=resume)]
    ended = subprocess.run(started, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-4000:]
    return re.findall(r"(?:LR|lr): (\S+)", ended.stdout + ended.stderr)


FIRST = {"timm": "runs/mine/checkpoint-0.pth.tar", "torchvision": "runs/model_0.pth"}
EACH = pytest.mark.parametrize(("page", "scripts"), [(page, page) for page in PAGES], indirect=["scripts"])


@pytest.mark.long
@EACH
def test_the_script_itself_stopped_and_resumed(page: str, scripts: Path) -> None:
    through = start(page, scripts, "--epochs", "3")
    deployed(page, scripts)
    shutil.copy(scripts / FIRST[page], scripts / LAST[page])
    resumed = start(page, scripts, "--epochs", "3", resume=True)
    deployed(page, scripts)
    batches = len(through) // 3
    assert batches
    assert len(set(through)) == 3, "a schedule of three rates"
    assert resumed == through[batches:]


@pytest.mark.long
@EACH
def test_the_script_itself_averages(page: str, scripts: Path) -> None:
    start(page, scripts, "--model-ema", "--methods", "wau(0.5)")
    assert averaged(page, scripts) == deployed(page, scripts).keys()


@pytest.mark.long
@EACH
def test_the_script_itself_with_a_schedule_that_starts_anew(page: str, scripts: Path) -> None:
    apply(page, scripts, 1)
    rates = start(page, scripts, "--methods", "asa(0.5)", "--epochs", "3")
    assert len(set(rates)) == 1, "each of its phases begins with the first rate"
    deployed(page, scripts)


@pytest.mark.long
@pytest.mark.parametrize("scripts", ["timm"], indirect=True)
def test_the_script_of_timm_in_two_processes(scripts: Path) -> None:
    """The script hands DDP its device in a list, which takes GPUs only: changed here, not by the page."""
    text = (scripts / "train.py").read_text()
    assert "device_ids=[device]" in text
    (scripts / "train.py").write_text(text.replace("device_ids=[device]", "device_ids=None"))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    start("timm", scripts, "--clip-grad", "1.0", "--grad-accum-steps", "2", "--batch-size", "2", before=torchrun)
    assert all(value.isfinite().all() for value in deployed("timm", scripts).values())
