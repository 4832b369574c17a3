"""Files that say whether they are whole: SHA-256 digests, and JSON that carries its own."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filtersmith.common.words import plural

_OWN = "sha256"


def digest(content: bytes) -> dict[str, Any]:
    """Size and digest of a file's content, as they are kept of it."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def difference(file: Path, wanted: Mapping[str, Any]) -> str | None:
    """What is wrong with a file whose `digest` was kept, or ``None``: ``model.safetensors is missing``."""
    try:
        found = digest(file.read_bytes())
    except OSError as error:
        return f"{file.name} is missing" if not file.exists() else f"{file.name} cannot be read: {error.strerror}"
    if found == wanted:
        return None
    before = wanted["bytes"]
    if found["bytes"] != before:
        return f"{file.name} has {plural(found['bytes'], 'byte')} where it had {before:,}"
    return f"{file.name} has changed since it was written"


def seal(values: Mapping[str, Any]) -> str:
    """Plain values as JSON text that ends with a digest of all before it; `unseal` reads it."""
    values = {name: value for name, value in values.items() if name != _OWN}
    return _text({**values, _OWN: hashlib.sha256(_text(values).encode()).hexdigest()})


def unseal(text: str) -> dict[str, Any]:
    """The values of `seal`; ``ValueError`` where a single character is another one."""
    values = json.loads(text)
    if not isinstance(values, dict) or _OWN not in values:
        raise ValueError("it has no digest of its own")
    if seal(values) != text:  # a doubled name and other spaces count, too
        raise ValueError("it has changed since it was written")
    return {name: value for name, value in values.items() if name != _OWN}


def write_through(files: Iterable[Path]) -> None:
    """Wait until files are on the disk. Of several, the first one takes most others along: one after another each
    would wait for the disk."""
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"
