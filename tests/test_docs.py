"""The scripts in the documentation run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
SCRIPTS = [
    pytest.param(script, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("**/*.md"))
    for number, script in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    )
]


def test_there_are_scripts() -> None:
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_runs(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("torchvision", "onnxruntime", "onnxscript"):
        if library in script:
            pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "script", "exec"), {"__name__": "__main__"})
    assert any(tmp_path.iterdir()), "it writes what it promises"
