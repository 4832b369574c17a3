"""Licences of data as far as they are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtersmith.lab.hub.licences import of_data


def test_what_is_known(tmp_path: Path) -> None:
    assert of_data("digits").startswith("CC BY 4.0")
    assert of_data("cifar10") == of_data(f"voc:{tmp_path}/none") == of_data(f"hf:{tmp_path}") == "licence unknown"
    (tmp_path / "LICENSE").write_text("\n# MIT License\n\nCopyright\n")
    assert of_data(f"voc:{tmp_path}") == "MIT License (LICENSE of the data)"
    (tmp_path / "train.parquet").touch()
    assert of_data(f"hf:{tmp_path}/train.parquet") == "MIT License (LICENSE of the data)", "a file's folder"


def test_no_licence_of_another_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "LICENSE").write_text("MIT License")
    for name in ("hf:mnist", "imagefolder:photos", "voc:", "cifar10"):
        assert of_data(name) == "licence unknown"


def test_a_data_card_goes_first(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT License")
    card = tmp_path / "README.md"
    for text, said in (
        ("---\nlicense: cc-by-4.0\n---\n# Set", "cc-by-4.0"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\n[\n---\n", "MIT License (LICENSE of the data)"),
        ("# Set\nlicense: none", "MIT License (LICENSE of the data)"),
    ):
        card.write_text(text)
        assert of_data(f"imagefolder:{tmp_path}") == said
