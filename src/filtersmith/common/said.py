"""Warnings that point at the user's line, through whatever of torch and of this package called it."""

from __future__ import annotations

import sys
import warnings


def warn_user(message: str) -> None:
    """Warn with ``message``, at the first line outside torch and this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("torch", "filtersmith"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
