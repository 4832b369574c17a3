"""The sweep over optimizers: a sample of it, and that each of its checks finds a planted fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from benchmarks.sweep import __main__ as sweep
from benchmarks.sweep import optimizers, report
from benchmarks.sweep.outcome import Outcome, Row
from benchmarks.sweep.twins import Setup
from reference.project_scripts import script_of
from torch import nn
from torch.optim import SGD, Optimizer

import filtersmith as fs

pytest.importorskip("timm")

SAMPLE: dict[tuple[str, str], tuple[str, ...]] = {
    ("torch", "Adafactor"): ("pruned", "restored"),
    ("torch", "Adam fused"): ("off", "held"),
    ("torch", "LBFGS"): ("held",),
    ("torch", "Muon and AdamW"): ("held", "zeroed"),
    ("torch", "Rprop"): ("restored",),
    ("timm", "adahessian"): ("restart",),
    ("timm", "adan"): ("restart",),
    ("timm", "lamb"): ("restart",),
    ("timm", "lookahead_adam"): ("held", "restored", "average"),
    ("timm", "madgrad"): ("restored",),
    ("timm", "rmsproptf"): ("zeroed",),
}
"""Optimizers of different kinds, with the checks that their kind makes hard."""


@pytest.mark.parametrize(("library", "name"), list(SAMPLE))
def test_a_sample(library: str, name: str) -> None:
    (setup,) = (one for one in optimizers.every("cpu") if (one.library, one.name) == (library, name))
    found = {check: optimizers.judged(check, setup) for check in SAMPLE[library, name]}
    assert not {check: outcome for check, outcome in found.items() if outcome.word == "wrong"}


# --- planted faults --------------------------------------------------------------------------------------


def sgd(model: nn.Module, decay: float) -> list[Optimizer]:
    return [SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=decay)]


PLAIN = Setup("torch", "SGD", sgd)


class GradientsOnly:
    """Sets gradients to zero where WAU holds weights: momentum and decay move them all the same."""

    def __init__(self, model: nn.Module, rate: float, layers: Iterable[str]) -> None:
        self.weights = {name: model.get_submodule(name).weight for name in layers}

    def attach(self, optimizer: Optimizer) -> GradientsOnly:
        optimizer.register_step_pre_hook(self.hold)
        return self

    @torch.no_grad()
    def hold(self, *_: object) -> None:
        self.active = {name: torch.arange(len(weight)) % 2 == 1 for name, weight in self.weights.items()}
        for name, mask in self.active.items():
            self.weights[name].grad[~mask] = 0  # type: ignore[index]


class Slower(fs.WAU):
    """Is not off at rate 1."""

    def attach(self, optimizer: Any) -> fs.WAU:
        optimizer.param_groups[0]["lr"] *= 0.9
        return super().attach(optimizer)


class MovesWhatIsOut(fs.RePr):
    """Lets all filters of a layer drift."""

    def __init__(self, model: Any, optimizer: Any, **options: Any) -> None:
        super().__init__(model, optimizer, **options)
        optimizer.register_step_post_hook(lambda *_: model[5].weight.data.add_(1e-3))


class Forgets(fs.EMA):
    """Averages over fewer steps."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, decay / 2)


class KeepsItsState(fs.Flow):
    """Forgets nothing at the start of a phase."""

    def __init__(self, phases: Any, wau: Any, optimizer: Any, **options: Any) -> None:
        super().__init__(phases, wau, optimizer, **options)
        self.optimizer = optimizer

    def step(self) -> Any:
        state = dict(self.optimizer.state)
        event = super().step()
        self.optimizer.state.update(state)
        return event


def keeping(cls: Any) -> Any:
    """A method that leaves the optimizer a momentum of what it restored."""

    class Keeps(cls):
        def __init__(self, model: Any, optimizer: Any, **options: Any) -> None:
            super().__init__(model, optimizer, **options)
            self.optimizer = optimizer

        def step(self) -> Any:
            event = super().step()
            if event == "restored":
                for entry in self.optimizer.state.values():
                    entry["momentum_buffer"].add_(1e-3)
            return event

    return Keeps


PLANTED: list[tuple[str, str, Any, str]] = [
    ("off", "WAU", Slower, "differs"),
    ("held", "WAU", GradientsOnly, "held filters"),
    ("pruned", "RePr", MovesWhatIsOut, "while filters are left out"),
    ("restored", "RePr", keeping(fs.RePr), "moves on zero gradients"),
    ("zeroed", "DSD", keeping(fs.DSD), "moves on zero gradients"),
    ("restart", "Flow", KeepsItsState, "of the new phase"),
    ("average", "EMA", Forgets, "the average of"),
]


@pytest.mark.parametrize(("check", "method", "faulty", "reason"), PLANTED, ids=[check for check, *_ in PLANTED])
def test_a_planted_fault_is_found(
    check: str, method: str, faulty: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert optimizers.judged(check, PLAIN) == Outcome("passed")
    monkeypatch.setattr(fs, method, faulty)
    outcome = optimizers.judged(check, PLAIN)
    assert outcome.word == "wrong"
    assert reason in outcome.reason


def test_a_refusal_when_the_method_is_made_is_one_and_a_later_error_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any, **__: Any) -> Any:
        raise ValueError("optimizer cannot be had")

    monkeypatch.setattr(fs, "EMA", refuses)
    assert optimizers.judged("average", PLAIN) == Outcome("refused", "optimizer cannot be had")
    monkeypatch.setattr(fs.RePr, "step", refuses)
    outcome = optimizers.judged("pruned", PLAIN)
    assert outcome == Outcome("wrong", "raises ValueError: optimizer cannot be had")


# --- what is printed and kept ----------------------------------------------------------------------------


def planted_row(word: Any) -> Callable[[Setup], Row]:
    reason = "" if word == "passed" else "a reason " * 20
    return lambda setup: Row(
        setup.library, setup.name, {check: Outcome(word, reason.strip()) for check in optimizers.CHECKS}
    )


@pytest.mark.parametrize(("word", "status"), [("passed", 0), ("refused", 0), ("wrong", 1)])
def test_a_line_for_each_and_a_status(
    word: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(optimizers, "run", planted_row(word))
    assert sweep.main(["optimizers", "--only", "adamw", "SparseAdam"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = [line for line in lines if line.startswith(("adamw ", "SparseAdam "))]
    assert [line.split().count(report.SHOWN[word]) for line in shown] == [7, 7]  # type: ignore[index]
    assert lines[-1].startswith("2 tried, 0 cannot")


def test_what_is_no_optimizer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sweep.main(["optimizers", "--only", "noadam"])
    assert "no optimizer's name has 'noadam'" in capsys.readouterr().err


def test_what_cannot_be_tried_is_said() -> None:
    by_name = {setup.name: setup for setup in optimizers.every("cpu")}
    assert optimizers.run(by_name["SparseAdam"]).cannot.startswith("cannot be run: raises RuntimeError: SparseAdam")
    broken = Setup("torch", "Broken", lambda model, decay: 1 / 0)  # type: ignore[arg-type, return-value]
    assert optimizers.run(broken).cannot == "cannot be made: ZeroDivisionError: division by zero"


def test_some_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "FOLDER", tmp_path)
    file = tmp_path / "optimizers.json"
    monkeypatch.setattr(optimizers, "run", planted_row("wrong"))
    with pytest.raises(SystemExit):
        sweep.main(["optimizers", "--only", "adamw", "--write"])
    assert "beside a whole one" in capsys.readouterr().err
    assert sweep.main(["optimizers", "--write"]) == 1
    whole = report.load(file)
    report.save(whole | {"versions": whole["versions"] | {"commit": "old"}}, file)
    monkeypatch.setattr(optimizers, "run", planted_row("passed"))
    assert sweep.main(["optimizers", "--only", "adamw", "--write"]) == 0
    found = report.load(file)
    changed = [row for row in found["rows"] if row not in whole["rows"]]
    assert [row["name"] for row in changed] == ["adamw"]
    assert changed[0]["commit"] == whole["versions"]["commit"]
    assert set(changed[0]["outcomes"].values()) == {"passed"}
    assert found["versions"]["commit"] == "old"
    lines = list(script_of("update_tables").swept(found))
    assert lines[-1] == f"- tried again at commit {changed[0]['commit']}: {changed[0]['library']}: `adamw`"
    with pytest.raises(ValueError, match="the whole sweep has other versions"):
        report.again(found | {"versions": found["versions"] | {"torch": "1"}}, whole)


def test_the_table_groups_equal_outcomes_and_reasons(tmp_path: Any) -> None:
    word = {"a": "passed", "b": "wrong", "c": "passed", "D": "passed"}
    rows = [Row("timm", name, {"off": Outcome(word[name], "why" if name == "b" else "")}) for name in "abc"]  # type: ignore[arg-type]
    rows += [Row("torch", "D", {"off": Outcome("passed")}), Row("timm", "e", cannot="cannot be made: no")]
    file = tmp_path / "benchmarks" / "sweep" / "x.json"
    file.parent.mkdir(parents=True)
    report.save(report.document(rows, "cpu", ("timm",)), file)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert {"torch", "timm", "python", "commit"} < found["versions"].keys()
    lines = list(script_of("update_tables").region(["benchmarks/sweep/x.json"], tmp_path))
    assert lines[2:] == [
        "| 4 tried | off |",
        "| --- | --- |",
        "| timm: `a`, `c`; torch: `D` | ✓ |",
        "| timm: `b` | **wrong** |",
        "",
        "- wrong, off: timm: `b`: why",
        "- cannot be made: no: timm: `e`",
    ]
