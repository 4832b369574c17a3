"""Files and modules of a user's own: each with what stands beside it, and known by its bytes."""

from __future__ import annotations

import random
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from filtersmith.zoo import importing


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def value(place: Path | str) -> object:
    with importing.imported(str(place)) as module:
        return module.value()


NET = "import blocks\ndef value():\n    import late\n    return blocks.VALUE, late.VALUE\n"


def test_two_files_each_with_its_own_neighbours(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, net=NET, blocks=f"VALUE = {name!r}", late=f"VALUE = {name!r}")
    path = list(sys.path)
    for name in "abab":  # those imported first are not taken for the other's, nor those imported when it is called
        assert value(tmp_path / name / "net.py") == (name, name)
    assert sys.path == path


def test_sources_are_digests_of_the_file_and_of_what_it_imports_from_its_folder(tmp_path: Path) -> None:
    folder = write(
        tmp_path, net=NET + "import json, torch\n", blocks="VALUE = 1", late="VALUE = 2", other="VALUE = 3"
    )
    value(folder / "net.py")
    wanted = {
        f"{name}.py": sha256((folder / f"{name}.py").read_bytes()).hexdigest() for name in ("net", "blocks", "late")
    }
    assert importing.sources(str(folder / "net.py")) == wanted
    write(folder, blocks="VALUE = 44")
    assert importing.sources(str(folder / "net.py")) == wanted, "what was imported, whatever stands there now"
    assert value(folder / "net.py") == (1, 2)
    importing.refresh()
    assert value(folder / "net.py") == (44, 2)
    assert importing.changed(wanted, importing.sources(str(folder / "net.py"))) == ["blocks.py"]


def test_what_a_file_draws_when_it_is_imported_is_left_out(tmp_path: Path) -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    before = drawn()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    seeds = "import random, numpy, torch\nrandom.seed(0)\nnumpy.random.seed(0)\ntorch.manual_seed(7)\n"
    assert value(write(tmp_path, net=seeds + "def value(): return torch.initial_seed()\n") / "net.py") != 7
    assert drawn() == before


def test_a_module_is_found_in_the_current_folder_or_in_that_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path / "own_package_1",
        __init__="",
        nets="from . import more\ndef value(): return more.VALUE\n",
        more="VALUE = 5",
    )
    monkeypatch.chdir(tmp_path)
    assert value("own_package_1.nets") == 5
    assert set(importing.sources("own_package_1.nets")) == {
        f"own_package_1/{n}.py" for n in ("__init__", "nets", "more")
    }
    write(tmp_path / "elsewhere", net="def value(): return 6\n")
    with pytest.raises(ValueError, match=r"there is no file net.py in "):
        value("net.py")
    with importing.searched_first(str(tmp_path / "elsewhere")):
        assert value("net.py") == 6
        assert importing.home("net.py") == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def value(:", r"net.py cannot be imported: SyntaxError: .*line 1"),
        ("x = 1\nx.y\n", r"net.py cannot be imported: AttributeError: 'int' object has no attribute 'y' \(line 2\)"),
        ("import sys\nsys.exit(3)\n", r"net.py cannot be imported: SystemExit: 3 \(line 2\)"),
        ("import no_such_module_1\n", r"net.py cannot be imported: ModuleNotFoundError: No module named"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(ValueError, match=said) as caught:
        value(write(tmp_path, net=text) / "net.py")
    assert "\n" not in str(caught.value)
    assert not [name for name in set(sys.modules) - before if name.startswith("net")]


def test_no_such_module() -> None:
    for name, said in [
        ("no_such_module_1", "there is no module no_such_module_1 in "),
        ("torchvison", r"did you mean torchvision:"),
        ("nets/net", r"a file is named with its ending: nets/net.py"),
    ]:
        with pytest.raises(ValueError, match=said):
            value(name)
