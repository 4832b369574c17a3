"""Networks that answer questions, in files for elsewhere: the file alone answers as the network does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lab.tasks.vqa.small_set import lay_out
from lab.tasks.vqa.test_task import recipe
from torch import Tensor

from filtersmith.lab.data.order import Batching
from filtersmith.lab.export import export
from filtersmith.lab.exported import load
from filtersmith.lab.tasks.vqa.batches import QuestionBatches, load_images
from filtersmith.lab.tasks.vqa.exporting import exporting, random_questions
from filtersmith.lab.training.run import load_data, train

pytest.importorskip("PIL", reason="images need the extra filtersmith[vision]")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    what = recipe(lay_out(root / "set"), method="kflo(width=1.5)")
    torch.manual_seed(0)
    train(what, root / "run", load_data(what), resume=False)
    return root / "run"


def questions(run: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Those of the test set, with tokens as wide as the longest that there may be."""
    data = load_data(recipe(run.parent / "set"))
    mean, std = (torch.tensor(load(run / "export.safetensors").facts[name]) for name in ("mean", "std"))
    batching = Batching(6, torch.device("cpu"), mean, std)
    images = load_images(data.test.files, data.image_size)
    (((pictures, tokens, lengths), _),) = QuestionBatches(data.test, images, batching, training=False).epoch(0)
    assert tokens.shape == (6, data.train.longest)
    return pictures, tokens, lengths


@pytest.mark.long
@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_the_file_alone_answers_as_the_network_does(trained: Path, format: str) -> None:
    alone = load(export(trained, "safetensors").path)
    inputs = questions(trained)
    with torch.no_grad():
        expected = alone.network(*inputs)
    done = export(trained, format)
    if format == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(
            str(done.path), providers=["CPUExecutionProvider"]
        )
        described = session.get_modelmeta().custom_metadata_map
        assert [one.name for one in (*session.get_inputs(), *session.get_outputs())] == [
            *("images", "tokens", "lengths"),
            "logits",
        ]
        named = dict(zip(("images", "tokens", "lengths"), (one.numpy() for one in inputs), strict=True))
        found = torch.from_numpy(session.run(["logits"], named)[0])
    else:
        extra = {"metadata.json": ""}
        program = torch.export.load(done.path, extra_files=extra).module()
        described = json.loads(extra["metadata.json"])
        found = program(*inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert described["task"] == "vqa"
    assert json.loads(described["answers"]) == alone.facts["answers"] == ["1", "2", "circle", "no", "square", "yes"]
    assert {name: json.loads(described[name]) for name in ("padding", "unknown", "first_word", "longest")} == {
        "padding": 0,
        "unknown": 1,
        "first_word": 2,
        "longest": 5,
    }


def test_random_questions_are_as_the_data_has_them() -> None:
    facts = {"longest": 6, "vocabulary": 9, "in_channels": 3, "image_size": 8}
    tokens, lengths = random_questions(facts, 50)
    assert set(lengths.tolist()) == set(range(7))
    assert lengths[0] == 0
    assert torch.equal((tokens != 0).sum(1), lengths), "padding stands behind the last word"
    assert int(tokens.max()) == 8
    how = exporting(facts)
    assert [tuple(one.shape) for one in how.example("onnx")] == [(2, 3, 8, 8), (2, 6), (2,)]
    assert random_questions(facts, 1)[1].tolist() == [6]
