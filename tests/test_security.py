"""What SECURITY.md says of the source: what is read, what can run code, what goes out of the machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import filtersmith

ROOT = Path(filtersmith.__file__).parent
FILES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")
}

NOT_IMPORTED = {
    *("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),  # what reads pickles
    *("requests", "urllib.request", "http", "httpx", "aiohttp", "ftplib", "smtplib", "ssl"),  # what opens connections
    *("webbrowser", "ctypes", "pty"),
}
RUNS_CODE = {
    "common/skeleton.py": {"exec", "compile"},  # of installed methods: docstrings and signatures, without their code
}
"""File -> which built-in functions that run code it may call."""
STARTS_PROGRAMS = {"lab/training/environment.py", "lab/jobs/process.py"}
"""git, and Python itself."""
READS_PT2 = {"lab/formats.py"}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """What is called, as written, and the call."""
    yield from ((ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def option(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), None)


def problems(file: str, tree: ast.AST) -> list[str]:
    """What one file does that SECURITY.md rules out."""
    names = set(imported(tree))
    found = [f"imports {name}" for name in NOT_IMPORTED if any(f"{one}.".startswith(f"{name}.") for one in names)]
    found += ["starts programs"] if "subprocess" in names and file not in STARTS_PROGRAMS else []
    for name, call in calls(tree):
        safely = option(call, "weights_only")
        if name == "torch.load" and safely != "True" and (file, safely) != ("zoo/checkpoints.py", "not trust"):
            found.append(f"torch.load with weights_only={safely}")
        if name.endswith("yaml.load") and option(call, "Loader") not in ("_Loader", "loader"):
            found.append("yaml.load without a safe loader")
        if name in ("yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen"):
            found.append(name)
        if name in ("eval", "exec", "compile", "__import__") and name not in RUNS_CODE.get(file, set()):
            found.append(f"calls {name}")
        if name == "torch.export.load" and file not in READS_PT2:
            found.append("reads pt2")
        found += [f"gives {one}" for one in ("trust_remote_code", "allow_pickle", "shell") if option(call, one)]
    return found


def test_nothing_else_runs_code_or_opens_a_connection() -> None:
    assert {file: found for file, tree in FILES.items() if (found := problems(file, tree))} == {}


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from urllib.request import urlopen", "import http.client", "import subprocess"),
        *("torch.load(f)", "torch.load(f, weights_only=False)", "yaml.load(f, Loader=yaml.Loader)", "eval(x)"),
        *(
            "exec(x)",
            "torch.export.load(f)",
            "load_dataset(x, trust_remote_code=True)",
            "np.load(f, allow_pickle=True)",
        ),
    ],
)
def test_the_rule_can_fail(code: str) -> None:
    assert problems("lab/new.py", ast.parse(code))


def test_what_is_loaded_as_yaml_is_plain() -> None:
    yaml = pytest.importorskip("yaml")
    from filtersmith.lab.recipe import strict_yaml

    assert issubclass(strict_yaml._Loader, yaml.SafeLoader)
    published = ast.unparse(FILES["lab/papers/published.py"])
    assert "getattr(yaml, 'CSafeLoader', yaml.SafeLoader)" in published


def test_pages_ask_for_nothing_from_elsewhere() -> None:
    for template in (ROOT / "lab" / "results" / "templates").iterdir():
        text = template.read_text(encoding="utf-8")
        assert not [
            word for word in ("http:", "https:", 'src="//', "@import", "fetch(", "XMLHttp") if word in text
        ], template
