"""Warnings at the user's line."""

from __future__ import annotations

import linecache
import warnings

import torch

import filtersmith as fs
from filtersmith.common.said import warn_user


def test_the_line_is_the_users_through_hooks_of_torch_and_this_package() -> None:
    module = torch.nn.Conv2d(1, 2, 1)
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1)
    fs.WAU(module).attach(optimizer)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_user("here")
        optimizer.step()
    assert [str(one.message)[:4] for one in said] == ["here", "WAU:"]
    assert {one.filename for one in said} == {__file__}
    lines = [linecache.getline(__file__, one.lineno).strip() for one in said]
    assert lines == ['warn_user("here")', "optimizer.step()"]
