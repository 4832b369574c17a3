"""The formats of an exported network: each is written, read back, compared, and looked into."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from filtersmith.common.words import plural
from filtersmith.lab.deployed import load_network
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.tasks.exporting import Check, Exporting, called
from filtersmith.lab.training.errors import RunFailed

TOLERANCE = {"safetensors": 0.0, "pt2": 1e-4, "onnx": 1e-4}
"""The formats, and how far an output may be off, as a fraction of the largest one."""
TRACED_OPSET = 17
"""Of ONNX, for what TorchScript traces."""
Reading = Callable[[Check], tuple[Tensor, ...]]
ONE_FILE = 2 * 10**9
"""Bytes of weights from which ONNX needs a second file for them: a protobuf message ends at 2 GiB."""


def write(
    network: nn.Module,
    format: str,
    file: Path,
    how: Exporting,
    described: dict[str, str],
    *,
    verbose: bool = False,
) -> None:
    """Write a network in evaluation mode. Large weights of ONNX go to a second file beside ``file``."""
    if format == "safetensors":
        save_model(network, str(file), {"format": "pt", **described})
        return
    program = how.program(network)
    with how.tracing(format):
        if format == "pt2":
            _write_program(program, file, how, described)
        elif how.exportable:
            _write_onnx(program, file, how, described, verbose=verbose)
        else:
            _write_traced_onnx(program, file, how, described, verbose=verbose)


def _dynamic(how: Exporting, format: str) -> tuple[dict[int, Any], ...]:
    """The dimensions for torch.export: those of one name have one size."""
    sizes: dict[str, Any] = {}
    return tuple(
        {place: sizes.setdefault(name, torch.export.Dim(name, min=1)) for place, name in one.items()}
        for one in how.dynamic(format)
    )


def _write_program(program: nn.Module, file: Path, how: Exporting, described: dict[str, str]) -> None:
    exported = torch.export.export(program, how.example("pt2"), dynamic_shapes=_dynamic(how, "pt2"))
    for module in exported.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths of this machine
    torch.export.save(exported, file, extra_files={"metadata.json": json.dumps(described)})


def _write_onnx(program: nn.Module, file: Path, how: Exporting, described: dict[str, str], *, verbose: bool) -> None:
    from onnxscript import optimizer

    exported = torch.onnx.export(
        program,
        how.example("onnx"),
        dynamo=True,
        dynamic_shapes=_dynamic(how, "onnx"),
        input_names=how.inputs,
        output_names=how.outputs,
        verbose=verbose,
    )
    assert exported is not None  # it is for dynamo=False
    # Weights that a layer computes from others (weight standardisation) become constants, whatever their size.
    optimizer.fold_constants(exported.model, input_size_limit=2**40, output_size_limit=2**40)
    for node in exported.model.graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)  # paths of this machine
    exported.model.metadata_props.update(described)
    exported.save(file, external_data=_size(program) > ONE_FILE)


def _write_traced_onnx(
    program: nn.Module, file: Path, how: Exporting, described: dict[str, str], *, verbose: bool
) -> None:
    import onnx

    torch.onnx.export(
        program,
        how.example("onnx"),
        str(file),
        dynamo=False,
        opset_version=TRACED_OPSET,
        training=torch.onnx.TrainingMode.PRESERVE,  # else batch norms go into kernels that several layers share
        dynamic_axes=dict(zip(how.inputs, how.dynamic("onnx"), strict=True)),
        input_names=how.inputs,
        output_names=how.outputs,
        verbose=verbose,
    )
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, described)
    large = {"save_as_external_data": True, "location": f"{file.name}.data"} if _size(program) > ONE_FILE else {}
    onnx.save(model, str(file), **large)


def _size(network: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())


def reading(format: str, file: Path, config: RunConfig, facts: Mapping[str, Any], how: Exporting) -> Reading:
    """What an exported file makes of a check's inputs; the file is read once."""
    if format == "onnx":
        return partial(_run_onnx, file, how)
    if format == "pt2":
        return partial(called, torch.export.load(file).module())
    return partial(called, how.program(load_network(config, facts, file)))


def _run_onnx(file: Path, how: Exporting, check: Check) -> tuple[Tensor, ...]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    model = _added(file, check.added) if check.added else str(file)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = {name: one.numpy() for name, one in zip(how.inputs, check.inputs, strict=True)}
    return tuple(torch.from_numpy(one) for one in session.run(list(how.outputs), inputs))


def _added(file: Path, added: Mapping[str, Tensor]) -> bytes:
    """An ONNX file with numbers added to some of its weights."""
    import onnx

    model = onnx.load(str(file))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, values in added.items():
        if name not in weights:
            raise RunFailed(f"the file has no {name}")
        changed = onnx.numpy_helper.to_array(weights[name]) + values.numpy()
        weights[name].CopyFrom(onnx.numpy_helper.from_array(changed, name))
    content: bytes = model.SerializeToString()
    return content


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
        raise RunFailed(f"the file has {plural(len(found), 'convolution')}, the network {wanted}")
    if (copies := len({node.input[1] for node in found})) > kernels:
        raise RunFailed(f"the file has {plural(copies, 'kernel')}, the network {kernels} that its layers share")


def _nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """ONNX nodes and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def reader_of(format: str) -> str:
    name = {"pt2": "torch", "onnx": "onnxruntime"}.get(format, format)
    return f"{name} {importlib.import_module(name).__version__.partition('+')[0]}"
