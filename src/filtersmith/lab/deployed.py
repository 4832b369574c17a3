"""The folder of a finished run, and the network that it deploys, made again from configuration and weights."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.words import plural
from filtersmith.lab import public
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.tasks.names import task_named
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.standing import examine
from filtersmith.zoo.pretrained import fill, untrained


def finished_run(path: Path) -> RunFolder:
    """The folder of a finished run; ``ValueError`` says what else it is and what to do."""
    folder = RunFolder(path)
    begun = folder.manifest.is_file() or folder.all_checkpoints()
    if not (path.is_dir() and folder.config.is_file() and begun):
        found = {file.parent for pattern in ("*", "*/*", "*/*/*") for file in path.glob(f"{pattern}/manifest.json")}
        runs = sorted(str(run) for run in found if RunFolder(run).exists())
        if runs:
            raise ValueError(f"{path} is not the folder of one run; choose one that it holds: {', '.join(runs)}")
        raise ValueError(f"{path} is not the folder of a run, as `filtersmith train --out` makes it")
    standing = examine(folder)
    again = shlex.join(
        ["filtersmith", "train", "--recipe", str(folder.config), "--resume", "auto", "--out", str(path)]
    )
    if standing.status == "damaged":
        way = (
            f": `{again}` makes it whole" if standing.checkpoint else ", and has no checkpoint to make it whole from"
        )
        raise ValueError(f"the run in {path} is damaged ({'; '.join(standing.wrong)}){way}")
    if standing.status != "finished":
        done = f"{len(folder.read_metrics())} of {plural(folder.read_config().train.epochs, 'epoch')}"
        raise ValueError(f"the run in {path} is not finished ({done}): `{again}` goes on with it")
    return folder


def build_network(config: RunConfig, facts: Mapping[str, Any]) -> nn.Module:
    """The network that a run deploys, with random weights, for evaluation; leaves torch's generator alone."""
    return untrained(lambda: task_named(config.task).build(config.model, facts), config.method)


def load_network(config: RunConfig, facts: Mapping[str, Any], file: Path) -> nn.Module:
    """The network with the weights of a safetensors file, contiguous; ``ValueError`` unless all of them fit."""
    return fill(build_network(config, facts), file, config.model.name)


TEXTS = ("task", "model", "method", "data")
"""What stands in an exported file as it is; all else is JSON."""


def metadata(config: RunConfig, facts: Mapping[str, Any]) -> dict[str, str]:
    """What stands in every exported file: all that `build_network` and whoever feeds the network need.

    Where data and teachers lie on this machine is nobody's business elsewhere.
    """
    return {
        "task": config.task,
        "model": public.model_name(config.model.name),
        "small_images": json.dumps(config.model.small_images),
        "method": public.method(config.method),
        "seed": str(config.seed),
        "data": public.data_name(config.data.name),
        "facts": json.dumps(list(facts)),
        **{name: json.dumps(value) for name, value in facts.items()},
    }


def convolutions(network: nn.Module, *inputs: Any) -> list[_ConvNd]:
    """The convolutions that one pass runs; a layer that is called twice stands there twice."""
    calls: list[_ConvNd] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: calls.append(module))
        for module in network.modules()
        if isinstance(module, _ConvNd)
    ]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def one_line(error: BaseException) -> str:
    """One line of an error. torch.onnx wraps what went wrong in advice to its developers."""
    if type(error).__module__.startswith("torch.onnx") and error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__
    return textwrap.shorten(text, 250, placeholder=" ...")
