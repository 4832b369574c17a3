"""``filtersmith audit``, from the command line to its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reference.running import config, run

from filtersmith.lab.audit.command import Options
from filtersmith.lab.audit.command import run as audit

pytest.importorskip("jinja2", reason="pages need the extra filtersmith[report]")
pytest.importorskip("matplotlib", reason="pages need the extra filtersmith[report]")


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_run_is_audited_on_its_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(config("wau", epochs=1), tmp_path / "run")
    assert audit(Options(str(tmp_path / "run"), images=50, oracle=20, out=tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("wau@vanilla-1-4 · weights: of the run: wau, seed 0, 1 epoch\n")
    assert all(len(line) <= 80 for line in printed.splitlines()[:-1])
    assert "Oracle on 20 images" in " ".join(printed.split())
    assert printed.splitlines()[-1] == f"Page: {(tmp_path / 'out' / 'audit.html').resolve()}"
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert (written["data"], written["images"]) == ("digits", 50)
    assert audit(Options(str(tmp_path / "run"), images=50, oracle=20, format="json")) == 0
    assert json.loads(capsys.readouterr().out)["oracle"] == written["oracle"]


def test_weights_alone_and_two_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(Options("resnet8", out=tmp_path)) == 0
    assert "Weights alone do not show" in capsys.readouterr().out
    assert audit(Options("resnet8", data="digits", against="vanilla-1-4", images=40, format="json")) == 0
    assert json.loads(capsys.readouterr().out)["against"]["title"] == "vanilla-1-4"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options("nothing"), "TARGET must be the folder of a run"),
        (Options("resnet8", data="nothing"), "unknown data 'nothing'"),
        (Options("resnet8", oracle=5), "oracle must be given with --data, whose images it needs, got 5"),
        (Options("resnet8", against="lenet5"), "against must be given with --data"),
        (Options("resnet8", against="nothing", data="digits"), "TARGET must be the folder of a run"),
        (Options("torch.nn:Flatten"), "has no convolution"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, options: Options, said: str
) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match=said) as error:
        audit(replace(options, out=tmp_path / "out"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
