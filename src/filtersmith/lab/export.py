"""The deployed network of a finished run as one file for elsewhere, written, read back and compared.

``safetensors``  the weights and what rebuilds and feeds the network, as metadata
``pt2``          torch's exported program: runs in Python and C++ without this package
``onnx``         for onnxruntime and its like: plain convolutions, every weight a constant

All take float32 images (batch, channels, size, size) of any batch size, normalised with the metadata's ``mean`` and
``std`` (units of 0..1), and give logits (batch, classes).
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import shlex
import tempfile
import textwrap
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_model
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith import zoo
from filtersmith.common.options import bad_option, unknown_name
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.training.folder import RunFolder, make_folder
from filtersmith.lab.training.run import load_data
from filtersmith.lab.training.setup import network_facts
from filtersmith.methods.composition import compose

TOLERANCE = {"safetensors": 0.0, "pt2": 1e-4, "onnx": 1e-4}
"""The formats, and how far an output may be off, as a share of the largest one."""
EXAMPLE, CHECKED = 2, (5, 1)
"""Batch size of the example that a program is traced with, and other ones that it must take."""
ONE_FILE = 2 * 10**9
"""Bytes of weights from which ONNX needs a second file for them: a protobuf message ends at 2 GiB."""


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
    """Share of the network's parameters that are 0."""
    difference: float
    """Largest difference between an output of the network and of the file, as a share of the largest output."""
    reader: str
    """What read the file back, with its version."""


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
    out = _target(folder, format, out)
    config = folder.read_config()
    facts = _facts(folder, config)
    network = load_network(config, facts, folder.model)
    batches = [_images(facts, size) for size in CHECKED]
    with torch.no_grad():
        expected = [network(images) for images in batches]
    called = convolutions(network, batches[-1])
    kernels = len({id(layer.weight) for layer in called})
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent) as place:
        file = Path(place) / out.name
        file.touch()
        mode = file.stat().st_mode  # as the user's umask gives it; safetensors would leave it to its owner alone
        try:
            with warnings.catch_warnings() if verbose else _quiet():
                write(network, format, file, _images(facts, EXAMPLE), metadata(config, facts), verbose=verbose)
                if format == "onnx":
                    check_convolutions(file, len(called), kernels)
                found = [read(format, file, config, facts, images) for images in batches]
            differences = [compare(*pair, TOLERANCE[format]) for pair in zip(expected, found, strict=True)]
        except Exception as error:  # the libraries raise all kinds
            raise RunFailed(f"{config.model.name} cannot be exported as {format}: {_line(error)}") from error
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
    return Exported(out, size, len(called), kernels, zeros, max(differences), _reader(format))


# The run


def finished_run(path: Path) -> RunFolder:
    """The folder of a finished run; ``ValueError`` says what else it is and what to do."""
    folder = RunFolder(path)
    manifest = folder.read_manifest() if path.is_dir() else {}
    if not (folder.config.is_file() and manifest):
        found = {file.parent for pattern in ("*", "*/*", "*/*/*") for file in path.glob(f"{pattern}/manifest.json")}
        runs = sorted(str(run) for run in found if RunFolder(run).exists())
        if runs:
            raise ValueError(f"{path} is not the folder of one run; choose one that it holds: {', '.join(runs)}")
        raise ValueError(f"{path} is not the folder of a run, as `filtersmith train --out` makes it")
    if manifest.get("status") != "finished":
        done, epochs = len(folder.read_metrics()), folder.read_config().train.epochs
        again = shlex.join(
            ["filtersmith", "train", "--recipe", str(folder.config), "--resume", "auto", "--out", str(path)]
        )
        raise ValueError(f"the run in {path} is not finished ({done} of {epochs} epochs): `{again}` goes on with it")
    return folder


def _facts(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """What the manifest says of the data, see `network_facts`; an older run's data set is asked."""
    facts = folder.read_manifest().get("network")
    if isinstance(facts, dict):
        return facts
    try:
        return network_facts(load_data(config))
    except ValueError as error:
        raise ValueError(
            f"{folder.manifest} has no classes and image size, so the data is needed: {error}"
        ) from error


def build_network(config: RunConfig, facts: dict[str, Any]) -> nn.Module:
    """The network that a run deploys, with random weights, for evaluation; leaves torch's generator alone."""
    with torch.random.fork_rng(devices=[]):
        network = zoo.build(
            config.model.name,
            facts["num_classes"],
            facts["in_channels"],
            image_size=facts["image_size"],
            small_images=config.model.small_images,
        )
        network = compose(config.method).change_architecture(network)
    return network.eval()


def load_network(config: RunConfig, facts: dict[str, Any], file: Path) -> nn.Module:
    """The network with the weights of a safetensors file, contiguous; ``ValueError`` unless all of them fit."""
    network = build_network(config, facts)
    # Strides would be exported, and safetensors refuses channels_last.
    network = network.to(memory_format=torch.contiguous_format)
    try:
        state, found = network.state_dict(), load_file(str(file))
        for name, tensor in state.items():
            # Of tied weights a file holds one.
            twins = (other for other in found if other in state and state[other].data_ptr() == tensor.data_ptr())
            if name not in found and (twin := next(twins, None)):
                found[name] = found[twin]
        # Some layers (torchvision's MNASNet) ask a state dict for their version, which no file has.
        loaded = OrderedDict(found)
        loaded._metadata = state._metadata  # type: ignore[attr-defined]
        network.load_state_dict(loaded, strict=True)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{file} does not hold the weights of {config.model.name}: {_line(error)}") from error
    return network


def metadata(config: RunConfig, facts: dict[str, Any]) -> dict[str, str]:
    """What stands in every exported file: all that `build_network` and the normalisation of images need."""
    return {
        "model": config.model.name,
        "small_images": json.dumps(config.model.small_images),
        "method": config.method,
        "seed": str(config.seed),
        "data": config.data.name,
        **{name: json.dumps(value) for name, value in facts.items()},
    }


def convolutions(network: nn.Module, images: Tensor) -> list[_ConvNd]:
    """The convolutions that one pass runs; a layer that is called twice stands there twice."""
    calls: list[_ConvNd] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: calls.append(module))
        for module in network.modules()
        if isinstance(module, _ConvNd)
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _images(facts: dict[str, Any], batch: int) -> Tensor:
    """Random images as the network gets them after normalisation, (batch, channels, size, size)."""
    shape = batch, facts["in_channels"], facts["image_size"], facts["image_size"]
    return torch.randn(shape, generator=torch.Generator().manual_seed(batch))


# The file


def write(
    network: nn.Module,
    format: str,
    file: Path,
    example: Tensor,
    described: dict[str, str],
    *,
    verbose: bool = False,
) -> None:
    """Write a network in evaluation mode. Large weights of ONNX go to a second file beside ``file``."""
    if format == "safetensors":
        save_model(network, str(file), {"format": "pt", **described})
        return
    dynamic = ({0: torch.export.Dim("batch", min=1)},)
    if format == "pt2":
        program = torch.export.export(network, (example,), dynamic_shapes=dynamic)
        for module in program.graph_module.modules():
            if isinstance(module, torch.fx.GraphModule):
                for node in module.graph.nodes:
                    node.meta.pop("stack_trace", None)  # paths of this machine
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(described)})
        return
    from onnxscript import optimizer

    exported = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        dynamic_shapes=dynamic,
        input_names=["images"],
        output_names=["logits"],
        verbose=verbose,
    )
    assert exported is not None  # it is for dynamo=False
    # Weights that a layer computes from others (weight standardisation) become constants, whatever their size.
    optimizer.fold_constants(exported.model, input_size_limit=2**40, output_size_limit=2**40)
    for node in exported.model.graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)  # paths of this machine
    exported.model.metadata_props.update(described)
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    exported.save(file, external_data=size > ONE_FILE)


def read(format: str, file: Path, config: RunConfig, facts: dict[str, Any], images: Tensor) -> Tensor:
    """What an exported file makes of a batch of images."""
    if format == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)
    network = torch.export.load(file).module() if format == "pt2" else load_network(config, facts, file)
    with torch.no_grad():
        return network(images)  # type: ignore[no-any-return]


def compare(expected: Tensor, found: Tensor, tolerance: float) -> float:
    """The largest difference as a share of the largest expected output; ``RunFailed`` above ``tolerance``."""
    if expected.shape != found.shape:
        raise RunFailed(f"outputs read back are {tuple(found.shape)}, not {tuple(expected.shape)}")
    difference, largest = float((expected - found).abs().max()), float(expected.abs().max())
    if not difference <= tolerance * largest < float("inf"):  # written so that NaN fails
        raise RunFailed(f"outputs read back differ by {difference:.2g} where the largest is {largest:.2g}")
    return difference / largest if difference else 0.0


def check_convolutions(file: Path, wanted: int, kernels: int) -> None:
    """``RunFailed`` unless an ONNX file is valid and has ``wanted`` convolutions, their weights stored in it.

    Layers that share one of the ``kernels`` must do so in the file, too: an optimizer that folds the batch norms
    behind them into it would make a copy for each.
    """
    import onnx

    onnx.checker.check_model(str(file))
    model = onnx.load(str(file), load_external_data=False)
    stored = {tensor.name for tensor in model.graph.initializer}
    nodes = [*_nodes(model.graph.node), *(node for inner in model.functions for node in _nodes(inner.node))]
    found = [node for node in nodes if node.op_type in ("Conv", "ConvTranspose")]
    for node in found:
        if node.input[1] not in stored:
            raise RunFailed(f"the weight of the convolution {node.name} is computed, not stored")
    if len(found) != wanted:
        raise RunFailed(f"the file has {len(found)} convolutions, the network {wanted}")
    if (copies := len({node.input[1] for node in found})) > kernels:
        raise RunFailed(f"the file has {copies} kernels, the network {kernels} that its layers share")


def _nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """ONNX nodes and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


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


def _reader(format: str) -> str:
    name = {"pt2": "torch", "onnx": "onnxruntime"}.get(format, format)
    return f"{name} {importlib.import_module(name).__version__.partition('+')[0]}"


def _line(error: BaseException) -> str:
    """One line of an error. torch.onnx wraps what went wrong in advice to its developers."""
    if type(error).__module__.startswith("torch.onnx") and error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__
    return textwrap.shorten(text, 250, placeholder=" ...")


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
