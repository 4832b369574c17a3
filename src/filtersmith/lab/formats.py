"""The formats of an exported network: each is written, read back, compared, and looked into."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from filtersmith.common.words import plural
from filtersmith.lab.deployed import load_network
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.training.errors import RunFailed

TOLERANCE = {"safetensors": 0.0, "pt2": 1e-4, "onnx": 1e-4}
"""The formats, and how far an output may be off, as a fraction of the largest one."""
ONE_FILE = 2 * 10**9
"""Bytes of weights from which ONNX needs a second file for them: a protobuf message ends at 2 GiB."""


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
    """The largest difference as a fraction of the largest expected output; ``RunFailed`` above ``tolerance``."""
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
