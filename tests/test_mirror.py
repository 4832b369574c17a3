"""The tests mirror the package: ``src/filtersmith/a/b.py`` has its tests in ``tests/a/test_b.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

import filtersmith

SOURCE, TESTS = Path(filtersmith.__file__).parent, Path(__file__).parent

CROSSING = {
    "test_accelerate.py": "the scripts of docs/accelerate.md in several processes",
    "test_contract.py": "what all methods of the registry promise",
    "test_docs.py": "the scripts of the documentation",
    "test_docstrings.py": "the docstrings of all public names and the cards of all methods",
    "test_extending.py": "the package of docs/extending.md, installed and run",
    "test_growth.py": "how costs grow: benchmarks/growth.py and the script that draws it",
    "test_imports.py": "the floors of the package",
    "test_limitations.py": "what docs/limitations.md says is refused",
    "test_migration.py": "the calls of docs/migration.md",
    "test_mirror.py": "this rule",
    "test_notebooks.py": "the notebooks of docs/notebooks",
    "test_site.py": "the documentation as pages for a browser",
    "test_recipes.py": "the lines that docs/timm.md and docs/torchvision.md add to training scripts",
    "test_release.py": "wheel and sdist, and the types of all public names",
    "test_security.py": "what SECURITY.md says of all of the source",
    "test_sweep.py": "the sweep over optimizers of benchmarks, as a sample",
    "test_sweep_networks.py": "the sweep over networks of benchmarks, as a sample",
    "test_on_gpu.py": "the checks of benchmarks/on_gpu.py, on the CPU",
    "test_update_tables.py": "the script that writes the tables of the documentation",
    "test_odd_calls.py": "odd values of every option, through the command line",
    "integrations/test_lightning_uses.py": "LightningModules and Trainers as others write them",
    "integrations/test_transformers_uses.py": "models and Trainers of transformers as others write them",
    "lab/results/test_in_browser.py": "the pages in a real browser",
    "lab/test_matrix.py": "every network with every method",
    "lab/tasks/test_processes.py": "runs of every task in processes of their own",
    "lab/training/test_cycles.py": "runs whose networks are pruned and restored, from the text to the report",
    "lab/training/test_distributed.py": "runs in two processes",
    "lab/training/test_planted.py": "all commands that read the folder of a run",
    "lab/training/test_resume.py": "runs that are stopped, killed and resumed",
    "methods/test_fully_shard.py": "every method on a sharded network",
    "methods/test_maths.py": "the numbers of what methods compute",
    "methods/test_pairs.py": "every two methods together",
    "methods/test_repr_distributed.py": "two processes, started once for all its tests",
    "methods/test_several_optimizers.py": "every method with several optimizers",
    "methods/test_wau_skip.py": "the second mode of WAU",
    "methods/test_wau_distributed.py": "two processes, started once for all its tests",
}
"""Test file -> what it tests across several files of the package."""

TESTED_ELSEWHERE = {
    "lab/audit/options.py": "options without code of their own: test_command gives them",
    "lab/tasks/task.py": "protocols and records: test_names holds every task to them",
    "lab/typer_options.py": "options without code of their own: test_cli types them",
    "lab/training/errors.py": "two exceptions without code of their own: test_run and test_resume raise them",
}
"""File of the package -> why it has no test file of its own."""


def mirrored(file: str) -> str:
    """The test file of a file of the package; that of a package's ``__init__`` bears the package's name."""
    path = Path(file)
    name = path.parent.name or "filtersmith" if path.stem == "__init__" else path.stem
    return (path.parent / f"test_{name}.py").as_posix()


def files(root: Path, pattern: str) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob(pattern)}


def check(source: set[str], tests: set[str]) -> list[str]:
    """What is wrong with the test files, one line each."""
    wanted = {mirrored(file): file for file in source if not file.endswith(("__init__.py", "__main__.py"))}
    allowed = {mirrored(file) for file in source} | CROSSING.keys()
    missing = {file for test, file in wanted.items() if test not in tests}
    excused = TESTED_ELSEWHERE.keys()
    return [
        *(f"{file} has no test file {mirrored(file)}" for file in sorted(missing - excused)),
        *(f"{test} tests no file of that name" for test in sorted(tests - allowed)),
        *(f"{file} is listed as untested, but it is gone or has its test file" for file in sorted(excused - missing)),
        *(f"{test} is listed as crossing, but it is gone" for test in sorted(CROSSING.keys() - tests)),
        *(f"{test} is listed as crossing, but it mirrors a file" for test in sorted(CROSSING.keys() & wanted.keys())),
    ]


def test_the_tests_mirror_the_package() -> None:
    tests = files(TESTS, "test_*.py")
    assert not any(test.startswith("reference/") for test in tests), "what tests are compared with holds none"
    assert check(files(SOURCE, "*.py"), tests) == []


@pytest.mark.parametrize(
    ("file", "test"),
    [
        ("filters.py", "test_filters.py"),
        ("lab/data/hub.py", "lab/data/test_hub.py"),
        ("zoo/__init__.py", "zoo/test_zoo.py"),
    ],
)
def test_where_the_tests_of_a_file_are(file: str, test: str) -> None:
    assert mirrored(file) == test


def test_the_rule_can_fail() -> None:
    source, tests = files(SOURCE, "*.py"), files(TESTS, "test_*.py")
    assert check(source | {"graph/new.py", "new/__init__.py"}, tests) == [
        "graph/new.py has no test file graph/test_new.py"
    ]
    assert check(source - {"graph/trace.py"}, tests) == ["graph/test_trace.py tests no file of that name"]
    assert check(source, tests - {"test_docs.py"}) == ["test_docs.py is listed as crossing, but it is gone"]
    assert check(source, tests | {"lab/training/test_errors.py"}) == [
        "lab/training/errors.py is listed as untested, but it is gone or has its test file"
    ]
