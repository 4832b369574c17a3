"""What is found in a file that was written, and what counts as the same network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from filtersmith.lab.formats import _added, check_convolutions
from filtersmith.lab.training.errors import RunFailed


def test_convolutions_are_counted_in_inner_graphs(tmp_path: Path) -> None:
    def conv(name: str, result: str) -> Any:
        return helper.make_node("Conv", ["x", "w"], [result], name=name)

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 1]) for name in "xy")
    branches = [
        helper.make_graph([conv(name, name)], name, [], [helper.make_tensor_value_info(name, 1, [1, 1, 1, 1])])
        for name in ("then", "else")
    ]
    choice = helper.make_node("If", ["c"], ["z"], then_branch=branches[0], else_branch=branches[1])
    stored = [
        helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [2.0]),
        helper.make_tensor("c", TensorProto.BOOL, [], [True]),
    ]
    nodes = [choice, helper.make_node("Conv", ["z", "w"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], stored))
    file = tmp_path / "net.onnx"
    onnx.save(model, str(file))
    check_convolutions(file, 3, 1)
    with pytest.raises(RunFailed, match="the file has 3 convolutions, the network 2"):
        check_convolutions(file, 2, 1)
    with pytest.raises(RunFailed, match="the file has 1 kernel, the network 0 that its layers share"):
        check_convolutions(file, 3, 0)


def test_numbers_are_added_to_weights_in_memory(tmp_path: Path) -> None:
    one = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    stored = [helper.make_tensor("w", TensorProto.FLOAT, [2], [2.0, 3.0])]
    model = helper.make_model(
        helper.make_graph([helper.make_node("Add", ["x", "w"], ["x"])], "g", [one], [one], stored)
    )
    file = tmp_path / "net.onnx"
    onnx.save(model, str(file))
    before = file.read_bytes()
    changed = onnx.load_from_string(_added(file, {"w": torch.tensor([1.0, -1.0])}))
    assert numpy_helper.to_array(changed.graph.initializer[0]).tolist() == [3.0, 2.0]
    assert file.read_bytes() == before
    with pytest.raises(RunFailed, match="the file has no v"):
        _added(file, {"v": torch.zeros(2)})
