"""What will run, but hardly as it was meant: warnings about schedules, as functions of what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from filtersmith.common.phases import Phase
from filtersmith.optim.lr import is_enough, share_after, useful_epochs

UNKNOWN = (
    "the schedule does not say how many batches an epoch has, so phases are placed as for a constant rate: "
    "schedule_by='epoch', or steps_per_epoch as an attribute of what scheduler makes"
)
OWN = (
    "each phase sets the learning rates back to those at its start, of which a schedule of your own does not know: "
    "hand it over as scheduler="
)

BEGUN = (
    "the optimizer has taken steps before: where this training goes on with a saved one, load_state_dict() with the "
    "state of the methods is missing"
)


def short_of_rate(phases: Sequence[Phase], rates: Sequence[float] | None) -> list[str]:
    """Where what comes back last would hardly be trained; ``rates``: of each epoch, as a share of the highest.

    >>> short_of_rate([Phase("sub", 0, 1), Phase("full", 1, 2)], [1.0, 0.5])
    []
    """
    back = [now.start for before, now in pairwise(phases) if before.name == "sub"]
    if not back or rates is None or is_enough(share := share_after(back[-1], rates)):
        return []
    return [
        f"after the last restore, behind epoch {back[-1]}, comes {share:.1%} of the training, counted in learning "
        f"rate, and what comes back is hardly trained: fewer cycles, so that it is by epoch "
        f"{useful_epochs(len(rates), rates)}, or a rate that stays high"
    ]


def levelled(before: Sequence[float], after: Sequence[float]) -> list[str]:
    """Where a schedule gives groups one learning rate that had different ones.

    >>> levelled([0.1, 0.05], [0.1, 0.05])
    []
    """
    if len(set(before)) < 2 or len(set(after)) != 1:
        return []
    return [
        "the schedule gives all parameter groups one learning rate, which had different ones before (OneCycleLR and "
        "CyclicLR take a list of rates)"
    ]
