"""What a network is worth on the test images, over all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from filtersmith.lab.data import Batches, StreamBatches
from filtersmith.methods.composition import Composition


@torch.no_grad()
def evaluate(composition: Composition, batches: Batches | StreamBatches, accelerator: Any) -> tuple[float, float]:
    """Mean loss and accuracy of the network that would be deployed now."""
    if accelerator.num_processes > 1:  # each has its own batch-norm statistics; the first one's are saved
        for buffer in composition.trained.buffers():
            torch.distributed.broadcast(buffer, 0)
    network = composition.deployed.eval()
    sums = torch.zeros(3, device=accelerator.device, dtype=torch.float64)
    for images, labels in batches.epoch(0):
        if len(labels) == 0:  # what a last, very small batch leaves a process
            continue
        with accelerator.autocast():
            outputs = network(images).float()
        loss = F.cross_entropy(outputs, labels, reduction="sum")
        sums += torch.stack(
            [loss.double(), (outputs.argmax(1) == labels).sum().double(), loss.new_tensor(len(labels)).double()]
        )
    loss, correct, count = accelerator.reduce(sums, reduction="sum").tolist()
    return loss / count, correct / count


def not_finite(network: nn.Module) -> set[str]:
    """Names of the parameters and buffers with a value that is infinite or no number."""
    return {name for name, value in network.state_dict().items() if not bool(torch.isfinite(value).all())}
