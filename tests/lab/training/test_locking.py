"""One at a time, and nobody waits for the dead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from filtersmith.lab.training import locking
from filtersmith.lab.training.locking import locked, refuse_locked

HOLD = """
import pathlib, sys, time
from filtersmith.lab.training.locking import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_until_the_first_ends_or_is_killed(tmp_path: Path) -> None:
    refuse_locked(tmp_path)
    assert list(tmp_path.iterdir()) == [], "to look makes nothing"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    for look in (refuse_locked, lambda folder: locked(folder).__enter__()):
        with pytest.raises(ValueError, match=rf"^--out {tmp_path} is in use by process {first.pid} on .*--out$"):
            look(tmp_path)
    first.kill()
    first.communicate()
    assert str(first.pid) in (tmp_path / ".lock").read_text()
    refuse_locked(tmp_path)
    with locked(tmp_path), pytest.raises(ValueError, match=f"in use by process {os.getpid()} on "):
        refuse_locked(tmp_path)
    with locked(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(precious)
    for look in (refuse_locked, lambda folder: locked(folder).__enter__()):
        with pytest.raises(ValueError, match=r"\.lock is a link, .*: remove it, or choose another --out$"):
            look(tmp_path / "run")
    assert precious.read_text() == "mine"


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(self: filelock.FileLock, **_: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    notes: list[str] = []
    with locked(tmp_path, notes.append):
        pass
    assert len(notes) == 1
    assert notes[0].startswith(f"warning: {tmp_path} cannot be locked (FileSystem does not")
    (tmp_path / locking.NAME).touch()
    refuse_locked(tmp_path)
