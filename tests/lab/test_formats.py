"""What is found in a file that was written, and what counts as the same network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from filtersmith.lab.formats import check_convolutions, compare
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


def test_what_counts_as_equal() -> None:
    expected = torch.tensor([[-20.0, 1.0]])
    assert compare(expected, expected, 0.0) == 0
    assert compare(expected, expected + 1e-3, 1e-4) == pytest.approx(5e-5, rel=1e-2)
    nan, large = torch.tensor([[float("nan"), 1.0]]), torch.tensor([[float("inf"), 1.0]])
    for left, right in (
        (expected, expected + 3e-3),
        (expected, nan),
        (nan, nan),
        (large, large),
        (expected * 0, nan),
    ):
        with pytest.raises(RunFailed, match="differ by"):
            compare(left, right, 1e-4)
    with pytest.raises(RunFailed, match=r"are \(1, 1\), not \(1, 2\)"):
        compare(expected, expected[:, :1], 1e-4)
