"""The page about methods of one's own: the package that it builds is installed into a fresh folder and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
FILES = dict(
    re.findall(r"^`([\w./]+)`\n\n```(?:python|toml)\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
)


def run(*command: str, folder: Path) -> str:
    """What a command of Python prints with the folder on its path, in one thread."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "600"}
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=300, env=environment, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def command_lines(*commands: list[str], folder: Path) -> str:
    """What several command lines print, in one process, which imports torch once; ``testing`` is the contract's."""
    code = (
        "import sys\n"
        "from filtersmith import cli, testing\n"
        f"for program, *arguments in {commands!r}:\n"
        "    sys.argv = ['filtersmith', *arguments]\n"
        "    try: sys.exit(testing.main(arguments) if program == 'testing' else cli.main())\n"
        "    except SystemExit as end: print('ended with', end.code or 0)\n"
    )
    (folder / "several.py").write_text(code, encoding="utf-8")
    return run("several", folder=folder)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of the page, built and installed by pip without an index."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name, text in FILES.items():
        (source / name).write_text(text, encoding="utf-8")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    run("pip", "install", *options, "--target", str(target), str(source), folder=source)
    return target


def test_the_page_names_the_file_of_every_block() -> None:
    text = PAGE.read_text("utf-8")
    assert set(FILES) == {"centralize.py", "pyproject.toml"}
    assert len(re.findall(r"^```(?:python|toml)", text, re.MULTILINE)) == len(FILES)
    assert len(FILES["centralize.py"].splitlines()) < 60


@pytest.mark.long
def test_the_package_is_a_method_like_any_other_and_one_that_does_not_load_stops_nothing(installed: Path) -> None:
    """All in one process, which imports torch once; what cannot be loaded is listed, and refused when it is used."""
    (installed / "broken.py").write_text("raise RuntimeError('no such card')\n")
    entries = next(installed.glob("*.dist-info")) / "entry_points.txt"
    before = entries.read_text()
    entries.write_text(
        before + "broken = broken:METHOD\nwrong-name = centralize:METHOD\nno-record = centralize:Centralize\n"
        "wau = centralize:METHOD\n"
    )
    options = ["--methods", "baseline,kflo+centralize(0.5)", "--seeds", "1", "--epochs", "1", "--out", "runs"]
    right = ["list"], ["describe", "centralize"], ["compare", *options]
    said = command_lines(
        *(["filtersmith", *one] for one in right),
        ["testing", "centralize"],
        ["filtersmith", "train", "--method", "broken"],
        ["testing", "broken"],
        folder=installed,
    )
    assert "centralize  takes the mean off every filter's gradient" in said
    assert "each step updates a random part" in said
    assert "Options and their defaults: strength=" in said
    assert "kflo+centralize(strength=0.5)" in said
    assert "centralize: 9 of 9 checks passed\n" in said
    assert re.search(
        r"broken +cannot be loaded: broken:METHOD of filtersmith-centralize: RuntimeError: no such", said
    )
    assert "must bear the method's name" in said
    assert "it must be a filtersmith.Method, got type" in said
    assert "method 'broken' cannot be loaded: broken:METHOD" in said
    assert "filtersmith: error: broken: broken:METHOD of" in said
    assert re.findall(r"ended with (\d)", said) == ["0", "0", "0", "0", "2", "2"]
