"""Questions are trained, resumed, tested and reported as any other task."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lab.tasks.vqa.small_set import lay_out
from reference.running import StopAfter, assert_same, weights
from safetensors.torch import load_file, save_file

from filtersmith import zoo
from filtersmith.lab.deployed import load_network
from filtersmith.lab.recipe.config import RunConfig, merge
from filtersmith.lab.tasks.vqa import features
from filtersmith.lab.tasks.vqa.batches import load_images
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


def frozen(tmp_path: Path, without: str = "nothing", **more: object) -> RunConfig:
    """A recipe that begins with a CNN, less what is called ``without``, and does not train it."""
    torch.manual_seed(0)
    known = {name: value for name, value in zoo.build("resnet8", 5, 3).state_dict().items() if without not in name}
    save_file(known, tmp_path / "cnn.safetensors")
    options = {"model.weights": str(tmp_path / "cnn.safetensors"), "model.frozen": True, "data.root": str(tmp_path)}
    return recipe(lay_out(tmp_path / "set"), **options, **more)


@pytest.mark.parametrize("method", ["baseline", "dacnn"])
def test_a_frozen_cnn_gives_its_features_once(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    what = frozen(tmp_path, method=method)
    data = load_data(what)
    train(what, tmp_path / "run", data, resume=False)
    found = weights(tmp_path / "run")
    if method == "baseline":
        before = load_file(tmp_path / "cnn.safetensors")
        assert all(torch.equal(found[f"cnn.{name}"], value) for name, value in before.items() if name[:3] != "fc.")
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 2, "of both splits"
    monkeypatch.setattr(features, "_make", None)
    train(what, tmp_path / "again", data, resume=False)  # nothing is made
    assert_same(found, weights(tmp_path / "again"))
    # What is deployed takes images, and answers as what was trained and tested does from their features.
    folder = RunFolder(tmp_path / "run")
    network = load_network(folder.read_config(), folder.read_manifest()["network"], folder.model)
    session = Session(what, data)
    for (given, tokens, lengths), (_, rows) in session.batches.test.epoch(0):
        network.given = True
        expected = network(given, tokens, lengths)
        network.given = False
        pixels = load_images(data.test.files, data.image_size)[data.test.image[rows]].float() / 255
        mean, std = (torch.tensor(session.facts[name]).view(-1, 1, 1) for name in ("mean", "std"))
        torch.testing.assert_close(network((pixels - mean) / std, tokens, lengths), expected, rtol=1e-4, atol=1e-5)


def test_a_method_that_acts_on_frozen_filters_alone_says_so(tmp_path: Path) -> None:
    what = frozen(tmp_path, method="wau", **{"train.epochs": 1})
    with pytest.warns(UserWarning, match="are frozen, all that it is for, so that it changes nothing"):
        train(what, tmp_path / "wau", load_data(what), resume=False)
    with pytest.raises(ValueError, match="its weight is frozen"):
        Session(frozen(tmp_path, method="repr", **{"train.epochs": 9}), load_data(what))


def test_what_is_frozen_has_weights_that_fit(tmp_path: Path) -> None:
    what = frozen(tmp_path, without="conv2")
    with pytest.raises(ValueError, match=r"model\.frozen must be false with weights that fit in part: of .*cnn\.sa"):
        Session(what, load_data(what))


def test_nothing_is_frozen_as_it_was_drawn(tmp_path: Path) -> None:
    what = recipe(lay_out(tmp_path / "set"), **{"model.frozen": True})
    with pytest.raises(ValueError, match=r"model\.frozen must be false without --backbone or --weights"):
        Session(what, load_data(what))
