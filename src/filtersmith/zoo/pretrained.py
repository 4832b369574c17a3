"""A network back from the folder that ``filtersmith export RUN --format hub`` writes, as it lies on disk or on a hub.

``config.json`` says what network it is, ``model.safetensors`` has its weights. Nothing in either is executed.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from filtersmith.common.options import bad_option, first_line
from filtersmith.common.words import in_words
from filtersmith.zoo import importing
from filtersmith.zoo.places import refuse_own_code

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TASK = "classification"
"""The task of the networks that are made here; those of the others need the laboratory."""
_HUB_NAME = r"[A-Za-z0-9][\w.-]*/[\w.-]+"


def from_pretrained(
    source: str | os.PathLike[str], *, revision: str | None = None, own_code: bool = False
) -> nn.Module:
    """The deployed network of a run, with its weights, on the CPU and in evaluation mode.

    Takes images (batch, in_channels, image_size, image_size), normalised with ``mean`` and ``std`` of the ``facts``
    in ``config.json`` (units of 0..1), and gives logits (batch, num_classes). Torch's generator stays as it is.

    >>> network = filtersmith.zoo.from_pretrained("runs/one/hub")       # doctest: +SKIP

    Args:
        source: the folder that ``filtersmith export RUN --format hub --out DIR`` wrote, or the name of such a one on
            the Hugging Face hub, ``OWNER/NAME``. A folder of that name goes first.
        revision: of a name on the hub: branch, tag or commit; default: its main branch.
        own_code: whether a function of a user's own file or module may be called that ``config.json`` names as its
            network. Say True only where you wrote that folder, in which its file is looked for, then in the current
            one.

    Raises:
        ValueError: no such folder, another one, weights that don't fit, a network of another task, a network of a
            user's own code without ``own_code``, a library that is missing.
    """
    folder = _folder(source, revision)
    config = read_config(folder)
    if config["task"] != TASK:
        way = f'filtersmith.lab.exported.load("{folder / WEIGHTS}") makes it'
        raise ValueError(f"{folder} has a network of the task {config['task']!r}, not {TASK!r}: {way}")
    if not own_code:
        refuse_own_code(config["model"], folder / CONFIG, "own_code=True runs it")
    with importing.searched_first(str(folder)):
        return fill(_network(config), folder / WEIGHTS, config["model"])


def read_config(folder: Path) -> dict[str, Any]:
    """What ``config.json`` of a folder says; ``ValueError`` where it isn't one of ours."""
    file = folder / CONFIG
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {first_line(error)}") from error
    kinds = {"task": str, "model": str, "method": str, "small_images": bool, "facts": dict}
    config = config if isinstance(config, dict) else {}
    wrong = [name for name, kind in kinds.items() if not isinstance(config.get(name), kind)]
    if wrong:
        raise ValueError(f"{file} was not written by `filtersmith export --format hub`: it has no {wrong[0]}")
    return config


def untrained(make: Callable[[], nn.Module], method: str) -> nn.Module:
    """What a method deploys of the network that ``make`` draws, for evaluation; leaves torch's generator alone."""
    from filtersmith.methods.composition import compose

    with torch.random.fork_rng(devices=[]):
        # A teacher only trains: whatever stands for it, the network is the same.
        network = compose(method, resolve=lambda name: nn.Identity()).change_architecture(make())
    return network.eval()


def fill(network: nn.Module, file: Path, name: str) -> nn.Module:
    """The network, contiguous, with the weights of a safetensors file; ``ValueError`` unless all of them fit."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise ValueError(
            'reading weights needs safetensors, which is not installed: pip install "filtersmith[train]"'
        ) from None
    # Strides would be exported, and safetensors refuses channels_last.
    network = network.to(memory_format=torch.contiguous_format)
    try:
        state, found = network.state_dict(), load_file(str(file))
        for key, tensor in state.items():
            # Of tied weights a file holds one.
            twins = (other for other in found if other in state and state[other].data_ptr() == tensor.data_ptr())
            if key not in found and (twin := next(twins, None)):
                found[key] = found[twin]
        # Some layers (torchvision's MNASNet) ask a state dict for their version, which no file has.
        loaded = OrderedDict(found)
        loaded._metadata = state._metadata  # type: ignore[attr-defined]
        network.load_state_dict(loaded, strict=True)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        said = textwrap.shorten(in_words(error), 250, placeholder=" ...")
        raise ValueError(f"{file} does not hold the weights of {name}: {said}") from error
    return network


def _network(config: Mapping[str, Any]) -> nn.Module:
    from filtersmith import zoo

    facts = config["facts"]
    sizes = [facts.get(name) for name in ("num_classes", "in_channels", "image_size")]
    small = config["small_images"]
    try:
        return untrained(
            lambda: zoo.build(config["model"], *sizes[:2], image_size=sizes[2], small_images=small), config["method"]
        )
    except (RuntimeError, TypeError, OverflowError) as error:  # of sizes that no memory has
        raise ValueError(f"{config['model']} cannot be made for {sizes}: {first_line(error)}") from error


def _folder(source: str | os.PathLike[str], revision: str | None) -> Path:
    text = os.fspath(source)
    folder = Path(text).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise bad_option("revision", revision, f"None for {text}, which is a folder on this machine")
        return folder
    if not re.fullmatch(_HUB_NAME, text) or folder.parent.is_dir():  # a folder that is here, and a name mistyped
        raise bad_option("source", text, "a folder, or OWNER/NAME on the Hugging Face hub")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(
            f"there is no folder {text}, and a name on the hub needs huggingface_hub: pip install huggingface_hub"
        ) from None
    try:
        return Path(snapshot_download(text, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # of the network, of the hub, of its cache
        raise ValueError(f"there is no folder {text}, and the hub does not give it: {first_line(error)}") from error
