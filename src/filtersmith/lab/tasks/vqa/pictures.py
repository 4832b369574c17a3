"""Images that are asked about, with the question, the true answer and the network's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from filtersmith.lab.results.figures import as_source
from filtersmith.lab.results.picture import Picture, as_csv
from filtersmith.lab.tasks.vqa.answers import accuracy
from filtersmith.lab.tasks.vqa.batches import QuestionBatches
from filtersmith.lab.tasks.vqa.records import FIRST_WORD, QuestionSet

WIDTH = 3.0
"""Inches of an image, height = width."""
SHOWN = 3
"""Answers whose probabilities are in the data of a picture."""
HEADS = ("answer", "probability")


@torch.no_grad()
def asked(
    network: nn.Module,
    batches: QuestionBatches,
    questions: QuestionSet,
    images: Tensor,
    words: Sequence[str],
    answers: Sequence[str],
) -> list[Picture]:
    """A picture for each question: what is asked, what is true, what the network says.

    Args:
        network: a `DeeperLSTM`, in evaluation mode.
        batches: of these questions, in order, with the numbers of the questions.
        questions: a few.
        images: uint8 (files, 3, h, w), of ``questions.files``.
        words: of the set.
        answers: to choose from.
    """
    pictures = []
    for inputs, (_, rows) in batches.epoch(0):
        for row, chances in zip(rows.tolist(), network(*inputs).float().softmax(1), strict=True):
            pictures.append(_picture(questions, row, chances, images[questions.image[row]], words, answers))
    return pictures


def _picture(
    questions: QuestionSet, row: int, chances: Tensor, image: Tensor, words: Sequence[str], answers: Sequence[str]
) -> Picture:
    surest = chances.topk(min(SHOWN, len(answers)))
    said = [(answers[place], chance) for chance, place in zip(*(one.tolist() for one in surest), strict=True)]
    question, true = asked_in_words(questions, row, words), _true(questions.answers[row])
    worth = accuracy(said[0][0], questions.answers[row])
    verdict = "right" if worth == 1 else f"labelled {true}" if worth == 0 else f"{worth:.0%} right, labelled {true}"
    caption = f"{question} {said[0][0]} ({verdict})"
    alt = f"{questions.files[questions.image[row]].name}: {question} The network answers {said[0][0]}"
    rows = [(answer, round(chance, 4)) for answer, chance in said]
    return Picture(
        caption, f"{alt} with a probability of {said[0][1]:.2f}; labelled {true}", as_csv(HEADS, rows), _source(image)
    )


def asked_in_words(questions: QuestionSet, row: int, words: Sequence[str]) -> str:
    """A question in the words that the network knows, an ellipsis in place of others."""
    tokens = questions.tokens[row, : questions.lengths[row]].tolist()
    said = (words[token - FIRST_WORD] if token >= FIRST_WORD else "…" for token in tokens)
    return " ".join(said).replace(" ?", "?")


def _true(answers: Sequence[str]) -> str:
    """The most frequent of people's answers, the first of equals."""
    return max(dict.fromkeys(answers), key=list(answers).count) if answers else ""


def _source(image: Tensor) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, WIDTH * image.shape[1] / image.shape[2]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image.movedim(0, -1).numpy(), interpolation="nearest")
    axes.set_axis_off()
    return as_source(figure)
