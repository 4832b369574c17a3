"""A call and what enters it, on calls that torch.fx has traced; the notes that rules leave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from filtersmith.graph.answers import Answers
from filtersmith.graph.flow import Flow, Run, joined, unknown
from filtersmith.graph.step import Note, Step, full_width, mixed, stays

A, B = Flow((Run("a", 4),), 2), Flow((Run("b", 4),), 2, moved=frozenset({"b"}))


class Calls(nn.Module):
    """Calls of every shape, each by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.pool = nn.ReLU(), nn.Identity()

    def forward(self, x: Tensor, y: Tensor, unseen: Tensor) -> Any:
        one = torch.relu(x)
        twice = x + x
        by_name = torch.add(input=x, other=y)
        with_number = torch.add(x, 2, alpha=3)
        half_known = x * unseen
        nobody_knows = torch.relu(unseen)
        in_a_list = torch.cat([x, y, x], 1)
        module = self.relu(x)
        module_with_more = self.pool(x, 3)
        module_by_name = self.pool(input=x)
        module_of_two = self.pool(x, y)
        unknown_module = self.relu(unseen)
        found = [one, twice, by_name, with_number, half_known, nobody_knows, in_a_list, module]
        return [*found, module_with_more, module_by_name, module_of_two, unknown_module]


CALLS: dict[str, tuple[list[Flow], list[str], bool]] = {
    "one": ([A], ["x"], True),
    "twice": ([A], ["x", "x"], True),
    "by_name": ([A, B], ["x", "y"], False),
    "with_number": ([A], ["x"], True),
    "half_known": ([A], ["x", "unseen"], True),
    "nobody_knows": ([], ["unseen"], False),
    "in_a_list": ([A, B], [], False),
    "module": ([A], ["x"], True),
    "module_with_more": ([A], ["x"], False),
    "module_by_name": ([A], ["x"], False),
    "module_of_two": ([A, B], ["x", "y"], False),
    "unknown_module": ([], ["unseen"], True),
}
"""Call -> flows of what it reads, the tensors among its arguments, and whether it reads one tensor alone."""


def steps() -> dict[str, Step]:
    network = Calls()

    class Whole(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return True

    graph = Whole().trace(network)
    flows: dict[fx.Node, Flow | None] = dict.fromkeys(graph.nodes)
    for node, flow in zip(graph.nodes, (A, B), strict=False):
        flows[node] = flow
    (output,) = (node for node in graph.nodes if node.op == "output")
    made = {}
    for name, node in zip(CALLS, output.args[0], strict=True):
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        made[name] = Step(node, name, module, None, None, False, flows, {}, {}, True, dict, Answers())
    return made


@pytest.mark.parametrize("name", CALLS)
def test_what_enters_a_call(name: str) -> None:
    sources, operands, alone = CALLS[name]
    step = steps()[name]
    assert step.sources == sources
    assert [node.name for node in step.operands] == operands
    assert step.alone == alone


def test_notes_name_every_producer_once_for_each_tensor() -> None:
    both = Flow(joined([*[A.origins] * 2, B.origins, unknown(3)]), 2, moved=frozenset({"b"}))
    assert stays([both], "why") == (Note("a", "stays", "why"), Note("b", "stays", "why"))
    assert full_width([A, B], "why") == (Note("a", "full width", "why"), Note("b", "full width", "why"))
    assert stays([Flow(unknown(3), 2)], "why") == ()


def test_where_channels_mix_zeros_stand_in_unless_they_would_not_be_zeros() -> None:
    assert mixed([A, B], "they enter softmax") == (
        Note("a", "full width", "they enter softmax"),
        Note("b", "full width", "they enter softmax"),
        Note("b", "stays", "zeros in its place would not be zeros any more where they enter softmax"),
    )
