"""What cannot be the name of a file or a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtersmith.lab.paths import read_path


@pytest.mark.parametrize("text", [".", "runs/a", "a" * 255, "/x" * 500, "ü" * 127, "a b", Path("runs/x")])
def test_paths(text: str | Path) -> None:
    assert read_path(text) == Path(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(("", "a path is needed"), ("  ", "a path is needed"), ("a\0b", "null characters")),
        *(("a" * 256, "255 bytes"), ("x/" + "ü" * 128, "255 bytes"), ("/x" * 2100, "255 bytes")),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read_path(text)
    assert len(str(caught.value)) < 200
