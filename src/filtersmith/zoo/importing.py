"""Python files and modules of a user's own: found, imported beside what they import, and known again by their bytes.

A file is searched from the current folder, and imported with its own folder in front of Python's path; a module with
the current folder there. What a file imports from its folder belongs to it: two files in different folders may each
have a ``blocks.py`` beside them. Within a process a file is imported once; `refresh` imports changed ones again.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import random
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from filtersmith.common.words import in_words

_INSTALLED = [Path(place).resolve() for place in {*sysconfig.get_paths().values(), site.getusersitepackages()}]
_OURS = __name__.partition(".")[0]


@dataclass
class _Folder:
    """What was imported from a folder: the modules that are set aside while another folder's are in use."""

    modules: dict[str, ModuleType] = field(default_factory=dict)
    digests: dict[Path, str] = field(default_factory=dict)


_folders: dict[Path, _Folder] = {}
_first: list[Path] = []


@contextmanager
def searched_first(folder: str | None) -> Iterator[None]:
    """Within, files and modules are looked for in ``folder`` before the current one."""
    before = list(_first)
    _first[:] = [] if folder is None else [Path(folder)]
    try:
        yield
    finally:
        _first[:] = before


def home(place: str) -> Path:
    """The folder from which a file (``nets/net.py``) or a module is reached: the current one, or that of a run."""
    return _locate(place)[0]


@contextmanager
def imported(place: str) -> Iterator[ModuleType]:
    """The module of a file or of a dotted name. Within, what is imported comes from its folder first.

    Raises ``ValueError`` in one line: there is none, or it cannot be imported.
    """
    base, file = _locate(place)
    with _in_use(base.resolve() if file is None else file.parent):
        with _random_states_kept():  # it is imported once: what it draws would make the first run another one
            module = _import_module(place) if file is None else _import_file(file)
        yield module


def sources(place: str) -> dict[str, str]:
    """Name -> SHA-256 of the source file, and of what it imported from its folder until now."""
    with imported(place) as module:
        own = Path(module.__file__ or "").resolve()
    if not own.is_file():
        return {}
    root = own.parent if place.endswith(".py") else own.parents[place.count(".") + (own.name == "__init__.py")]
    found = {own: _digest(own), **(_folders[root].digests if root in _folders else {})}
    return {file.relative_to(root).as_posix(): digest for file, digest in found.items()}


def refresh() -> None:
    """Forget the modules of every folder in which a file has changed."""
    for root, folder in list(_folders.items()):
        if any(_digest(file) != digest for file, digest in folder.digests.items()):
            for name in folder.modules:
                sys.modules.pop(name, None)
            del _folders[root]
    importlib.invalidate_caches()


def raised(error: BaseException, file: str | None) -> str:
    """An error of a user's code in one line, with the line of the file in which it was raised."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if file and frame.filename == file]
    message, kind = in_words(error), type(error).__name__
    words = kind if message == kind else f"{kind}: {message}"
    return f"{words} (line {lines[-1]})" if lines and not isinstance(error, SyntaxError) else words


def _locate(place: str) -> tuple[Path, Path | None]:
    """The folder that ``place`` is relative to, and the file that it is, if it is one and not a module."""
    bases = [*_first, Path.cwd()]
    if not place.endswith(".py"):
        top = place.partition(".")[0]
        found = (base for base in bases if os.path.isdir(base / top) or os.path.isfile(base / f"{top}.py"))
        return next(found, Path.cwd()), None
    for base in bases:
        if os.path.isfile(file := base / os.path.expanduser(place)):
            return base, file.resolve()
    raise ValueError(f"there is no file {place} in {Path.cwd()}")


@contextmanager
def _in_use(root: Path) -> Iterator[None]:
    """Within, ``root`` is in front of Python's path, and of the modules of such folders only its own are there."""
    for other, folder in _folders.items():
        if other != root:
            for name, module in folder.modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
    own = _folders.setdefault(root, _Folder())
    sys.modules.update(own.modules)
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        if str(root) in sys.path:
            sys.path.remove(str(root))
        for name in set(sys.modules) - before:
            if (file := _file_within(sys.modules[name], root)) is not None and name.partition(".")[0] != _OURS:
                own.modules[name] = sys.modules[name]
                own.digests[file] = _digest(file)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    numpy: Any = sys.modules.get("numpy")  # torch alone is needed
    python, of_numpy = random.getstate(), numpy and numpy.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(of_numpy)


def _file_within(module: ModuleType, root: Path) -> Path | None:
    """The source file of a module, where it lies in ``root`` and belongs to no installed library."""
    if not isinstance(file := getattr(module, "__file__", None), str):
        return None
    path = Path(file).resolve()
    installed = any(path.is_relative_to(place) for place in _INSTALLED if not root.is_relative_to(place))
    return path if path.is_relative_to(root) and not installed and path.is_file() else None


def _import_file(file: Path) -> ModuleType:
    # A name of its own: a file may be called as some library is. Pickle and torch.compile look it up there.
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # for a name that ends with .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise ValueError(f"{file.name} cannot be imported: {raised(error, str(file))}") from error
    return module


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name} is no module of Python, and a file is named with its ending: {name}.py")
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            close = difflib.get_close_matches(name, ["torchvision", "timm"], n=1)
            hint = f" (did you mean {close[0]}:...?)" if close else ""
            raise ValueError(f"there is no module {error.name} in {Path.cwd()} or where Python looks{hint}") from None
        raise ValueError(f"{name} cannot be imported: {raised(error, None)}") from error


def _digest(file: Path) -> str:
    """Of its bytes; empty where they cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def changed(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """The files that are in both, and not the same."""
    return [name for name, digest in there.items() if name in here and here[name] != digest]
