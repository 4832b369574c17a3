"""Paths as they are typed: what cannot name a file or folder is refused before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes that Linux takes, and others about as many."""


def read_path(text: Any) -> Path:
    """The path that is typed for an option. An empty text would be the current folder."""
    encoded = str(text).encode("utf-8", "surrogateescape")
    if not encoded.strip():
        raise ValueError(f"a path is needed ('.' is this folder), got {str(text)!r}")
    if b"\0" in encoded:
        raise ValueError(f"a path without null characters is needed, got {str(text)!r}")
    if len(encoded) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in encoded.split(b"/")):
        raise ValueError(f"names in a path have at most {LONGEST_NAME} bytes each, got {str(text)[:40]!r}...")
    return Path(text)
