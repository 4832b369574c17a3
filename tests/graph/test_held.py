"""What a network keeps of its modules besides its children."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

from torch import nn

from filtersmith.graph.held import held_elsewhere, named

by_a_global_name = nn.ReLU()


def names_of(**kept: Any) -> tuple[set[str], set[str]]:
    network = nn.Module()
    parts = {"one": nn.ReLU(), "other": nn.ReLU(), "named": by_a_global_name}
    for name, part in parts.items():
        network.add_module(name, part)
    for name, make in kept.items():
        setattr(network, name, make(parts["one"]))
    held = held_elsewhere(network)
    return {n for n, p in parts.items() if id(p) in held.attributes}, {
        n for n, p in parts.items() if id(p) in held.code
    }


def test_attributes_and_code() -> None:
    assert names_of() == (set(), set())
    for make in (
        lambda one: [{"at": (one,)}],
        lambda one: functools.partial(one.forward),
        lambda one: one.forward,
        lambda one: SimpleNamespace(part=one),
    ):
        assert names_of(kept=make) == ({"one"}, set())
    assert names_of(kept=lambda one: lambda x: one(x)) == (set(), {"one"})
    assert names_of(kept=lambda one: lambda x, part=one: part(x)) == (set(), {"one"})
    assert names_of(kept=lambda one: lambda x: by_a_global_name(x)) == (set(), {"named"})
    assert names_of(kept=lambda one: lambda x: x.by_a_global_name) == (set(), set()), "an attribute's name"


def clip(module: Any) -> None:
    module.weight.data.clamp_(-1, 1)


class Hook:
    def __call__(self, module: Any, given: Any) -> None:
        clip(module)


def test_names_in_code() -> None:
    for code in (clip, Hook(), functools.partial(clip), lambda m: getattr(m, "weight"), lambda m, i: clip(m)):  # noqa: B009
        assert "weight" in named(code)
    assert "weight" not in named(lambda m, i, o: o.clamp(max=1))
