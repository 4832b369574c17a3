"""Files of weights as people have them, read as plain tensors by name; nothing in them is executed.

safetensors, ``torch.save`` of a state dict, either in shards with their index (``*.index.json``); a state dict may be
wrapped with an optimizer and more (``{"state_dict": ...}``, ``{"model": ...}``).
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from filtersmith.common.words import in_words

WRAPPED = (
    *("state_dict", "model_state_dict", "model", "network", "net", "module", "weights", "params", "teacher"),
    *("state_dict_ema", "model_ema", "ema"),
)
"""Under which names state dicts are wrapped; of several the first one is read."""

_DEEPEST = 3  # wrappers in one another


def read(file: str | os.PathLike[str], *, trust: bool = False) -> dict[str, Tensor]:
    """Name -> tensor on the CPU. ``ValueError`` in one line for what is no such file, or holds no tensors.

    With ``trust`` a pickle's objects are made, which runs whatever code it names: of a whole network its state.
    """
    path = Path(os.path.expanduser(file))
    if os.path.isdir(path):
        raise ValueError(f"weights must be a file, got the folder {file}{_within(path)}")
    if not os.path.isfile(path):
        raise ValueError(f"there is no file of weights {file}")
    found: dict[str, Tensor] = {}
    for part in parts(path):
        content = _read(part, trust=trust)
        if not (tensors := _tensors(_unwrapped(content))):
            has = f"it has {', '.join(map(str, content))[:80]}" if isinstance(content, Mapping) else _kind(content)
            raise ValueError(f"{part} must hold a state dict, alone or in {' or '.join(WRAPPED[:3])}: {has}")
        found |= tensors
    return found


def digest(file: str | os.PathLike[str]) -> str:
    """SHA-256 of a file of weights; of one in shards that of all, behind one another. Remembered while it stays."""
    path = Path(os.path.expanduser(file))
    if not os.path.isfile(path):
        raise ValueError(f"there is no file of weights {file}")
    every = dict.fromkeys([path, *parts(path)])
    stamps = tuple((str(part.resolve()), (stat := part.stat()).st_mtime_ns, stat.st_size) for part in every)
    return _digest(stamps)


@cache
def _digest(stamps: tuple[tuple[str, int, int], ...]) -> str:
    found = hashlib.sha256()
    for path, _, _ in stamps:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def parts(path: Path) -> list[Path]:
    """The files that hold the weights: itself, or the shards that it names."""
    if not path.name.endswith(".index.json"):
        return [path]
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        shards = [path.parent / Path(name).name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is no index of weights in shards: it has no weight_map") from None
    if missing := [shard.name for shard in shards if not shard.is_file()]:
        raise ValueError(f"{path} names {missing[0]}, which is not beside it")
    return shards


def _within(folder: Path) -> str:
    names = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    return next((f", which has {name}" for name in names if (folder / name).is_file()), "")


def _read(path: Path, *, trust: bool) -> Any:
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if start[8:] == b"{" and start[:2] != b"PK":  # eight bytes of a length, then JSON
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=not trust)
            return found.state_dict() if isinstance(found, nn.Module) else found
    except RuntimeError as error:  # a damaged archive, TorchScript
        raise ValueError(f"{path} cannot be read as weights: {in_words(error).split('. ')[0]}") from error
    except Exception as error:  # whatever bytes of another kind lead to, or classes that are not here
        if trust:
            raise ValueError(f"{path} cannot be read: {in_words(error)[:150]}") from error
        raise ValueError(f"{path} {_not_plain(error)}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as safetensors: {in_words(error)[:150]}") from error


def _not_plain(error: Exception) -> str:
    if "GLOBAL" in (text := in_words(error)):  # an object, which would have to be executed
        kind = text.partition("GLOBAL ")[2].split(" ")[0]
        return f"holds objects ({kind}), and only tensors are read: save a state_dict()"
    return "is neither safetensors nor a file of torch.save"


def _unwrapped(content: Any) -> Any:
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            break
        # Beside it there may be tensors, too: the best accuracy so far.
        inside = next((content[name] for name in WRAPPED if isinstance(content.get(name), Mapping)), None)
        if inside is None:
            break
        content = inside
    return content


def _kind(content: object) -> str:
    return f"it holds a {type(content).__name__}"


def _tensors(content: Any) -> dict[str, Tensor]:
    """The tensors among what may be counters, settings and more."""
    if not isinstance(content, Mapping):
        return {}
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
