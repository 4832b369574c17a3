"""The sweep over networks: a sample of it, that its oracle is right, and that each check finds a planted fault."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from benchmarks.sweep import __main__ as sweep
from benchmarks.sweep import children, families, networks, odd, report
from benchmarks.sweep.absent import Absent
from benchmarks.sweep.outcome import Outcome, Row
from benchmarks.sweep.subject import Subject
from reference.project_scripts import script_of
from torch import Tensor, nn
from torch.nn import functional as F

import filtersmith as fs

SAMPLE: dict[str, tuple[str, ...]] = {
    "Branches": ("sub",),
    "ChannelsLast": ("sub", "pruned"),
    "Dense": ("pruned",),
    "Depthwise": ("sub", "dbb"),
    "GroupNormModule": ("sub",),
    "Residual": ("restored", "kflo"),
    "Scripted": ("looked", "kflo"),
    "ThreeDimensions": ("pruned", "ranked"),
    "Transposed": ("do-conv",),
    "WithFeatures": ("looked", "acnet", "shared"),
}
"""Networks of different kinds, with the checks that their kind makes hard."""


def subject_of(name: str) -> Subject:
    return next(subject for subject in odd.every("cpu") if subject.name == name)


@pytest.mark.parametrize("name", list(SAMPLE))
def test_a_sample(name: str) -> None:
    subject = subject_of(name)
    found = {check: networks.judged(check, subject) for check in SAMPLE[name]}
    assert not {check: outcome for check, outcome in found.items() if outcome.word != "passed"}


# --- the oracle ------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A convolution, what is between, and another convolution."""

    def __init__(self, between: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
        self.norm, self.depthwise = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1, groups=6)
        self.between = between
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self, self.a(x)))


GONE = torch.tensor([False, True, False, False, True, False])
KEPT = ~GONE
BETWEEN: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "norm": lambda s, y: torch.sigmoid(s.norm(y)),
    "in place": lambda s, y: s.norm(y).add_(1).sigmoid_(),
    "depthwise": lambda s, y: F.avg_pool2d(s.depthwise(y).exp(), 3, 1, 1),
    "spread": lambda s, y: (r := y.relu()) / r.std((2, 3), keepdim=True),
    "own gate": lambda s, y: (n := s.norm(y)) * n.sigmoid(),
    "slices": lambda s, y: torch.cos(y[:, :, 1:, 1:]),
    "taken apart": lambda s, y: s.norm(torch.cat(y.chunk(2, 1), 1)).sigmoid(),
    "halves": lambda s, y: torch.cat([y[:, : y.shape[1] // 2].cos(), y[:, y.shape[1] // 2 :].exp()], 1),
    "joined": lambda s, y: torch.cat([y[:, :, :2], y[:, :, 2:]], 2).cos(),
}


@pytest.mark.parametrize("name", list(BETWEEN))
def test_the_oracle_is_the_network_built_without_these_filters(name: str) -> None:
    network = Small(BETWEEN[name]).double()
    smaller = copy.deepcopy(network)
    for module in (smaller.a, smaller.norm, smaller.depthwise):
        for key, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and tensor.ndim:
                kept = tensor[KEPT].detach()
                module._parameters[key] = nn.Parameter(kept) if key in module._parameters else None  # type: ignore[assignment]
                if key in module._buffers:
                    del module._parameters[key]
                    module._buffers[key] = kept
    smaller.depthwise.groups = int(KEPT.sum())
    smaller.b.weight = nn.Parameter(smaller.b.weight[:, KEPT].detach())
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if name == "joined":  # the channels are not told apart behind another dimension's join: zeros are read
        x = x[:1]
        smaller = copy.deepcopy(network)
        right = smaller.b(torch.cos(smaller.a(x).masked_fill(GONE.view(1, -1, 1, 1), 0)))
    else:
        right = smaller(x)
    right.sum().backward()
    with Absent(network, {"a": GONE}):
        found = network(x)
    found.sum().backward()
    torch.testing.assert_close(found, right)
    gradient = network.a.weight.grad
    assert gradient is not None
    assert smaller.a.weight.grad is not None
    assert not gradient[GONE].any()
    theirs = smaller.a.weight.grad if name != "joined" else smaller.a.weight.grad[KEPT]
    torch.testing.assert_close(gradient[KEPT], theirs)
    torch.testing.assert_close(network.norm.running_mean[KEPT], smaller.norm.running_mean[: int(KEPT.sum())])  # type: ignore[index]


# --- planted faults --------------------------------------------------------------------------------------


class ZeroesWeightsOnly(fs.RePr):
    """Leaves filters out by zeros in their weights: biases and norms show."""

    def __init__(self, model: nn.Module, optimizer: Any, **options: Any) -> None:
        super().__init__(model, optimizer, **{**options, "reinit": "none"})
        self.model, self.gone = model, dict[str, Tensor]()

    @property
    def pruned(self) -> dict[str, Tensor]:
        return self.gone or super().pruned

    @torch.no_grad()
    def step(self) -> Any:
        event = super().step()
        self.gone = super().pruned
        super().step()
        for name, mask in self.gone.items():
            self.model.get_submodule(name).weight[mask] = 0  # type: ignore[index]
        return event


class ComesBackMoved(fs.RePr):
    """What was left out has moved."""

    @torch.no_grad()
    def finish(self) -> None:
        super().finish()
        self._model.stem.weight[0] += 1e-3  # type: ignore[index, operator]


class LeaksAtTheEnd(fs.Prune):
    """Of what was pruned, a bias is there in the end."""

    @torch.no_grad()
    def finish(self) -> None:
        super().finish()
        self._network.body["main"][0][1].bias += 0.1  # type: ignore[index, operator]


def draws(look: Any) -> Any:
    def drawing(*given: Any) -> Any:
        torch.rand(1)
        return look(*given)

    return drawing


def one_less(rank: Any) -> Any:
    return lambda *given, **options: {name: scores[1:] for name, scores in rank(*given, **options).items()}


def moved(function: Any) -> Any:
    """A network that comes out with another bias."""

    def moving(model: nn.Module, *given: Any) -> Any:
        found = function(model, *given)
        network = found if isinstance(found, nn.Module) else model
        with torch.no_grad():
            list(network.parameters())[-1].add_(0.1)
        return found

    return moving


def untied(share: Any) -> Any:
    """Kernels that are equal, and each by itself."""

    def untying(model: nn.Module) -> Any:
        found = share(model)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight = nn.Parameter(module.weight.detach().clone())
        return found

    return untying


PLANTED: list[tuple[str, str, Any, str]] = [
    ("looked", "channel_graph", draws(fs.channel_graph), "other random numbers"),
    ("sub", "RePr", ZeroesWeightsOnly, "in evaluation: outputs differ"),
    ("restored", "RePr", ComesBackMoved, "restored stem.weight is another"),
    ("pruned", "Prune", LeaksAtTheEnd, "after finish(): outputs differ"),
    ("ranked", "rank", one_less(fs.rank), "7 numbers for 8 filters"),
    ("kflo", "expand", moved(fs.expand), "expanded: outputs differ"),
    ("acnet", "collapse", moved(fs.collapse), "collapsed: outputs differ"),
    ("shared", "share_kernels", untied(fs.share_kernels), "no longer shares its kernel"),
]


@pytest.mark.parametrize(("check", "name", "faulty", "reason"), PLANTED, ids=[check for check, *_ in PLANTED])
def test_a_planted_fault_is_found(
    check: str, name: str, faulty: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_of("WithFeatures" if check == "shared" else "Residual")
    assert networks.judged(check, subject) == Outcome("passed")
    monkeypatch.setattr(fs, name, faulty)
    outcome = networks.judged(check, subject)
    assert outcome.word == "wrong"
    assert reason in outcome.reason


def test_a_refusal_has_to_leave_the_network_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(model: nn.Module, *_: Any, **__: Any) -> Any:
        raise ValueError("not this one")

    def changes(model: nn.Module, *_: Any, **__: Any) -> Any:
        model.eval()
        raise ValueError("not this one")

    monkeypatch.setattr(fs, "RePr", refuses)
    assert networks.judged("sub", subject_of("Residual")) == Outcome("refused", "not this one")
    monkeypatch.setattr(fs, "RePr", changes)
    assert networks.judged("sub", subject_of("Residual")).word == "wrong"


# --- processes, lines and the table ----------------------------------------------------------------------


def find(setup: Row) -> Iterator[children.Found]:
    if setup.name == "cannot":
        yield children.CANNOT, "cannot be run: no"
        return
    yield children.START, "one"
    yield "one", Outcome("passed")
    yield children.START, "two"
    if setup.name == "hangs":
        time.sleep(60)
    if setup.name == "dies":
        os._exit(3)
    yield "two", Outcome("refused", "layer 'x' is odd")


def test_one_that_hangs_or_dies_does_not_stop_the_rest() -> None:
    things = [Row("own", name) for name in ("hangs", "dies", "cannot", "fine")]
    rows = dict(children.rows(things, find, jobs=2, seconds=0.5))
    assert rows[0].outcomes == {"one": Outcome("passed"), "two": Outcome("wrong", "not done after 0 seconds")}
    assert rows[1].outcomes["two"] == Outcome("wrong", "its process died")
    assert (rows[2].cannot, rows[2].outcomes) == ("cannot be run: no", {})
    assert rows[3].outcomes["two"] == Outcome("refused", "layer 'x' is odd")


def test_what_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(networks, "found", find)
    assert sweep.main(["networks", "--only", "Dense"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Dense: 1 passed, 1 refused", "    refused, two: layer 'x' is odd"]
    assert lines[-1] == "1 tried, 0 cannot be made or run here; checks: 1 passed, 1 refused, 0 wrong"
    with pytest.raises(SystemExit):
        sweep.main(["networks", "--only", "NoNet"])
    assert "no network's name has 'NoNet'" in capsys.readouterr().err


def test_the_table_counts_and_puts_reasons_of_a_kind_together(tmp_path: Any) -> None:
    refusal = [Outcome("refused", f"layer '{name}' cannot go: it is shared") for name in "xy"]
    rows = [
        Row("own", "A", {"sub": refusal[0], "kflo": Outcome("passed")}),
        Row("own", "B", {"sub": refusal[1], "kflo": refusal[0]}),
        Row("timm", "c", {"sub": Outcome("passed"), "kflo": Outcome("wrong", "outputs differ by 1e-01")}),
        Row("timm", "d", cannot="left out: too large"),
    ]
    file = tmp_path / "benchmarks" / "sweep" / "x.json"
    file.parent.mkdir(parents=True)
    report.save(report.document(rows, "cpu", ()), file)
    assert len(json.loads(file.read_text(encoding="utf-8"))["rows"]) == 4
    lines = list(script_of("update_tables").region(["benchmarks/sweep/x.json", "counts"], tmp_path))
    assert lines[2:] == [
        "| 3 tried | passed | refused | wrong |",
        "| --- | --- | --- | --- |",
        "| sub | 1 | 2 | 0 |",
        "| kflo | 1 | 1 | 1 |",
        "",
        "- tried: own: `A`, `B`; timm: `c`",
        "- wrong, kflo: outputs differ by …: timm: `c`",
        "- refused, sub, kflo: layer … cannot go: it is shared: own: `A`, `B`",
        "- left out: too large: timm: `d`",
    ]


def test_every_family_is_tried_or_left_out_with_a_reason() -> None:
    for row in families.listed():
        assert ("left out" in row) != ("size" in row)
    assert len({(row["library"], row["family"]) for row in families.listed()}) == len(families.listed())
