"""Some rows and columns of a tensor and their way back, against torch's own indexing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from filtersmith.pruning.picked import picked, placed, rows_of

ROWS, COLUMNS = torch.tensor([3, 0]), torch.tensor([1, 2])


def indexed(x: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    x = x if rows is None else x[rows]
    return x if columns is None else x[:, columns]


@pytest.mark.parametrize("columns", [None, COLUMNS], ids=["all columns", "columns"])
@pytest.mark.parametrize("rows", [None, ROWS], ids=["all rows", "rows"])
def test_picked(rows: Tensor | None, columns: Tensor | None) -> None:
    x = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    ours, theirs = picked(x, rows, columns), indexed(x, rows, columns)
    assert torch.equal(ours, theirs)
    if rows is None and columns is None:
        return
    weights = torch.randn_like(ours)
    assert torch.equal(*(torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)))
    gradient = torch.func.grad(lambda x: (picked(x, rows, columns) * weights).sum())(x)
    assert torch.equal(gradient, torch.autograd.grad((indexed(x, rows, columns) * weights).sum(), x)[0])


def test_rows_of() -> None:
    assert rows_of(None, ROWS) is None
    x = torch.randn(4)
    assert rows_of(x, None) is x
    assert torch.equal(rows_of(x, ROWS), x[ROWS])  # type: ignore[arg-type]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_placed(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 2, 3, 3).to(memory_format=memory_format).requires_grad_()
    full = placed(x, ROWS, 5)
    assert full.is_contiguous(memory_format=memory_format)
    assert torch.equal(full[:, ROWS], x)
    assert not full[:, [1, 2, 4]].any()
    (gradient,) = torch.autograd.grad((full * 2).sum(), x)
    assert torch.equal(gradient, torch.full_like(x, 2))
    assert torch.equal(torch.func.vmap(lambda x: placed(x[None], ROWS, 5)[0])(x), full)
