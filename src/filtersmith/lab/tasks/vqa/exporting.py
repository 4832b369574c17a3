"""A network that answers questions, in a file for elsewhere: images and questions in, logits of the answers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from filtersmith.lab.tasks.exporting import Logits, random_images
from filtersmith.lab.tasks.vqa.records import FIRST_WORD, PADDING, UNKNOWN

INPUTS = ("images", "tokens", "lengths")


def exporting(facts: Mapping[str, Any]) -> Logits:
    """Batches of any size; a program takes tokens as wide as the longest question of the training set.

    Args:
        facts: of `Vqa.facts`.
    """
    tokens = {"padding": PADDING, "unknown": UNKNOWN, "first_word": FIRST_WORD}
    return Logits(INPUTS, lambda batch: (random_images(facts, batch), *random_questions(facts, batch)), tokens)


def random_questions(facts: Mapping[str, Any], batch: int) -> tuple[Tensor, Tensor]:
    """Tokens int64 (batch, longest) and lengths int64 (batch,): of any length, the first without words."""
    generator = torch.Generator().manual_seed(batch)
    longest = facts["longest"]
    lengths = torch.randint(longest + 1, (batch,), generator=generator)
    lengths[0] = longest if batch == 1 else 0
    tokens = torch.randint(UNKNOWN, facts["vocabulary"], (batch, longest), generator=generator)
    return tokens.where(torch.arange(longest) < lengths[:, None], PADDING), lengths
