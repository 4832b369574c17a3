"""Following the first of two processes, and what a process does alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from reference import two_processes
from torch import nn

from filtersmith.common.distributed import follow_first


def work() -> dict[str, Any]:
    """Tensors of every kind, which the ranks do not agree on, and where they lie."""
    rank = dist.get_rank()
    parameter = nn.Parameter(torch.full((2, 3), float(rank)))
    table = torch.arange(6.0).view(2, 3) + 10 * rank
    transposed, column = table.clone().t(), table.clone()[:, 1]
    tensors = {
        "parameter": parameter,
        "transposed": transposed,
        "column": column,
        "mask": torch.tensor([rank == 0, rank == 1]),
        "number": torch.tensor(rank),
        "empty": torch.empty(0),
    }
    places = {name: (tensor.data_ptr(), tensor.stride()) for name, tensor in tensors.items()}
    for tensor in tensors.values():
        follow_first(tensor)
    kept = all(places[name] == (tensor.data_ptr(), tensor.stride()) for name, tensor in tensors.items())
    return {"tensors": {name: tensor.detach().clone() for name, tensor in tensors.items()}, "kept": kept}


@pytest.mark.long
def test_both_have_what_the_first_had(tmp_path: Path) -> None:
    first, second = two_processes.run(work, tmp_path)
    assert first["kept"]
    assert second["kept"], "in place"
    expected = {
        "parameter": torch.zeros(2, 3),
        "transposed": torch.arange(6.0).view(2, 3).t(),
        "column": torch.tensor([1.0, 4.0]),
        "mask": torch.tensor([True, False]),
        "number": torch.tensor(0),
        "empty": torch.empty(0),
    }
    for found in (first["tensors"], second["tensors"]):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_one_process_follows_nobody(tmp_path: Path) -> None:
    tensor = torch.arange(3.0)
    follow_first(tensor)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        follow_first(tensor)
    finally:
        dist.destroy_process_group()
    assert torch.equal(tensor, torch.arange(3.0))
