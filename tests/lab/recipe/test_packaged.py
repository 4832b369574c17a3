"""The recipes of the package: each says what it is."""

from __future__ import annotations

import pytest

from filtersmith.lab.recipe.packaged import recipe_comment, recipe_names, recipe_text


def test_some_are_there() -> None:
    assert {"digits", "cifar-c3"} <= set(recipe_names())
    assert recipe_names() == sorted(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_the_comment_at_the_top_says_what_it_is(name: str) -> None:
    assert 10 < len(recipe_comment(name)) < 400
    assert "#" not in recipe_comment(name)
    assert recipe_text(name).startswith("#")
