"""How a command ends: the exit code of each kind of error, and the one line that is said about it.

====  ==========================================================================
0     done
1     a run failed, or something that nobody foresaw
2     the call, a file or a folder is refused
75    stopped by the time limit
130   stopped by Ctrl-C (143: by SIGTERM); a run has written a checkpoint
141   whoever read the output has left, as `head` does; nothing is said
====  ==========================================================================
"""

from __future__ import annotations

import errno
import os
import re
import sys

from filtersmith.common.options import first_line
from filtersmith.lab.recipe.origin import Origins
from filtersmith.lab.training.errors import Interrupted, RunFailed

DONE, FAILED, REFUSED, STOPPED, UNREAD = 0, 1, 2, 130, 141

_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Errors of files that no other call would avoid."""


def ending(error: BaseException, origins: Origins) -> tuple[int, str]:
    """Exit code and message of an error. ``origins`` says how the option that it is about was given."""
    if isinstance(error, Interrupted):
        code = getattr(error, "code", 128 + error.signal)
        return code, f"{error}; the same command goes on from there (train: with --resume auto)"
    if isinstance(error, KeyboardInterrupt):
        return STOPPED, "stopped at once; what was saved before is kept"
    if isinstance(error, RunFailed):
        return FAILED, str(error)
    if isinstance(error, ValueError):
        return REFUSED, origins.tell(error)
    if isinstance(error, OSError):
        return FAILED if error.errno in _MACHINE else REFUSED, _of_file(error)
    if isinstance(error, MemoryError):
        return FAILED, "there is not enough memory"
    if isinstance(error, RecursionError):
        return FAILED, "something is nested too deeply (--debug shows where)"
    if isinstance(error, RuntimeError) and "allocate memory" in str(error):  # so torch says it
        return FAILED, f"there is not enough memory: {first_line(error)}"
    if isinstance(error, RuntimeError):
        return FAILED, str(error) or f"{type(error).__name__} (--debug shows where)"
    return FAILED, f"{type(error).__name__}: {error} (--debug shows where)"


def usage(error: BaseException) -> str:
    """What is said of a call that typer itself refuses: in our words, with where to look."""
    text = re.sub(r"^Invalid value for '?([^']*)'?: (Value error, )?", r"\1: ", str(error.format_message()))  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    if context is None or not text.startswith(("No such", "Missing", "Got unexpected")):
        return text
    return f"{text.rstrip('.')} (see `{context.command_path} --help`)"


def is_broken_pipe(error: BaseException | None) -> bool:
    """Whether the reader of the output has left; typer and rich turn that into a ``SystemExit``."""
    if isinstance(error, SystemExit):
        error = error.__context__
    return isinstance(error, BrokenPipeError)


def be_silent() -> None:
    """Write nowhere from now on, so that Python does not complain of a broken pipe when it flushes at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError):  # no file of the system's, in a test for instance
            continue


def _of_file(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{os.fsdecode(error.filename)}: {error.strerror}"
