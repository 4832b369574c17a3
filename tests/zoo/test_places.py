"""Names of networks that stand for a user's own code."""

from __future__ import annotations

import pytest

from filtersmith.zoo.places import place_of, refuse_own_code


def test_the_place_of_a_users_network() -> None:
    assert [place_of(name) for name in ("a/net.py:make(x=1)", "pack.mod:make", "resnet20", "timm:resnet18")] == [
        "a/net.py",
        "pack.mod",
        None,
        None,
    ]


def test_code_that_a_file_names_is_refused() -> None:
    refuse_own_code("resnet20", "a.safetensors", "write it")
    with pytest.raises(
        ValueError, match=r"^a\.safetensors names .* code, os:system\(x=1\), which is not run: write it$"
    ):
        refuse_own_code("os:system(x=1)", "a.safetensors", "write it")
