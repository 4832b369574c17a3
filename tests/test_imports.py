"""Imports flow one way, and the core needs torch alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import filtersmith

ROOT = Path(filtersmith.__file__).parent

FLOORS: tuple[tuple[str, ...], ...] = (
    ("common",),
    ("filters",),
    ("optim", "graph"),
    ("reparam", "sharing"),
    ("pruning",),
    ("measure",),
    ("methods",),
    ("filtersmith",),
    ("integrations", "zoo"),
    ("lab",),
    ("cli",),
    ("__main__", "testing"),
)
"""From the bottom up: folders and single files. Each knows the floors below its own and its own folder."""

FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
NO_METHODS = (
    "__init__",
    "registry",
    "lifecycle",
    "spelling",
    "outside",
    "parts",
    "advice",
    "attachment",
    "composition",
    "why_not",
)
"""Files of `methods` that are no method; what they give, methods may use."""
SAME_PAPER = {"methods/flow.py": {"filtersmith.methods.wau"}}
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def part_of(module: str) -> str:
    """What of FLOORS ``filtersmith.x.y`` belongs to: ``x``, or the public names themselves."""
    return module.split(".")[1] if "." in module else "filtersmith"


def module_name(file: str) -> str:
    return ".".join(["filtersmith", *file.removesuffix(".py").removesuffix("__init__").strip("/").split("/")]).rstrip(
        "."
    )


def own_imports(file: str) -> Iterator[tuple[int, str]]:
    """``(line, module)`` of what a file imports of this package, inside functions too."""
    package = module_name(file) if file.endswith("__init__.py") else module_name(file).rpartition(".")[0]
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] == "filtersmith")
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            if module.split(".")[0] == "filtersmith":
                for alias in node.names:
                    # "from filtersmith import zoo" is the module, "from filtersmith import WAU" a public name
                    inner = ROOT.joinpath(*module.split(".")[1:], alias.name)
                    is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                    yield node.lineno, f"{module}.{alias.name}" if is_module else module


def may_import(me: str, other: str) -> bool:
    """Whether a part may know another: one of a lower floor, or what lies in the same folder."""
    return other == me or FLOOR[other] < FLOOR[me]


def test_every_file_has_its_place() -> None:
    parts = {part_of(module_name(file)) for file in FILES}
    assert parts <= set(FLOOR), "a new part of the package needs a place in FLOORS"
    assert {"common", "filters", "optim", "graph", "pruning", "methods", "filtersmith", "lab"} <= parts
    loose = {file for file in FILES if "/" not in file}
    assert loose <= {"__init__.py", "__main__.py", "cli.py", "filters.py", "testing.py"}, "no module lies loose"


@pytest.mark.parametrize("file", FILES)
def test_files_and_functions_are_short(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350, "split it by purpose"
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))
    long = [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= 60]
    assert not long, "more than 60 lines"


def test_the_rule_can_fail() -> None:
    assert may_import("graph", "filters")
    assert may_import("graph", "graph")
    assert not may_import("graph", "optim"), "side by side"
    assert not may_import("common", "filters"), "above"
    assert not may_import("zoo", "lab"), "above"


@pytest.mark.parametrize("file", FILES)
def test_imports_flow_one_way(file: str) -> None:
    me = part_of(module_name(file))
    for line, module in own_imports(file):
        other = part_of(module)
        where = f"{file}:{line} imports {module}"
        assert may_import(me, other), f"{where}, which is not on a floor below"


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("methods/")])
def test_methods_do_not_import_each_other(file: str) -> None:
    shared = {f"filtersmith.methods.{name}" for name in NO_METHODS} | {"filtersmith.methods"}
    for line, module in own_imports(file):
        if Path(file).stem not in NO_METHODS and part_of(module) == "methods":
            allowed = shared | SAME_PAPER.get(file, set())
            assert module in allowed, f"{file}:{line} imports {module}: what two methods need belongs below both"


def test_the_reader_of_imports_sees_all_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("methods", "zoo"):
        (tmp_path / name).mkdir()
    (tmp_path / "methods" / "wau.py").touch()
    (tmp_path / "methods" / "flow.py").write_text(
        "import filtersmith.optim.hold\n"
        "from filtersmith import zoo, WAU\n"
        "from filtersmith.methods.wau import x\n"
        "from .wau import y\n"
        "from . import wau\n"
        "from .. import zoo\n"
        "from ..optim.hold import z\n"
        "def f():\n"
        "    from filtersmith.cli import main\n"
        "import torch\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert list(own_imports("methods/flow.py")) == [
        (1, "filtersmith.optim.hold"),
        (2, "filtersmith.zoo"),
        (2, "filtersmith"),
        (3, "filtersmith.methods.wau"),
        (4, "filtersmith.methods.wau"),
        (5, "filtersmith.methods.wau"),
        (6, "filtersmith.zoo"),
        (7, "filtersmith.optim.hold"),
        (9, "filtersmith.cli"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["--version"], ["compare", "--help"], ["list"], ["describe", "repr"], ["describe", "dacnn"]),
        *(["list", what] for what in ("methods", "models", "data", "recipes")),
    ],
)
def test_the_command_line_answers_without_torch(arguments: list[str]) -> None:
    heavy = {"torch", "torchvision", "numpy", "omegaconf", "yaml"}
    code = (
        "import sys\n"
        f"REFUSED = {heavy!r}\n"
        "class Refused:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in REFUSED: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refused())\n"
        f"sys.argv = ['filtersmith', *{arguments!r}]\n"
        "from filtersmith.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > (10 if arguments == ["--version"] else 100)


def test_public_names_are_imported_when_they_are_used_and_the_core_needs_torch_alone() -> None:
    """In a process of its own: what all public names and a network load beyond what `import torch` does."""
    code = (
        "import sys, filtersmith as fs\n"
        "assert 'torch' not in sys.modules\n"
        "assert set(fs.__all__) <= set(dir(fs))\n"
        "assert 'wau' in fs.METHODS and 'torch' not in sys.modules, 'records are read without torch'\n"
        "import torch\n"
        "before = set(sys.modules)\n"
        "assert all(getattr(fs, name) is not None for name in fs.__all__)\n"
        "from filtersmith import zoo\n"
        "zoo.build('resnet8')\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))\n"
        "print(*sorted(name for name in sys.modules if name in "
        "{'torchvision', 'timm', 'accelerate', 'matplotlib', 'pydantic', 'scipy', 'sklearn', 'datasets', 'yaml'}))\n"
        "try: fs.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded, forbidden, nothing = done.stdout.splitlines()
    assert nothing == "module 'filtersmith' has no attribute 'nothing'"
    assert forbidden == ""
    of_torch = {"torch", "numpy", "sympy", "mpmath"}  # what torch.distributed.tensor loads in turn
    extra = set(loaded.split()) - set(sys.stdlib_module_names) - {"filtersmith"} - of_torch
    assert not extra, f"import filtersmith loads {sorted(extra)}"
