"""A file without its code says and takes what the file does."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from filtersmith.common import skeleton
from filtersmith.methods import METHODS
from filtersmith.methods.lifecycle import option_defaults


@pytest.mark.parametrize("name", METHODS)
def test_a_method_read_without_its_imports_is_the_method(name: str) -> None:
    record = METHODS[name]
    assert record.home is not None
    module, _, cls = record.home.partition(":")
    bare = skeleton.read(module)
    assert bare is not None
    assert inspect.cleandoc(bare.__doc__ or "") == record.card
    read = getattr(bare, cls)
    assert read is not record.cls
    assert read.__doc__ == record.cls.__doc__
    assert option_defaults(read) == option_defaults(record.cls)


def test_what_cannot_be_read_is_left_to_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("from nowhere import X\n\nclass A:\n    def __init__(self, x=X): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert skeleton.read("needs_more") is None
    assert skeleton.read("no_such_module") is None
    assert skeleton.read("no_such.module") is None
