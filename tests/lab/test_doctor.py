"""`filtersmith doctor`: what works, what is missing, what is broken, and what to do about it."""

from __future__ import annotations

import importlib
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from filtersmith.lab import doctor
from filtersmith.lab.doctor import LABORATORY, PARTS, Line, lines, report


def of(what: str) -> Line:
    return next(line for line in lines() if line.what == what)


def test_every_part_has_a_line_that_fits_a_terminal() -> None:
    text, code = report()
    found = text.splitlines()
    assert code == 0
    assert len(found) == len(list(lines())) >= len(PARTS) + 6
    assert all(len(line) <= 80 for line in found if " cannot be imported" not in line and "CPU" not in line)
    assert torch.__version__ in text
    assert all(line.state in ("works", "note", "missing", "broken") for line in lines())


def test_extras_are_those_of_the_package() -> None:
    tomllib = pytest.importorskip("tomllib")
    file = doctor.__file__.partition("/src/")[0] + "/pyproject.toml"
    with open(file, "rb") as stream:
        extras = tomllib.load(stream)["project"]["optional-dependencies"]
    for packages, extra in PARTS.values():
        needed = " ".join(extras[extra])
        assert all(package in needed for package in packages), extra
    assert {name.partition(">")[0] for name in extras["train"]} == set(PARTS[LABORATORY][0])


def test_what_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"timm": None, "typer": None}
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions[name] if name in versions else real(name))
    assert of("timm") == Line("missing", "timm", "no timm: pip install 'filtersmith[vision]'")
    text, code = report()
    assert code == 1
    assert "missing  laboratory" in text


def test_what_does_not_fit_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def broken(name: str) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nmore")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    line = of("torchvision")
    assert line.state == "broken"
    assert line.found.endswith("cannot be imported: operator torchvision::nms does not exist")
    assert report()[1] == 0


def test_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert of("torch.compile").state == "missing"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20))
    assert of("shared memory") == Line(
        "note", "shared memory", "64 MiB free in /dev/shm: workers of loaders need more"
    )
    about = SimpleNamespace(name="NVIDIA H200", total_memory=139 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: about)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert of("CUDA 0") == Line("works", "CUDA 0", "NVIDIA H200, 139 GiB, bf16")
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    assert of("processes").state == "missing"
