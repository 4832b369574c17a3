"""docs/limitations.md: what it says is refused is refused, with the words that stand there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.doc_tables import code_in, names, network, rows
from torch import Tensor, nn
from torch.ao.nn import quantized
from torch.nn.utils.parametrizations import weight_norm

import filtersmith as fs
from filtersmith import cli

ROWS = [
    (call, words)
    for row in rows("limitations.md", "Call", "Refused with")
    for call, words in zip(code_in(row["Call"]), code_in(row["Refused with"]), strict=True)
]
COMMANDS = ("compare ", "train ", "export ", "audit ")
CALLS = [row for row in ROWS if not row[0].startswith(COMMANDS)]
TYPED = [row for row in ROWS if row[0].startswith(COMMANDS)]


class Untraceable(nn.Module):
    """Its code looks at what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.one(x)).relu()
        return self.two(x) if x.sum() > 0 else x


class Listed(nn.Module):
    """Its layers also stand in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.all = [self.one, self.two]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.all:
            x = layer(x)
        return x


class ScheduleFree(torch.optim.SGD):
    """Has other weights in evaluation, as schedule-free optimizers do."""

    def eval(self) -> None: ...

    def train(self) -> None: ...


def given() -> dict[str, Any]:
    shared = network()
    fs.share_kernels(shared)
    made = {"shared": shared, "untraceable": Untraceable(), "listed": Listed(), "network": network}
    made |= {"weight_norm": weight_norm, "quantised": nn.Sequential(quantized.Conv2d(3, 4, 3))}
    found = dict(names(**made))
    found["schedule_free"] = ScheduleFree(found["model"].parameters(), lr=0.1)
    return found


def test_the_tables_are_read() -> None:
    assert len(CALLS) >= 30
    assert len(TYPED) >= 9


@pytest.mark.parametrize(("call", "words"), CALLS, ids=[call for call, _ in CALLS])
def test_a_call_is_refused(call: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(words)):
        exec(compile(call, call, "exec"), given())


@pytest.mark.parametrize(("call", "words"), TYPED, ids=[call for call, _ in TYPED])
def test_a_command_is_refused(
    call: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["filtersmith", *shlex.split(call)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.rglob("model.safetensors")), "nothing is trained"
