"""What is told of a run elsewhere says nothing of the machine that trained it."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference.running import config

from filtersmith.lab import public


def test_places_on_this_machine_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert public.data_name("hf:owner/set") == "hf:owner/set"
    Path("owner", "set").mkdir(parents=True)
    assert public.data_name("hf:owner/set") == "hf:set"
    assert public.data_name(f"voc:{tmp_path}/cells/") == "voc:cells"
    assert public.data_title("hf:/here/cifar10-jpeg") == "CIFAR-10 (JPEG)"
    assert public.model_name(f"{tmp_path}/net.py:make(width=2)") == "net.py:make(width=2)"
    assert public.model_name("nets/net.py:make") == "nets/net.py:make"
    assert public.model_name("~/nets/net.py:make") == public.model_name("../../net.py:make") == "net.py:make"
    assert public.method("wau+kd(teacher='/home/me/run')") == "wau+kd(teacher='')"
    assert public.method("wau(rate=0.5)") == "wau(rate=0.5)"


def test_a_recipe_can_be_trained_again(tmp_path: Path) -> None:
    what = config("wau").model_copy(update={"seed": 3})
    shown = public.recipe(what)
    assert "root" not in shown["data"]
    assert "weights" not in shown["model"]
    assert type(what).model_validate(shown) == what
