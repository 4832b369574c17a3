"""The deployed network of a finished run as one file for elsewhere, written, read back and compared.

``safetensors``  the weights and what rebuilds and feeds the network, as metadata
``pt2``          torch's exported program: runs in Python and C++ without this package
``onnx``         for onnxruntime and its like: plain convolutions, every weight a constant

Classifiers take float32 images (batch, channels, size, size) of any batch size, normalised with the metadata's
``mean`` and ``std`` (units of 0..1), and give logits (batch, classes). What other networks take and give, their task
says: `filtersmith.lab.tasks.exporting.Exporting`.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from torch import nn

from filtersmith.common.options import bad_option, unknown_name
from filtersmith.lab.deployed import convolutions, finished_run, load_network, metadata, one_line
from filtersmith.lab.formats import TOLERANCE, check_convolutions, reader_of, reading, write
from filtersmith.lab.network import sources_of
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.tasks.exporting import Exporting, called
from filtersmith.lab.tasks.names import task_named
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.training.folder import RunFolder, make_folder
from filtersmith.lab.training.run import load_data
from filtersmith.zoo import importing


@dataclass(frozen=True)
class Exported:
    """What was written, and what the check found."""

    path: Path
    size: int
    """Bytes of all files."""
    convolutions: int
    """How many the network runs for an image."""
    kernels: int
    """How many different kernels they have."""
    zeros: float
    """How many of the network's parameters are 0, as a fraction."""
    difference: float
    """Largest difference between an output of the network and of the file, as a fraction of the largest output."""
    reader: str
    """What read the file back, with its version."""
    changed: tuple[str, ...] = ()
    """Files of a user's network that are not what they were when it was trained."""


def export(run: Path, format: str, out: Path | None = None, *, verbose: bool = False) -> Exported:
    """Write the deployed network of a run to ``out`` and check the file; nothing unchecked gets that name.

    Args:
        run: the folder of a finished run.
        format: a name in ``TOLERANCE``.
        out: the file, overwritten if it is there; default: ``export.FORMAT`` in the folder of the run.
        verbose: let the libraries print and warn.

    Raises:
        ValueError: not such a folder, an unknown format, a library that is missing, a file that cannot be written.
        RunFailed: the network cannot be written in this format, or what was read back is not the same network.
    """
    if format not in TOLERANCE:
        raise unknown_name("format", format, TOLERANCE)
    if format == "onnx":
        _need("onnx", "onnxruntime", "onnxscript")
    folder = finished_run(run)
    before = folder.read_manifest().get("model") or {}
    with importing.searched_first(before.get("folder")):
        done = _export(folder, format, _target(folder, format, out), verbose=verbose)
        changed = importing.changed(before.get("sources", {}), sources_of(folder.read_config().model))
    return replace(done, changed=tuple(changed))


def _export(folder: RunFolder, format: str, out: Path, *, verbose: bool) -> Exported:
    config = folder.read_config()
    facts = _facts(folder, config)
    how = task_named(config.task).exporting(facts)
    network = load_network(config, facts, folder.model)
    layers = convolutions(how.program(network), *how.checks(format)[-1].inputs)
    kernels = len({id(layer.weight) for layer in layers})
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent) as place:
        file = Path(place) / out.name
        file.touch()
        mode = file.stat().st_mode  # as the user's umask gives it; safetensors would leave it to its owner alone
        try:
            with warnings.catch_warnings() if verbose else _quiet():
                difference = _written(network, format, file, config, facts, how, verbose=verbose)
                if format == "onnx":
                    check_convolutions(file, len(layers), kernels)
        except Exception as error:  # the libraries raise all kinds
            raise RunFailed(f"{config.model.name} cannot be exported as {format}: {one_line(error)}") from error
        # The weights' own file first: a network under the final name always finds it.
        files = sorted(Path(place).iterdir(), key=lambda path: path == file)
        size = sum(path.stat().st_size for path in files)
        for path in files:
            path.chmod(mode)
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(path, out.with_name(path.name))
    parameters = [parameter for parameter in network.parameters() if parameter.numel()]
    zeros = sum(int((p == 0).sum()) for p in parameters) / max(1, sum(p.numel() for p in parameters))
    return Exported(out, size, len(layers), kernels, zeros, difference, reader_of(format))


def _written(
    network: nn.Module,
    format: str,
    file: Path,
    config: RunConfig,
    facts: dict[str, Any],
    how: Exporting,
    *,
    verbose: bool,
) -> float:
    """Write the file, read it back, and compare: the largest difference."""
    checks, program = how.checks(format), how.program(network)
    expected = [called(program, check) for check in checks]
    described = {name: json.dumps(value) for name, value in how.described(format).items()}
    write(network, format, file, how, {**metadata(config, facts), **described}, verbose=verbose)
    outputs = reading(format, file, config, facts, how)
    return max(
        how.compare(one, outputs(check), TOLERANCE[format]) for check, one in zip(checks, expected, strict=True)
    )


def _facts(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """What the manifest says of the data, see `Task.facts`; an older run's data set is asked."""
    facts = folder.read_manifest().get("network")
    if isinstance(facts, dict):
        return facts
    try:
        return task_named(config.task).facts(load_data(config), config.model)
    except ValueError as error:
        raise ValueError(
            f"{folder.manifest} has no classes and image size, so the data is needed: {error}"
        ) from error


def _target(folder: RunFolder, format: str, out: Path | None) -> Path:
    out = out or folder.path / f"export.{format}"
    if out.is_dir():
        raise bad_option("--out", str(out), "a file, not a folder")
    own = (folder.config, folder.metrics, folder.manifest, folder.model)
    if out.resolve() in [file.resolve() for file in own]:
        raise bad_option("--out", str(out), "another file than those of the run")
    return out


def _need(*libraries: str) -> None:
    for name in libraries:
        try:
            importlib.import_module(name)
        except ImportError:
            raise ValueError(
                f'the format onnx needs {name}, which is not installed: pip install "filtersmith[export]"'
            ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the chatter of torch.export and torch.onnx, which nobody who exports can act on."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
