"""The options of ``--engine ray`` as they are typed: which cluster, and a run's share of it. Ray is not imported."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib import util

from filtersmith.common.options import bad_option
from filtersmith.lab.recipe.config import TrainOptions

_ADDRESS = r"auto|local|([\w.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}"


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and a run's share of it.

    Attributes:
        address: of its head; ``None``: that of ``RAY_ADDRESS``, or what runs on this machine, or a new one here.
        cpus: of one run; whole CPUs are its threads.
        gpus: of one run; ``None``: one where the cluster has GPUs and ``train.device`` allows them.
    """

    address: str | None = None
    cpus: float = 1.0
    gpus: float | None = None

    @property
    def threads(self) -> int:
        """Of a run, the same on every node: results must not depend on which one it was."""
        return max(1, int(self.cpus))

    def gpus_of(self, train: TrainOptions, *, there: bool) -> float:
        """The GPUs of one run, where the cluster has some or none (``there``).

        Raises:
            ValueError: they do not go with ``train.device``.
        """
        if self.gpus is None:
            return float(there and train.device != "cpu")
        if self.gpus and train.device == "cpu":
            raise ValueError(f"--gpus-per-run {self.gpus:g} beside train.device=cpu: leave one of them out")
        if not self.gpus and train.device == "cuda":
            raise ValueError("--gpus-per-run 0 beside train.device=cuda: leave one of them out")
        return self.gpus


def read_cluster(
    engine: str, *, jobs: str | None, cpus: str | None, gpus: str | None, address: str | None
) -> Cluster | None:
    """The cluster that a command line asks for; ``None``: the processes of this machine.

    Raises:
        ValueError: an option is none, belongs to the other engine, or ray is not installed.
    """
    of_ray = {"--cpus-per-run": cpus, "--gpus-per-run": gpus, "--ray-address": address}
    if engine != "ray":
        for name, value in of_ray.items():
            if value is not None:
                raise ValueError(f"{name} {value} needs --engine ray")
        return None
    if jobs is not None:
        raise ValueError(
            f"--jobs {jobs} beside --engine ray, where --cpus-per-run and --gpus-per-run say how many runs are "
            "trained at a time: leave it out"
        )
    if address is not None and not re.fullmatch(_ADDRESS, address):
        raise bad_option("--ray-address", address, "HOST:PORT of the head of a cluster, auto or local")
    cluster = Cluster(
        address,
        1.0 if cpus is None else _share("--cpus-per-run", cpus, 1e-4),
        None if gpus is None else _share("--gpus-per-run", gpus, 0.0),
    )
    if util.find_spec("ray") is None:
        raise ValueError('--engine ray needs ray, which is not installed: pip install "filtersmith[ray]"')
    return cluster


def _share(name: str, text: str, least: float) -> float:
    """A share of a device that several runs use, or a number of whole ones."""
    value = float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,4})?|\.[0-9]{1,4}", text) else math.nan
    if not value >= least or (value > 1 and value != int(value)):
        zero = "" if least else "0, "
        raise bad_option(name, text, f"{zero}a fraction of one, such as 0.25, or a whole number")
    return value
