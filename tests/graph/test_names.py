"""The names in a function's code."""

from __future__ import annotations

from typing import Any

import pytest

from filtersmith.graph.names import Names, names_of


class Code:
    def calls(self, x: Any) -> Any:
        return self.body(x) + self.head(x, True)

    def gets_hold(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return self.body[0](x) + x.other.weight + getattr(self, "named")(x)  # noqa: B009

    def asks_for_all(self, x: Any) -> Any:
        return [getattr(self, f"layer{i}")(x) for i in range(2)]

    def looks_below(self) -> Any:
        return list(self.modules())

    def looks_below_others(self, x: Any) -> Any:
        return list(x.children())

    def hands_on(self, x: Any) -> Any:
        return print(self, x)

    def asks_for_the_type(self, x: Any) -> Any:
        return x.to(next(self.parameters()).dtype) if isinstance(self, Code) else x

    def rebinds(self) -> Any:
        self = self.inner
        return self.weight


def of(name: str) -> Names:
    return names_of(vars(Code)[name].__code__, method=True)


def test_what_is_called_and_what_is_got_hold_of() -> None:
    found = of("calls")
    assert (found.called, found.own, found.with_more) == ({"body", "head"}, set(), {"head"})
    found = of("gets_hold")
    assert found.own == {"layers", "body", "named"}
    assert {"other", "weight"} <= found.foreign
    assert of("rebinds").own == set()
    assert of("rebinds").foreign >= {"inner", "weight"}


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("calls", set()),
        ("asks_for_all", {"children"}),
        ("looks_below", {"below"}),
        ("looks_below_others", {"below_others"}),
        ("hands_on", {"itself"}),
        ("asks_for_the_type", set()),
    ],
)
def test_code_that_needs_no_names(name: str, flags: set[str]) -> None:
    found = of(name)
    every = ("itself", "children", "below", "below_others", "everything")
    assert {flag for flag in every if getattr(found, flag)} == flags


def test_without_a_source_every_name_counts() -> None:
    space: dict[str, Any] = {}
    exec("def f(self, x):\n    return [m(x) for m in self.layers] + [vars(x)]", space)
    found = names_of(space["f"].__code__, method=True)
    assert "layers" in found.foreign
    assert found.itself
    assert found.everything
