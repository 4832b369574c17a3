"""Questions are trained, resumed, tested and reported as any other task."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lab.tasks.vqa.small_set import lay_out
from reference.running import StopAfter, assert_same, weights
from safetensors.torch import save_file

from filtersmith import zoo
from filtersmith.lab.deployed import load_network
from filtersmith.lab.recipe.config import RunConfig, merge
from filtersmith.lab.tasks.vqa import features
from filtersmith.lab.tasks.vqa.network import DeeperLSTM
from filtersmith.lab.tasks.vqa.task import VQA
from filtersmith.lab.training.errors import Interrupted
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.run import load_data, train
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.stopping import StopRequest

pytest.importorskip("PIL", reason="images need the extra filtersmith[vision]")


def recipe(folder: Path, **more: object) -> RunConfig:
    options = {
        "task": "vqa",
        "data.name": f"vqa:{folder}",
        "train.epochs": 2,
        "train.batch_size": 4,
        "train.device": "cpu",
        "train.lr": 0.01,
        **more,
    }
    return merge(RunConfig, options=options)


def test_a_run_that_was_stopped_goes_on_bit_for_bit_and_has_a_score_for_each_type(tmp_path: Path) -> None:
    what = recipe(lay_out(tmp_path / "set"), method="wau+ema")
    data = load_data(what)
    whole = train(what, tmp_path / "whole", data, resume=False)
    with StopRequest() as stop, pytest.raises(Interrupted):
        train(what, tmp_path / "parts", data, resume=False, stop=stop, progress=StopAfter(stop, 4))
    train(what, tmp_path / "parts", data, resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    last = whole.epochs[-1]
    assert set(last.scores) == {"yes/no", "number", "other"}
    assert last.test_accuracy == pytest.approx(sum(last.scores.values()) / 3)
    assert last.train_accuracy is not None
    assert last.test_loss is not None


def test_what_the_network_is_tried_and_trained_with(tmp_path: Path) -> None:
    what = recipe(lay_out(tmp_path / "set"))
    session = Session(what, load_data(what))
    assert isinstance(session.model, DeeperLSTM)
    assert (session.facts["num_classes"], session.facts["answers"]) == (
        6,
        ["1", "2", "circle", "no", "square", "yes"],
    )
    inputs, labels = next(session.batches.train.epoch(0))
    outputs, loss, hits = VQA.step(session.model.eval(), inputs, labels, what.train)
    torch.testing.assert_close(outputs, session.model(*inputs))
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(outputs, labels, reduction="sum"))
    assert int(hits) == int((outputs.argmax(1) == labels).sum())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data.label": "a"}, "data.label must be left out"),
        ({"data.augment": False}, "data.augment must be left out"),
        ({"method": "kd(teacher='x.safetensors')"}, "method must be without what teaches classes"),
        ({"model.name": "resnet9"}, "resnet depth must be"),
    ],
)
def test_what_does_not_go_with_questions_is_refused(tmp_path: Path, options: dict[str, object], said: str) -> None:
    what = recipe(lay_out(tmp_path / "set"), **options)
    with pytest.raises(ValueError, match=said):
        Session(what, load_data(what), resolve=lambda name: torch.nn.Identity())


def test_a_frozen_cnn_gives_its_features_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    before = zoo.build("resnet8", 5, 3).state_dict()
    save_file(before, tmp_path / "cnn.safetensors")
    options = {"model.weights": str(tmp_path / "cnn.safetensors"), "model.frozen": True, "data.root": str(tmp_path)}
    what = recipe(lay_out(tmp_path / "set"), **options)
    data = load_data(what)
    done = train(what, tmp_path / "run", data, resume=False)
    assert done.epochs[-1].train_loss is not None
    found = weights(tmp_path / "run")
    for name, value in before.items():
        if not name.startswith("fc."):
            torch.testing.assert_close(found[f"cnn.{name}"], value, rtol=0, atol=0)
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 2, "of both splits"
    monkeypatch.setattr(features, "_make", None)
    train(what, tmp_path / "again", data, resume=False)  # nothing is made
    assert_same(found, weights(tmp_path / "again"))
    folder = RunFolder(tmp_path / "run")
    network = load_network(folder.read_config(), folder.read_manifest()["network"], folder.model)
    assert len(VQA.pictures(network, data, folder.read_manifest()["network"])) == 4, "what is deployed takes images"
    with pytest.warns(UserWarning, match="are frozen, all that it is for, so that it changes nothing"):
        train(what.model_copy(update={"method": "wau"}), tmp_path / "wau", data, resume=False)


def test_nothing_is_frozen_as_it_was_drawn(tmp_path: Path) -> None:
    what = recipe(lay_out(tmp_path / "set"), **{"model.frozen": True})
    with pytest.raises(ValueError, match=r"model\.frozen must be given with --backbone or --weights"):
        Session(what, load_data(what))
