"""What a result says of the machine: versions, processor, and the commit of a checkout."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import torch

import filtersmith
from filtersmith.lab.training import environment as described


def git(root: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *settings, "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_versions_and_machine_as_plain_data() -> None:
    found = described.environment(torch.device("cpu"))
    assert json.loads(json.dumps(found)) == found
    assert found["torch"] == metadata.version("torch")
    assert found["filtersmith"] == filtersmith.__version__
    assert (found["python"], found["device"], found["threads"]) == (platform.python_version(), "cpu", 1)
    assert found["cpu"] == described.processor() != ""
    assert found == described.environment()


def test_a_library_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    found = described.environment()
    assert "timm" not in found
    assert "torch" in found


def test_the_processor_has_a_name_where_the_system_tells_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "model name\t: Some CPU: fast\nmodel name\t: Other\n")
    assert described.processor() == "Some CPU: fast"
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "flags : none\n")
    assert described.processor() == "riscv"

    def absent(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert described.processor() == "riscv"


def test_the_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "src" / "filtersmith" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("")
    monkeypatch.setattr(filtersmith, "__file__", str(package))
    assert described.commit() is None, "an installed package"
    git(tmp_path, "init", "-q")
    assert described.commit() is None, "nothing is committed yet"
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert described.commit() == head[:12]
    (tmp_path / "new.txt").touch()
    assert described.commit() == head[:12], "files that git does not know do not count"
    package.write_text("changed")
    assert described.commit() == head[:12] + "+"
    monkeypatch.setenv("PATH", "")
    assert described.commit() is None, "no git"
