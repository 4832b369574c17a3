"""What of the machine each of several workers gets: threads on the CPU, a GPU in turn."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from filtersmith.common.options import bad_option

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def read_jobs(value: object) -> int:
    """The number of runs at a time; ``ValueError`` for all that is none."""
    if not re.fullmatch("0*[1-9][0-9]{0,5}", str(value)):
        raise bad_option("--jobs", value, "a whole number of at least 1: so many runs are trained at a time")
    return int(str(value))


def threads_each(threads: int, jobs: int) -> int:
    """The threads of a worker, where one run alone would have ``threads``."""
    return max(1, threads // jobs)


def visible_gpus(environment: Mapping[str, str], count: int) -> list[str]:
    """What CUDA's own variable calls the ``count`` GPUs that this process sees."""
    named = environment.get(_VISIBLE)
    names = [name.strip() for name in named.split(",")] if named is not None else [str(n) for n in range(count)]
    return names[:count]


def environment_of(worker: int, threads: int, gpus: Sequence[str]) -> dict[str, str]:
    """The environment of one worker, which torch reads when it is imported."""
    own = {**os.environ, **dict.fromkeys(_THREADS, str(threads))}
    if gpus:
        own[_VISIBLE] = gpus[worker % len(gpus)]
    return own
