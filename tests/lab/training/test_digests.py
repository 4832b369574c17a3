"""A file that has changed says so, whatever changed in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from filtersmith.lab.training.digests import difference, digest, seal, unseal

VALUES = {"step": 3, "none": None, "rate": 0.1, "names": {"é": ["a", 1]}}


def test_sealed_values_come_back_and_no_changed_character_does() -> None:
    text = seal(VALUES)
    assert unseal(text) == VALUES
    assert {**VALUES, "sha256": json.loads(text)["sha256"]} == json.loads(text)
    assert seal(json.loads(text)) == text, "sealed anew"
    for place in range(len(text)):
        for other in (" ", "0", "a"):
            changed = text[:place] + other + text[place + 1 :]
            for wrong in (text[:place], text[:place] + other + text[place:], changed):
                if wrong != text:
                    with pytest.raises(ValueError, match=r"."):
                        unseal(wrong)
    with pytest.raises(ValueError, match="has no digest of its own"):
        unseal(json.dumps(VALUES))


def test_what_differs_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"0123456789" * 200)
    kept = digest(file.read_bytes())
    assert difference(file, kept) is None
    file.write_bytes(b"0123456788" * 200)
    assert difference(file, kept) == "a.bin has changed since it was written"
    file.write_bytes(b"0")
    assert difference(file, kept) == "a.bin has 1 byte where it had 2,000"
    file.unlink()
    assert difference(file, kept) == "a.bin is missing"
    file.mkdir()
    assert difference(file, kept) == "a.bin cannot be read: Is a directory"
    assert difference(tmp_path / "b", kept) == "b is missing"
