"""The comparison to which a run belongs."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference.running import command

from filtersmith.lab.hub.compared import comparison_of

SMALL = ["--data", "digits", "--model", "vanilla-1-4", "--epochs", "1", "--set", "data.limit=100"]


def test_a_run_within_a_comparison(tmp_path: Path) -> None:
    out = tmp_path / "two"
    methods = "baseline,wau,wau@vanilla-1-2"
    with pytest.raises(SystemExit, match="0"):
        command("compare", *SMALL, "--methods", methods, "--seeds", "1", "--out", str(out))
    runs = sorted(path.parent for path in out.glob("runs/*/*/manifest.json"))
    found = {run.parent.name: comparison_of(run) for run in runs}
    assert sorted(one.arm for one in found.values() if one) == ["baseline", "wau", "wau@vanilla-1-2"]
    assert all(one and one.comparison.data == "digits" for one in found.values())
    assert comparison_of(out) is None
    assert comparison_of(Path("/")) is None
    (out / "results.json").write_text("{}")
    assert comparison_of(runs[0]) is None
