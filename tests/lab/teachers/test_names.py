"""What the name of a teacher means."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtersmith.lab.teachers.names import Source, fingerprint, source


def test_a_name_is_a_folder_a_file_a_network_with_a_file_or_one_of_timm(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"")
    assert source(str(tmp_path)) == Source(run=tmp_path, file=tmp_path / "model.safetensors")
    assert source(str(file)) == Source(file=file)
    assert source(f"resnet20@{file}") == Source(network="resnet20", file=file)
    assert source("timm:resnet18@a.pt") == Source(network="timm:resnet18", file=Path("a.pt"))
    assert source("timm:resnet18") == Source(network="timm:resnet18")


@pytest.mark.parametrize("name", ["", "resnet20", "nowhere/at/all", "@file", "resnet20@"])
def test_what_means_nothing_is_refused_with_all_forms(name: str) -> None:
    with pytest.raises(ValueError, match=r"teacher must be the folder of a finished run, NETWORK@FILE, .*, got "):
        source(name)


def test_a_teacher_is_known_by_its_weights(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    method = f"kd(teacher='resnet20@{file}')"
    assert fingerprint(method) == {}, "not there yet"
    file.write_bytes(b"one")
    first = fingerprint(method)
    assert first[f"resnet20@{file}"]["weights"]["file"] == "a.safetensors"
    file.write_bytes(b"other")
    assert fingerprint(method) != first
    assert fingerprint("kd(teacher='a/run/that/is/gone')+wau") == {}
