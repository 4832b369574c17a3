"""``python -m benchmarks.sweep.choosing``: which network of each family is quick; writes `families.json`.

Of each module of timm and torchvision the network with the fewest parameters of those that have at least two
convolutions, not counting depthwise ones, and at the smallest images of which a pass through it works. What is larger
or slower than the limits below is left out, with the reason. Takes some ten minutes.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves, tree_map

from benchmarks.sweep.families import FILE, images, made

PARAMETERS = 30_000_000
SECONDS = 2.5
"""Of a forward and a backward pass on one core."""
SIZES = (64, 128, 224, 256)
LARGE = re.compile(
    r"giant|gigant|huge|large|xx?l(?:_|\b)|so[14]|_l_|\d\d\dm\b|[^\d](?:101|15\d|2\d\d|3\d\d)\D?|(?:16|32|128)gf"
)
"""Names of networks that have smaller ones beside them; what takes long to make is not looked at."""
TOO_FEW = "no network with two convolutions that are not depthwise"


class Candidate(NamedTuple):
    name: str
    parameters: int
    convolutions: int


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = []
    for library, families in (("torchvision", _of_torchvision()), ("timm", _of_timm())):
        for family, names in families.items():
            rows.append({"library": library, "family": family, **chosen(library, family, names)})
            print(json.dumps(rows[-1]), flush=True)
    versions = {name: metadata.version(name) for name in ("torchvision", "timm")}
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    FILE.write_text(f'{{\n "versions": {json.dumps(versions)},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def chosen(library: str, family: str, names: list[str]) -> dict[str, Any]:
    """The network of a family, its options and the size of its images; or why there is none."""
    few = [name for name in names if not LARGE.search(name) or "mobilenet" in name] or names[:2]
    candidates = sorted(counted(library, few), key=lambda one: one.parameters)
    if not candidates:
        return {"left out": "none can be made here"}
    if not (enough := [one for one in candidates if one.convolutions > 1]):
        return {"left out": TOO_FEW}
    if not (small := [one for one in enough if one.parameters <= PARAMETERS]):
        return {"left out": f"from {enough[0].parameters / 1e6:.0f} million parameters on ({enough[0].name})"}
    slow = ""
    for one in small[:2]:
        for size, options in _ways(library, family):
            seconds = timed(library, one.name, family, size, options)
            if seconds is not None and seconds <= SECONDS:
                return {"name": one.name, "size": size, **({"options": options} if options else {})}
            if seconds is not None:
                slow = slow or f"{one.name} takes {seconds:.0f} seconds for a pass of images of {size}"
                break
    return {"left out": slow or f"{small[0].name} runs at none of the sizes tried"}


def counted(library: str, names: list[str]) -> Iterator[Candidate]:
    """The parameters and convolutions of networks, made without memory."""
    for name in names:
        try:
            with torch.device("meta"):
                network = made(library, name, {})
        except Exception:  # it computes while it is made, or needs a package
            try:
                network = made(library, name, {})
            except Exception:
                continue
        kernels = [m for m in network.modules() if isinstance(m, _ConvNd) and not 1 < m.groups == m.in_channels]
        yield Candidate(name, sum(p.numel() for p in network.parameters()), len(kernels))


def timed(library: str, name: str, family: str, size: int, options: dict[str, Any]) -> float | None:
    """Seconds of a pass in float64, or ``None`` where it does not work."""
    try:
        torch.manual_seed(0)
        network: nn.Module = made(library, name, options).double()
        for training in (False, True):
            given = images(family if library == "torchvision" else "", size, training)
            network.train(training)
            start = time.process_time()
            outputs = tree_leaves(network(*tree_map(lambda x: x, given)))
        sum(x.sum() for x in outputs if isinstance(x, torch.Tensor) and x.requires_grad).backward()
        return time.process_time() - start
    except Exception:
        return None


def _ways(library: str, family: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for size in SIZES:
        if library == "timm":
            yield size, {}
            yield size, {"img_size": size}
        elif family.startswith("detection"):
            yield size, {"num_classes": 5, "min_size": size, "max_size": size}
            yield size, {"num_classes": 5}
        else:
            yield size, {}
            yield size, {"aux_logits": False}


def _of_timm() -> dict[str, list[str]]:
    import timm

    return {module: timm.list_models(module=module) for module in timm.list_modules()}


def _of_torchvision() -> dict[str, list[str]]:
    import torchvision

    families: dict[str, list[str]] = {}
    for name in torchvision.models.list_models():
        module = torchvision.models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
        if not module.startswith("quantization"):
            families.setdefault(module, []).append(name)
    return families


if __name__ == "__main__":
    main()
