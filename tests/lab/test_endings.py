"""Exit codes, and what is said."""

from __future__ import annotations

import errno

import pytest

from filtersmith.lab.endings import ending, is_broken_pipe, usage
from filtersmith.lab.recipe.origin import OptionError, Origins
from filtersmith.lab.training.errors import Interrupted, RunFailed


def of_file(number: int, text: str, name: str | None = "/a/b") -> OSError:
    return OSError(number, text, name) if name else OSError(number, text)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("rate must be"), 2, "rate must be"),
        (OptionError("seed", "seed must be"), 2, "--seed: seed must be"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "invalid start byte"),
        (of_file(errno.ENOENT, "No such file or directory"), 2, "/a/b: No such file or directory"),
        (of_file(errno.EACCES, "Permission denied"), 2, "/a/b: Permission denied"),
        (of_file(errno.EISDIR, "Is a directory"), 2, "/a/b: Is a directory"),
        (of_file(errno.ENOSPC, "No space left on device"), 1, "/a/b: No space left on device"),
        (of_file(errno.EIO, "Input/output error", None), 1, "Input/output error"),
        (RunFailed("loss is nan"), 1, "loss is nan"),
        (RuntimeError("bad"), 1, "bad"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), 1, "not enough memory: "),
        (RuntimeError(), 1, "RuntimeError"),
        (MemoryError(), 1, "not enough memory"),
        (RecursionError("maximum recursion depth"), 1, "nested too deeply"),
        (KeyError("lost"), 1, "KeyError: 'lost' (--debug shows where)"),
        (Interrupted(2, "stopped after epoch 1"), 130, "stopped after epoch 1; the same command goes on"),
        (Interrupted(15, "stopped after epoch 1"), 143, "stopped after epoch 1; the same command goes on"),
        (KeyboardInterrupt(), 130, "stopped at once"),
    ],
)
def test_codes(error: BaseException, code: int, words: str) -> None:
    origins = Origins()
    origins.record("seed", "--seed")
    found, message = ending(error, origins)
    assert found == code
    assert message.strip()
    assert words in message


def test_an_error_may_bring_its_code() -> None:
    error = Interrupted(15, "the time is up")
    error.__class__ = type("TimeUp", (Interrupted,), {"code": 75})
    assert ending(error, Origins())[0] == 75


def test_a_broken_pipe_is_one_also_behind_an_exit() -> None:
    assert is_broken_pipe(BrokenPipeError())
    stop = SystemExit(1)
    stop.__context__ = BrokenPipeError()
    assert is_broken_pipe(stop)
    assert not is_broken_pipe(SystemExit(1))
    assert not is_broken_pipe(None)


class OfTyperError(Exception):
    """A usage error as typer raises it."""

    def __init__(self, text: str, path: str | None) -> None:
        self.text, self.ctx = text, path and type("Context", (), {"command_path": path})

    def format_message(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("Invalid value for '--out': a path is needed", "filtersmith train", "--out: a path is needed"),
        ("Invalid value for '--x': Value error, no", None, "--x: no"),
        ("No such command 'no'.", "filtersmith", "No such command 'no' (see `filtersmith --help`)"),
        ("No such option: --no", None, "No such option: --no"),
    ],
)
def test_usage_errors_say_where_to_look(text: str, path: str | None, said: str) -> None:
    assert usage(OfTyperError(text, path)) == said
