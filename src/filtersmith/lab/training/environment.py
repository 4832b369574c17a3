"""What a result depends on beside its configuration: versions, machine, commit."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import filtersmith

_LIBRARIES = ("torch", "torchvision", "accelerate", "timm", "numpy", "scikit-learn")


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Versions, processor and threads, the device, and the commit of filtersmith if it runs from a checkout."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    cuda = device is not None and device.type == "cuda"
    return {
        "filtersmith": filtersmith.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        **versions,
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "cpu": processor(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """The checkout's commit, with ``+`` where tracked files were changed; ``None`` for an installed package."""
    root = Path(filtersmith.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
