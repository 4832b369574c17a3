"""What is released: wheel and sdist hold what they should and no more, the wheel runs, its types are complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import filtersmith

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
DATA = {"py.typed", "figures.json", "page.css", "page.js"}
"""Files of the package that are neither code nor of a kind that is all data."""

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("release")]


def run(*arguments: str | Path, **environment: str) -> str:
    """What a command prints, both streams; it must end with 0."""
    done = subprocess.run(
        [*map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, **environment},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def python(*arguments: str | Path, **environment: str) -> str:
    return run(sys.executable, *arguments, **environment)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built of it."""
    for tool in ("build", "hatchling"):
        pytest.importorskip(tool)
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (file,) = built.glob("*.whl")
    return zipfile.ZipFile(file)


def package_files() -> set[str]:
    """Of the package in this checkout."""
    files = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(SOURCE).as_posix() for path in files}


def test_the_wheel_has_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == package_files()
    others = {Path(name).name for name in names if not name.endswith((".py", ".yaml", ".html.j2"))}
    assert others == DATA
    assert sum(info.file_size for info in wheel.infolist()) < 5_000_000


def test_the_sdist_is_the_checkout_without_what_was_made_in_it(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        paths = [Path(*Path(member.name).parts[1:]) for member in archive.getmembers()]
    top = {path.parts[0] for path in paths}
    assert top == {
        *(
            "src",
            "tests",
            "docs",
            "benchmarks",
            "scripts",
            "results",
            "pyproject.toml",
            "constraints.txt",
            "Makefile",
        ),
        *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE", "PKG-INFO"),
        ".gitignore",
    }
    assert {path.relative_to("src").as_posix() for path in paths if path.parts[0] == "src"} == package_files()
    assert {path.name for path in (ROOT / "tests").rglob("test_*.py")} <= {path.name for path in paths}
    assert not [path for path in paths if path.suffix in (".pyc", ".pt", ".safetensors", ".parquet", ".zip")]
    assert file.stat().st_size < 4_000_000


def test_the_metadata_are_complete(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    about = Parser().parsestr(wheel.read(name).decode())
    assert (about["Name"], about["Version"]) == ("filtersmith", filtersmith.__version__)
    assert about["License-Expression"] == "MIT"
    assert about["License-File"] == "LICENSE"
    assert about["Description-Content-Type"] == "text/markdown"
    assert about.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    core = [one for one in about.get_all("Requires-Dist", []) if "extra" not in one]
    assert [one.partition(">")[0] for one in core] == ["torch"]
    (script,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert wheel.read(script).decode().split("\n")[:2] == ["[console_scripts]", "filtersmith = filtersmith.cli:main"]


def test_an_index_would_take_both(built: Path) -> None:
    pytest.importorskip("twine")
    said = python("-m", "twine", "--no-color", "check", "--strict", *built.iterdir())
    assert said.count("PASSED") == 2


def test_the_wheel_runs_where_it_is_installed(built: Path, tmp_path: Path) -> None:
    (file,) = built.glob("*.whl")
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path, file)
    alone = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    where = python("-c", "import filtersmith as fs; print(fs.__file__, fs.WAU.__name__)", **alone)
    assert where.split() == [str(tmp_path / "filtersmith" / "__init__.py"), "WAU"]
    listed = python("-m", "filtersmith", "list", "methods", **alone)
    assert all(name in listed for name in filtersmith.METHODS)
    assert python("-m", "filtersmith", "describe", "wau", **alone).count("\n") > 20
    assert "vanilla" in python("-m", "filtersmith", "list", "models", **alone)
    recipe = python("-m", "filtersmith", "compare", "--recipe", "demo", "--print-config", **alone)
    assert "digits" in recipe
    assert "repr/table4" in python("-m", "filtersmith", "reproduce", **alone)


def test_every_public_name_has_a_type(tmp_path: Path) -> None:
    """Of the package as a checker of somebody else's code sees it, beside the libraries that it imports."""
    pytest.importorskip("basedpyright")
    bin = str(Path(sys.executable).parent)
    path = {
        "PATH": os.pathsep.join([bin, os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--verifytypes", "filtersmith", "--ignoreexternal", "--outputjson"],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, **path},
        cwd=tmp_path,
        check=False,
    )
    found = json.loads(done.stdout)["typeCompleteness"]
    assert Path(found["pyTypedPath"]) == SOURCE / "filtersmith" / "py.typed"
    counts = found["exportedSymbolCounts"]
    unsure = [symbol["name"] for symbol in found["symbols"] if symbol["isExported"] and not (symbol["isTypeKnown"])]
    assert (unsure, counts["withAmbiguousType"], counts["withUnknownType"]) == ([], 0, 0)
    assert counts["withKnownType"] > 4_000


def test_a_checker_sees_the_names_that_are_imported_when_used(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    names = [name for name in filtersmith.__all__ if not name.startswith("__")]
    lines = [f"reveal_type(fs.{name})" for name in names]
    script.write_text("\n".join(["import filtersmith as fs", *lines, "fs.NOTHING", ""]))
    cache = str(ROOT / ".mypy_cache")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--cache-dir", cache, str(script)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(SOURCE)},
        check=False,
    )
    revealed = [line for line in done.stdout.splitlines() if "Revealed type is" in line]
    assert len(revealed) == len(names), done.stdout
    assert not [line for line in revealed if 'is "Any"' in line]
    assert 'Module has no attribute "NOTHING"' in done.stdout
