"""Running somebody's code so that nobody notices: random numbers, gradients, what is printed and warned of."""

from __future__ import annotations

import io
import random
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch


@contextmanager
def unnoticed(devices: Iterable[torch.device]) -> Iterator[None]:
    """No random number is drawn from a generator of the process, nothing is printed or warned of, nothing compiled.

    Gradients are recorded inside, and afterwards as they were before.

    Args:
        devices: whose generators may be drawn from, beside the CPU's, numpy's and Python's.
    """
    others = sorted({device for device in devices if device.type not in ("cpu", "meta")}, key=str)
    numpy: Any = sys.modules.get("numpy")
    drawn = random.getstate(), numpy.random.get_state() if numpy else None
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(others, device_type=others[0].type if others else "cuda"))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        if "torch._dynamo" in sys.modules:  # compiling would take longer than all of this, and so would the import
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            random.setstate(drawn[0])
            if numpy:
                numpy.random.set_state(drawn[1])
