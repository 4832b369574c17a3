"""Networks of a comparison that teach others of it.

Born-again networks: each generation of a method is trained anew, with the one before as its teacher (Furlanello et
al., *Born-Again Neural Networks*, ICML 2018, https://arxiv.org/abs/1805.04770; a comparison of RePr, Table 3). The
first generation is trained on the labels alone. A method that needs a teacher and names none has one that is trained
like the baseline, with another seed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from filtersmith.lab.data import Batching, Data, make_batches
from filtersmith.lab.deployed import load_network
from filtersmith.lab.recipe.arms import arm_name, split_arm
from filtersmith.lab.results.document import Ensemble
from filtersmith.lab.training.folder import RunFolder
from filtersmith.methods import BASELINE
from filtersmith.methods.lifecycle import of_class, option_defaults
from filtersmith.methods.spelling import Spelled, read, write

TEACHER = "teacher"
"""The name of a run that only teaches others."""

_BATCH = 512
_APART = 1_000_003
"""Between the seeds of two generations: more than there are seeds in a comparison."""


def generation_name(arm: str, generation: int) -> str:
    """The row of a generation, counted from 1; the first has the name of the method.

    >>> generation_name("wau@resnet20", 3)
    'wau generation 3@resnet20'
    """
    method, network = split_arm(arm)
    return arm if generation == 1 else arm_name(f"{method} generation {generation}", network)


def seed_of(seed: int, generation: int) -> int:
    """The seed that draws a generation, whose weights must not begin as its teacher's did.

    >>> seed_of(7, 1), seed_of(7, 2)
    (7, 1000010)
    """
    return (seed + (generation - 1) * _APART) % 2**32


def taught(method: str, teacher: str) -> str:
    """The text of a method that learns from the generation before: both cross entropies count the same.

    >>> taught("wau", "runs/one")
    "wau+kd(teacher='runs/one',temperature=1,weight=0.5)"
    """
    lesson = str(Spelled("kd", {"teacher": teacher, "temperature": 1, "weight": 0.5}))
    return lesson if method == BASELINE else f"{method}+{lesson}"


def lacks_teacher(method: str) -> bool:
    """Whether a method of a text needs a teacher and names none.

    >>> lacks_teacher("kflo+kd"), lacks_teacher("kd(teacher='runs/one')"), lacks_teacher("wau")
    (True, False, False)
    """
    return any(map(_open, read(method)))


def with_teacher(method: str, teacher: str) -> str:
    """The text with a teacher where it names none.

    >>> with_teacher("kflo+kd(weight=0.5)", "runs/one")
    "kflo+kd(teacher='runs/one',weight=0.5)"
    """
    filled = [replace(one, options={**dict.fromkeys(_open(one), teacher), **one.options}) for one in read(method)]
    return write(filled)


def _open(one: Spelled) -> list[str]:
    """The options of a method that name something outside, have no default and are not given."""
    cls = one.record.cls
    defaults = option_defaults(cls)
    return [
        option
        for option in of_class(cls, "resolved", ())
        if option not in one.options and defaults[option] is inspect.Parameter.empty
    ]


@torch.no_grad()
def ensemble(arm: str, seed: int, runs: Sequence[RunFolder], data: Data) -> Ensemble:
    """What finished runs of one seed are worth together: the mean of their probabilities decides."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    votes: list[Tensor] = []
    for folder in runs:
        facts = folder.read_manifest()["network"]
        network = load_network(folder.read_config(), facts, folder.model).to(device)
        batches = make_batches(data.test, Batching(_BATCH, device, facts["mean"], facts["std"]))
        found = [(network(images).double().softmax(1), labels) for images, labels in batches.epoch(0)]
        votes.append(torch.cat([probabilities for probabilities, _ in found]))
        answers = torch.cat([labels for _, labels in found])
    right = torch.stack(votes).mean(0).argmax(1) == answers
    return Ensemble(method=arm, seed=seed, members=len(runs), test_accuracy=float(right.double().mean()))
