"""What the network that would be deployed is worth on the test set, over all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from filtersmith.lab.tasks.task import Scores, Task, TaskBatches
from filtersmith.methods.composition import Composition


@torch.no_grad()
def evaluate(task: Task, composition: Composition, batches: TaskBatches, accelerator: Any) -> Scores:
    """The scores of the network that would be deployed now."""
    if accelerator.num_processes > 1:  # each has its own batch-norm statistics; the first one's are saved
        for buffer in composition.trained.buffers():
            torch.distributed.broadcast(buffer, 0)
    return task.scores(composition.deployed.eval(), batches, accelerator)


def not_finite(network: nn.Module) -> set[str]:
    """Names of the parameters and buffers with a value that is infinite or no number."""
    return {name for name, value in network.state_dict().items() if not bool(torch.isfinite(value).all())}
