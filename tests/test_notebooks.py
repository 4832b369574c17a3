"""The notebooks of the documentation: they are stored without outputs, they run, and what they say comes true."""

from __future__ import annotations

import copy
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import filtersmith

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 180
"""What the first lines of a notebook promise, here of processor time: other processes may be at work."""

AT_HOME = f"""
import os, sys
assert sys.executable == {sys.executable!r} and fs.__file__ == {filtersmith.__file__!r}
assert sum(os.times()[:4]) < {SECONDS}, os.times()
"""
PROMISED = {
    "digits": """
assert same and equal and type(loaded) is type(plain)
assert not torch.equal(deployed.features[0].weight, plain.features[0].weight)
count = {name: sum(p.numel() for p in one.parameters()) for name, one in [("plain", plain), ("expanded", expanded)]}
assert count["expanded"] > 4 * count["plain"]
assert len(differences) == len(SEEDS) == 10
assert interval.low < differences.mean() < interval.high and 0 < smallest < 5
assert min(plain_accuracy.min(), method_accuracy.min()) > 90
assert plain_accuracy[0] == accuracy(plain) and method_accuracy[0] == accuracy(deployed)
""",
    "audit": """
assert (folder / "audit" / "audit.html").is_file() and by_command == dead
assert dead["2"] and dead["5"] and sum(map(len, dead_again.values())) < sum(map(len, dead.values()))
maps = fs.measure.activations(model, None, test_batches, where="after-relu")
assert all(not maps[layer][:, filters].any() for layer, filters in dead.items())
assert max(dead_costs) == 0 and no_dead == whole > 90 and no_cheap < whole - 5
stored = torch.load(folder / "net.pt", weights_only=True)
assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
""",
}
"""Notebook -> what its text says of its variables, run behind the last cell."""
PICTURES = {"digits": 3, "audit": 1}


def faults(notebook: dict[str, Any]) -> list[str]:
    """What is wrong with a notebook as it is stored."""
    cells, metadata = notebook["cells"], notebook["metadata"]
    ids = [cell.get("id") for cell in cells]
    wrong = [] if (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5) else ["is not of nbformat 4.5"]
    if metadata != {"kernelspec": metadata.get("kernelspec"), "language_info": {"name": "python"}}:
        wrong.append("has metadata of somebody's machine")
    if metadata.get("kernelspec", {}).get("name") != "python3":
        wrong.append("has another kernel than python3")
    if None in ids or len(set(ids)) != len(ids):
        wrong.append("has cells without an id of their own")
    for cell in cells:
        if cell["metadata"] or cell.get("attachments"):
            wrong.append(f"cell {cell.get('id')} has metadata or attachments")
        if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"] is not None):
            wrong.append(f"cell {cell.get('id')} has outputs: clear them before you commit")
    return wrong


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_all_notebooks_are_known() -> None:
    assert PROMISED.keys() == PICTURES.keys() == {path.stem for path in NOTEBOOKS}
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert all(f"](notebooks/{path.name})" in page for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    assert faults(read(path)) == []
    pytest.importorskip("nbformat").validate(read(path))


def test_the_rule_can_fail() -> None:
    notebook = read(FOLDER / "digits.ipynb")
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    for key, value in (("execution_count", 1), ("outputs", [{}]), ("metadata", {"collapsed": True}), ("id", None)):
        changed = copy.deepcopy(notebook)
        changed["cells"][notebook["cells"].index(first)][key] = value
        assert len(faults(changed)) == 1, key
    notebook["metadata"]["language_info"]["version"] = "3.11.2"
    assert faults(notebook) == ["has metadata of somebody's machine"]


def environment(folder: Path) -> dict[str, str]:
    """That of the kernel: this package, one thread, pictures shown, nobody's settings, its files in a folder."""
    source = str(Path(filtersmith.__file__).parent.parent)
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    here = {"IPYTHONDIR": str(folder / "ipython"), "TMPDIR": str(folder)}
    own = {**os.environ, **here, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    own.pop("MPLBACKEND", None)
    return own


def executed(path: Path, code: str, tmp_path: Path) -> list[Any]:
    """The outputs of all cells and one more; errors and warnings are raised. The kernel listens to loopback."""
    for library in ("ipykernel", "matplotlib", "scipy", "sklearn", "statsmodels"):
        pytest.importorskip(library)
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class Kernel(AsyncKernelManager):
        """Of this interpreter, whatever kernels are installed."""

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])

    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell(code))
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    where = {"metadata": {"path": str(work)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=where, kernel_manager_class=Kernel).execute(
        env=environment(temporary)
    )
    assert not list(work.iterdir()), "a notebook leaves nothing beside itself"
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output.text for output in outputs if output.get("name") == "stderr"], "warnings"
    return outputs


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_keeps_its_word(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    outputs = executed(path, AT_HOME + PROMISED[path.stem], tmp_path)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == PICTURES[path.stem]


BROKEN = {
    "an error": ("assert fs.__version__ == 'another', 'a broken promise'", ": a broken promise$"),
    "a warning": ("import warnings; warnings.warn('look here')", "look here.*warnings"),
    "a file": ("Path('deployed.pt').touch()", "leaves nothing beside itself"),
}


@pytest.mark.long
@pytest.mark.parametrize(("code", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_wrong_is_seen(code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    short = read(FOLDER / "digits.ipynb")
    short["cells"] = [cell for cell in short["cells"] if cell["id"] in ("title", "imports")]
    path = tmp_path / "short.ipynb"
    path.write_text(json.dumps(short), encoding="utf-8")
    error = pytest.importorskip("nbclient").exceptions.CellExecutionError
    with pytest.raises((error, AssertionError)) as raised:
        executed(path, AT_HOME + code, tmp_path)
    assert re.search(said, str(raised.value), re.S)
