"""One process at a time works in a folder: a lock that the kernel releases however the process ends."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAME = ".lock"
_PATIENCE = 1.0
"""Seconds to wait for a lock: that of a process that is just ending, or only looks whether there is one."""


@contextmanager
def locked(folder: Path, note: Callable[[str], None] | None = None) -> Iterator[None]:
    """Have a folder to oneself. Its file ``.lock`` stays; a lock of a process that was killed does not hold.

    Args:
        folder: an existing one, which can be written to.
        note: told where the file system knows no locks, and nothing is locked.

    Raises:
        ValueError: another process, or another lock of this one, has the folder.
    """
    lock = _acquired(folder, note)
    try:
        if lock is not None:
            with suppress(OSError):
                (folder / NAME).write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        if lock is not None:
            lock.release()


def refuse_locked(folder: Path) -> None:
    """``ValueError`` where another process has the folder; changes nothing."""
    if os.path.lexists(folder / NAME) and (lock := _acquired(folder, None)) is not None:
        lock.release()


def _acquired(folder: Path, note: Callable[[str], None] | None) -> Any:
    from filelock import FileLock, Timeout

    if (file := folder / NAME).is_symlink():
        raise ValueError(f"{file} is a link, and would be written through: remove it, or choose another --out")
    lock = FileLock(file, timeout=_PATIENCE)
    try:
        with warnings.catch_warnings():
            # Without flock a file marks the lock; filelock removes those of processes that are gone.
            warnings.simplefilter("ignore")
            lock.acquire(poll_interval=0.02)
        return lock
    except Timeout:
        raise ValueError(
            f"--out {folder} is in use by {_holder(folder / NAME)}: wait for its end, or choose another --out"
        ) from None
    except (NotImplementedError, OSError) as error:
        if note is not None:
            reason = getattr(error, "strerror", None) or str(error)
            note(f"warning: {folder} cannot be locked ({reason}): see to it that no other process uses it")
        return None


def _holder(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip() or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"
