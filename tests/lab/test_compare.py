"""A comparison: every run once, resumable, and worth a table even where a run failed."""

from __future__ import annotations

import io
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from reference.running import assert_same, config, digits, run, weights
from rich.console import Console

from filtersmith.lab import compare as comparing
from filtersmith.lab.recipe.config import CompareConfig, merge
from filtersmith.lab.results import document as results
from filtersmith.lab.results.document import Comparison
from filtersmith.lab.results.tables import build_table
from filtersmith.lab.training import run as train
from filtersmith.lab.training.errors import Interrupted, RunFailed
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.stopping import Deadline


def comparison(methods: str = "baseline wau", seeds: Any = 2, **options: Any) -> CompareConfig:
    values = {"model.name": "vanilla-1-4", "train.epochs": 1, "train.batch_size": 256, "train.lr": 0.05}
    values |= {"train.device": "cpu"}
    values |= {f"train.{name}": value for name, value in options.items()}
    values |= {"methods": methods.split(), "seeds": seeds}
    return comparing.normalised(merge(CompareConfig, options=values))


def compare(what: CompareConfig, out: Path) -> tuple[Comparison, str]:
    """The results and what was printed."""
    printed = io.StringIO()
    with Live(Console(file=printed, width=80), len(what.methods) * len(what.seeds)) as live:
        found = comparing.compare(what, out, digits(), live)
    return found, printed.getvalue()


def trained(out: Path) -> dict[str, int]:
    """When each network was written."""
    return {
        "/".join(path.parts[-3:-1]): path.stat().st_mtime_ns
        for path in sorted((out / "runs").glob("*/*/model.safetensors"))
    }


def test_a_comparison_of_version_0_1_goes_on_unless_all_of_it_was_averaged(tmp_path: Path) -> None:
    found, _ = compare(comparison("baseline", 1), tmp_path)
    recipe, before = tmp_path / "config.yaml", trained(tmp_path)

    def as_version_0_1(ema: float | None) -> None:
        values = yaml.safe_load(recipe.read_text())
        values["train"]["ema"] = ema
        recipe.write_text(yaml.safe_dump(values))

    as_version_0_1(None)
    (tmp_path / "runs" / "baseline" / "seed-0" / "config.yaml").write_text(recipe_of_a_run(tmp_path))
    again, printed = compare(comparison("baseline wau", 1), tmp_path)
    assert again.runs[:1] == found.runs
    assert "(finished before)" in printed
    assert trained(tmp_path).items() > before.items()

    as_version_0_1(0.9)
    written = recipe.read_text()
    with pytest.raises(
        ValueError, match=r"of filtersmith 0\.1 with train\.ema=0\.9, .* and METHOD\+ema\(0\.9,warmup=False\)$"
    ):
        compare(comparison("baseline wau", 1), tmp_path)
    assert recipe.read_text() == written
    assert results.load(tmp_path) == again


def recipe_of_a_run(out: Path) -> str:
    """The configuration of the baseline's run, as version 0.1 wrote it."""
    values = yaml.safe_load((out / "runs" / "baseline" / "seed-0" / "config.yaml").read_text())
    values["train"]["ema"] = None
    return yaml.safe_dump(values)


def test_all_runs_and_nothing_twice(tmp_path: Path) -> None:
    found, printed = compare(comparison(), tmp_path)
    first = trained(tmp_path)
    assert list(first) == ["baseline/seed-0", "baseline/seed-1", "wau/seed-0", "wau/seed-1"]
    assert [(one.method, one.seed) for one in found.runs] == [(m, s) for s in (0, 1) for m in ("baseline", "wau")]
    assert all(one.status == "finished" and len(one.epochs) == 1 for one in found.runs)
    assert "[4/4] wau, seed 1: test " in printed
    assert results.load(tmp_path) == found
    # each is what `train` makes of it
    run(config("wau", 1, epochs=1, batch_size=256), tmp_path / "alone")
    assert_same(weights(tmp_path / "alone"), weights(tmp_path / "runs" / "wau" / "seed-1"))

    again, printed = compare(comparison(), tmp_path)
    assert again == found
    assert trained(tmp_path) == first
    assert printed.count("(finished before)") == 4

    # another method, another seed, later; and then fewer again
    more, printed = compare(comparison("baseline wau asa", seeds=[0, 1, 5]), tmp_path)
    assert len(more.runs) == 9
    assert printed.count("(finished before)") == 4
    assert {name: time for name, time in trained(tmp_path).items() if name in first} == first
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["seeds"] == [0, 1, 5]
    fewer, printed = compare(comparison("wau(0.5) conv-lr(0.5) baseline", seeds=[0, 7]), tmp_path)
    assert printed.startswith("kept: asa, seeds 1 and 5 of an earlier call\n")
    assert fewer.methods == ("baseline", "wau", "asa", "conv-lr(rate=0.5)"), "as they stood, new ones behind"
    assert fewer.seeds == (0, 1, 5, 7)
    assert fewer.title.endswith("4 seeds")
    assert {(one.method, one.seed) for one in fewer.runs} > {(one.method, one.seed) for one in more.runs}
    assert len(fewer.runs) == len(trained(tmp_path)) == 9 + 4
    assert "[6/6]" in printed, "what was not asked for is not trained"
    stands = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (tuple(stands["methods"]), tuple(stands["seeds"])) == (fewer.methods, fewer.seeds)


def test_document(tmp_path: Path) -> None:
    what = comparison("baseline conv-lr(0.5)", seeds=[3], precision="bf16")
    found, _ = compare(what, tmp_path)
    expected = "digits · vanilla-1-4 · 1 epoch · sgd 0.05, cosine · bf16 · 1 seed"
    assert found.title == expected
    assert found.methods == ("baseline", "conv-lr(rate=0.5)")
    assert (found.data, found.model, found.epochs, found.seeds) == ("digits", "vanilla-1-4", 1, (3,))
    assert found.config["train"]["lr"] == 0.05
    assert "methods" not in found.config
    assert {"torch", "commit", "threads"} <= set(found.environment)
    assert (tmp_path / "runs" / "conv-lr-rate-0.5" / "seed-3" / "model.safetensors").is_file()


def test_methods_on_other_networks_stand_in_one_table(tmp_path: Path) -> None:
    first, _ = compare(comparison("baseline wau", 1), tmp_path)
    arms = "baseline wau baseline@vanilla-2-3 dacnn+wau(0.3)@vanilla-3-3"
    found, printed = compare(comparison(arms, 1), tmp_path)
    names = ("baseline", "wau", "baseline@vanilla-2-3", "dacnn+wau(rate=0.3)@vanilla-3-3")
    assert (found.model, found.title, found.methods) == ("vanilla-1-4", first.title, names)
    assert tuple(one.method for one in found.runs) == names
    assert printed.count("(finished before)") == 2
    assert "[4/4] dacnn+wau(rate=0.3)@vanilla-3-3, seed 0: test " in printed
    assert len({one.parameters_deployed for one in found.runs}) == 3
    assert results.load(tmp_path) == found
    # Each is a plain run, the same as when it is trained alone.
    folder = tmp_path / "runs" / "dacnn-wau-rate-0.3@vanilla-3-3" / "seed-0"
    alone = config("dacnn+wau(rate=0.3)", model="vanilla-3-3", epochs=1, batch_size=256)
    assert RunFolder(folder).read_config() == alone
    run(alone, tmp_path / "alone")
    assert_same(weights(tmp_path / "alone"), weights(folder))
    rows = build_table(found).rows
    assert all(row.difference != "—" for row in rows[1:])
    again, printed = compare(comparison("baseline wau baseline@vanilla-2-3", 1), tmp_path)
    assert printed.count("(finished before)") == 3
    assert again == found


def test_warnings_name_the_row_and_are_said_once(tmp_path: Path) -> None:
    what = comparison("baseline repr@vanilla-2-6", 1, epochs=3, schedule="multistep", gamma=0.01)
    _, printed = compare(what, tmp_path)
    assert printed.count("warning: ") == 1
    assert printed.startswith("warning: repr@vanilla-2-6: after the last restore")


def test_a_failed_run_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = train.Session._check_finite

    def fails(self: train.Session, loss: Any) -> None:
        check(self, loss)
        if (self.config.method, self.config.seed, self.position.batch) == ("wau", 0, 3):
            raise RunFailed("loss is nan in epoch 1")

    with monkeypatch.context() as patch:
        patch.setattr(train.Session, "_check_finite", fails)
        found, printed = compare(comparison(), tmp_path)
    assert [one.status for one in found.runs] == ["finished", "failed", "finished", "finished"]
    assert found.runs[1].error == "loss is nan in epoch 1"
    assert "[2/4] wau, seed 0: failed: loss is nan in epoch 1" in printed
    first = trained(tmp_path)
    assert len(first) == 3
    # Only the failed one is tried again.
    found, _ = compare(comparison(), tmp_path)
    assert [one.status for one in found.runs] == ["finished"] * 4
    assert {name: time for name, time in trained(tmp_path).items() if name in first} == first


class Signals(Live):
    """A person presses Ctrl-C at a certain moment of the second run."""

    def __init__(self, moment: str) -> None:
        super().__init__(Console(file=io.StringIO()), 4)
        self.moment = moment

    def batch(self, done: int, batches: int) -> None:
        if self._ended == 1 and (
            (self.moment == "middle" and done == 2) or (self.moment == "end" and done == batches)
        ):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("moment", "status", "message"),
    [
        (
            "middle",
            "interrupted",
            r"stopped after epoch 1 of 1, batch 2 \(wau, seed 0\); 1 of 4 runs done",
        ),
        ("end", "finished", "stopped with 2 of 4 runs done"),
    ],
)
def test_ctrl_c(tmp_path: Path, moment: str, status: str, message: str) -> None:
    with Signals(moment) as live, pytest.raises(Interrupted, match=f"^{message}$") as caught:
        comparing.compare(comparison(), tmp_path, digits(), live)
    assert caught.value.signal == signal.SIGINT
    assert [one.status for one in results.load(tmp_path).runs] == ["finished", status]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    whole, _ = compare(comparison(), tmp_path / "whole")
    found, _ = compare(comparison(), tmp_path)
    assert [one.status for one in found.runs] == ["finished"] * 4
    for name in trained(tmp_path):
        assert_same(weights(tmp_path / "runs" / name), weights(tmp_path / "whole" / "runs" / name))
    assert len(whole.runs) == 4


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ("baseline asa(rate=3)", r"asa.rate=3.: rate must be a number in .0, 1., got 3"),
        ("baseline baseline@resnet21", "baseline@resnet21: resnet depth must be 6n.2 .*, got 21"),
        ("baseline wau@nonet", "wau@nonet: unknown network 'nonet'"),
        ("baseline wau@wau@nonet", "unknown network 'wau@nonet'"),
        ("baseline baseline@alexnet", "baseline@alexnet: image_size must be at least .*, got 8"),
        ("baseline dacnn+kflo@resnet20", "dacnn.kflo@resnet20: layer .* it shares its kernel with another layer"),
        (
            "baseline dacnn+repr(s1=1,s2=1,cycles=0)@resnet20",
            "dacnn.repr.*@resnet20: layer .* shares its kernel with another layer",
        ),
        ("baseline dacnn", "dacnn: scope='network' matches nothing: .* no two convolutions of equal shape"),
        ("baseline regulators(sections=[7])", "sections must be 'all' or numbers from 1 to 1, got .7."),
    ],
)
def test_what_is_impossible_shows_before_anything_is_trained(tmp_path: Path, arms: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        compare(comparison(arms), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_recipe_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    compare(comparison("baseline", 1), tmp_path)
    compare(comparison("baseline wau", 2, lr=0.1), tmp_path / "other")
    shutil.copytree(tmp_path / "other" / "runs" / "wau", tmp_path / "runs" / "wau")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"wau/seed-0 holds a run of another recipe: train.lr is 0.1 there and 0.05"):
        compare(comparison("baseline asa wau", 2), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_time_limit_stops_between_two_runs_and_the_same_call_goes_on(tmp_path: Path) -> None:
    class Slow(Live):
        def ended(self, label: str, note: str) -> None:
            super().ended(label, note)
            deadline.over = self._ended == 3

    class Movable(Deadline):
        over = False

        def too_late(self, needed: float = 0.0) -> bool:
            return type(self).over

    deadline = Movable
    with Slow(Console(file=io.StringIO()), 4) as live, pytest.raises(Interrupted) as caught:
        comparing.compare(comparison(), tmp_path, digits(), live, deadline=Movable("12m", 0.0))
    assert caught.value.code == 75
    assert str(caught.value) == ("time limit of 12m: stopped before the first batch (wau, seed 1); 3 of 4 runs done")
    assert [one.status for one in results.load(tmp_path).runs] == ["finished"] * 3
    assert not (tmp_path / "runs" / "wau" / "seed-1").exists(), "a run that can't get anywhere is not begun"
    Movable.over = False
    found, printed = compare(comparison(), tmp_path)
    assert printed.count("(finished before)") == 3
    assert [one.status for one in found.runs] == ["finished"] * 4


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    compare(comparison("baseline", 1), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match=r"holds a comparison of another recipe: train.lr is 0.05 there and 0.1 here"
    ):
        compare(comparison("baseline wau", 2, lr=0.1), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    compare(comparison("baseline", 1, device="auto", workers=0), tmp_path)  # no other result


def test_what_is_kept_of_earlier_calls_is_whole_or_said_to_be_damaged(tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    compare(comparison("baseline wau", 1), out)
    wau = RunFolder(out / "runs" / "wau" / "seed-0")
    wau.model.write_bytes(b"")
    _, printed = compare(comparison("baseline", 1), out)
    assert "warning: wau, seed 0 of an earlier call is damaged" in printed
    assert "baseline, seed 0 of an" not in printed

    compare(comparison("baseline wau", 1, lr=0.1), other)
    shutil.rmtree(wau.path)
    shutil.copytree(other / "runs" / "wau" / "seed-0", wau.path)
    before = (out / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"wau/seed-0 holds a run of another recipe: train.lr is 0.1 there and 0.05"):
        compare(comparison("baseline", 1), out)
    (out / "config.yaml").unlink()
    with pytest.raises(ValueError, match=r"holds results.json without config.yaml, .*; choose another --out$"):
        compare(comparison("baseline", 1), out)
    assert (out / "results.json").read_bytes() == before
