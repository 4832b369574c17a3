"""What a value was when it was put into a state."""

from __future__ import annotations

import torch

from filtersmith.optim.recording import Store, Uninitialised


def test_the_first_value_counts_and_is_a_copy() -> None:
    store, key = Store(Uninitialised()), torch.ones(1)
    state = store[key]
    state["a"] = one = torch.ones(2)
    one.mul_(5)
    state["a"] = torch.zeros(2)
    state.setdefault("b", [torch.zeros(1), {"c": torch.ones(1)}])[0].add_(1)
    state.setdefault("b", 7)
    state.update(d=3, e=torch.full((2,), 4.0))
    assert store[key] is state
    assert state.first["a"].tolist() == [1, 1]
    assert state["a"].tolist() == [0, 0]
    assert [state.first["b"][0].item(), state.first["b"][1]["c"].item()] == [0, 1]
    assert state.first["e"].tolist() == [4, 4]
    assert state.first["d"] is None


def test_memory_without_values_is_nothing() -> None:
    mode = Uninitialised()
    store = Store(mode)
    with mode:
        state = store["p"]
        state["empty"] = torch.empty_like(torch.ones(3))
        state["filled"] = torch.empty(3).fill_(2)
        state["new"] = torch.ones(3).new_empty(2)
        state["made"] = torch.zeros(3)
    assert {key: None if value is None else value.tolist() for key, value in state.first.items()} == {
        "empty": None,
        "filled": [2, 2, 2],
        "new": None,
        "made": [0, 0, 0],
    }
