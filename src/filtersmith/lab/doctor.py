"""What of filtersmith works on this machine, and what does not: a line each, with what to do about it."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from filtersmith.lab.training.environment import commit, processor

State = Literal["works", "note", "missing", "broken"]
"""``note``: it works, and there is something to know."""

LABORATORY = "laboratory"
_TRAIN = ("accelerate", "filelock", "numpy", "psutil", "pydantic", "pyyaml", "rich", "safetensors", "scikit-learn")

PARTS: dict[str, tuple[tuple[str, ...], str]] = {
    LABORATORY: ((*_TRAIN, "scipy", "statsmodels", "tensorboard", "typer"), "train"),
    "torchvision": (("torchvision",), "vision"),
    "timm": (("timm",), "vision"),
    "data of a hub": (("datasets",), "vision"),
    "detection": (("torchvision", "torchmetrics", "faster-coco-eval"), "vision"),
    "pages": (("jinja2", "matplotlib"), "report"),
    "ONNX": (("onnx", "onnxruntime", "onnxscript"), "export"),
    "Lightning": (("lightning",), "lightning"),
    "transformers": (("transformers", "accelerate"), "transformers"),
    "Ray": (("ray",), "ray"),
}
"""What needs packages beside torch: those, and the extra that installs them."""
MODULES = {"scikit-learn": "sklearn", "pyyaml": "yaml", "faster-coco-eval": "faster_coco_eval"}
"""Names to import that are not those of the packages."""


@dataclass(frozen=True)
class Line:
    """One thing that was looked at."""

    state: State
    what: str
    found: str


def lines() -> Iterator[Line]:
    """All that is looked at, in order. Nothing is changed, and nothing outside of this machine is asked."""
    yield from _versions()
    yield from _devices()
    yield from map(_part, PARTS)
    yield _compiler()
    yield _processes()
    yield _shared_memory()


def _versions() -> Iterator[Line]:
    import torch

    import filtersmith

    made = f" (commit {found})" if (found := commit()) else ""
    yield Line("works", "filtersmith", f"{filtersmith.__version__}{made}, Python {platform.python_version()}")
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    yield Line("works", "torch", f"{torch.__version__}, built with {built}")


def _devices() -> Iterator[Line]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    bf16 = "fast" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "slow"
    threads = torch.get_num_threads()
    yield Line("works", "CPU", processor())
    yield Line("works", "threads", f"{threads} of torch, on {cores} cores; bfloat16 is {bf16} here")
    if not torch.cuda.is_available():
        why = "torch is built without it" if not torch.version.cuda else "no driver or no GPU is seen"
        yield Line("note", "CUDA", f"none: {why}")
        return
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        yield Line("works", f"CUDA {number}", f"{about.name}, {about.total_memory / 2**30:.0f} GiB, {bf16}")


def _part(what: str) -> Line:
    """Packages of one part: whether they are there, and can be imported."""
    packages, extra = PARTS[what]
    found = {name: version for name in packages if (version := _version(name)) is not None}
    if absent := [name for name in packages if name not in found]:
        return Line("missing", what, f"no {', '.join(absent)}: pip install 'filtersmith[{extra}]'")
    for name in packages:
        try:
            importlib.import_module(MODULES.get(name, name.replace("-", "_")))
        except Exception as error:  # a library that does not fit another raises all kinds
            return Line("broken", what, f"{name} {found[name]} cannot be imported: {_first_line(error)}")
    few = packages if len(packages) < 3 else ()
    return Line("works", what, ", ".join(f"{name} {found[name]}" for name in few) or f"{len(packages)} packages")


def _compiler() -> Line:
    """Inductor calls a C++ compiler on a CPU, Triton on a GPU."""
    import torch

    names = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    compiler = next((found for name in filter(None, names) if (found := shutil.which(name))), None)
    if compiler is None:
        return Line("missing", "torch.compile", "no C++ compiler (g++, clang++): train.compile fails on a CPU")
    if torch.cuda.is_available() and _version("triton") is None:
        return Line("missing", "torch.compile", f"{compiler}; no triton: train.compile fails on a GPU")
    return Line("works", "torch.compile", compiler)


def _processes() -> Line:
    import torch.distributed as dist

    if not dist.is_available():
        return Line("missing", "processes", "torch is built without torch.distributed")
    found = {"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available()}
    backends = [name for name, there in found.items() if there]
    return Line("works" if backends else "missing", "processes", ", ".join(backends) or "no backend")


def _shared_memory() -> Line:
    """Workers of a loader hand batches over in it."""
    try:
        free = shutil.disk_usage("/dev/shm").free / 2**20
    except OSError:
        return Line("note", "shared memory", "no /dev/shm on this system: workers of loaders take files")
    if free < 256:
        return Line("note", "shared memory", f"{free:.0f} MiB free in /dev/shm: workers of loaders need more")
    return Line("works", "shared memory", f"{free / 1024:.1f} GiB free in /dev/shm")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def report() -> tuple[str, int]:
    """What was found, a line each, and the exit code: 1 where the laboratory itself cannot work."""
    found = list(lines())
    state, what = (
        max(len(one) for one in column) for column in zip(*((x.state, x.what) for x in found), strict=True)
    )
    text = "\n".join(f"{one.state:{state}}  {one.what:{what}}  {one.found}" for one in found)
    return text, int(any(one.what == LABORATORY and one.state in ("missing", "broken") for one in found))
