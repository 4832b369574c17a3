"""Questions in words, and whether an answer is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tasks.vqa.small_set import lay_out
from torch import Tensor, nn

from filtersmith.lab.data import Batching
from filtersmith.lab.tasks.vqa.batches import QuestionBatches, load_images
from filtersmith.lab.tasks.vqa.layout import load
from filtersmith.lab.tasks.vqa.pictures import asked, asked_in_words

pytest.importorskip("PIL", reason="images need the extra filtersmith[vision]")


class Says(nn.Module):
    """Always the same answer, three times as likely as the next."""

    def __init__(self, answer: int, answers: int) -> None:
        super().__init__()
        self.logits = torch.zeros(answers)
        self.logits[answer] = 3.0

    def forward(self, images: Tensor, *words: Any) -> Tensor:
        return self.logits.expand(len(images), -1)


def test_right_and_wrong_answers(tmp_path: Path) -> None:
    def unknown(questions: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
        questions[0]["question"] = "Is it crimson?"

    data = load(f"vqa:{lay_out(tmp_path, test=unknown)}")
    questions = data.test
    assert asked_in_words(questions, 0, data.words) == "is it …?"
    images = load_images(questions.files, data.image_size)
    batching = Batching(len(questions), torch.device("cpu"), torch.zeros(3), torch.ones(3))
    batches = QuestionBatches(questions, images, batching, training=False)
    network = Says(data.answers.index("yes"), len(data.answers))
    pictures = asked(network, batches, questions, images, data.words, data.answers)
    assert [one.caption for one in pictures[:2]] == [
        "is it …? yes (right)",
        "what shape is it? yes (labelled circle)",
    ]
    assert pictures[3].caption == "is it red? yes (labelled no)", "of another image"
    chance = float(network.logits.softmax(0).max())
    assert pictures[0].csv.splitlines()[1] == f"yes,{round(chance, 4)}"
    assert all(one.source.startswith("data:image/svg+xml") for one in pictures)
