"""What a run in memory is made of: the machine, the network, its batches, the optimizer. Each is made by a function.

``ValueError`` for everything in a configuration that does not fit the data, the network or the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from filtersmith.common.words import plural
from filtersmith.lab.network import Made
from filtersmith.lab.recipe.config import RunConfig, TrainOptions
from filtersmith.lab.tasks.task import RunBatches, Task
from filtersmith.methods.composition import Composition


def make_accelerator(options: TrainOptions) -> Any:
    """accelerate's view of the machine: device, processes, precision."""
    from accelerate import Accelerator, DistributedType
    from accelerate.state import AcceleratorState, GradientState

    cuda = torch.cuda.is_available()
    if options.device == "cuda" and not cuda:
        raise ValueError("train.device must be auto or cpu on this machine, got 'cuda'")
    cpu = options.device == "cpu" or not cuda
    if options.precision == "fp16" and cpu:
        raise ValueError("train.precision must be fp32 or bf16 on a CPU, got 'fp16'")
    # A process may make several runs with different precisions; accelerate keeps the first one's otherwise.
    AcceleratorState._reset_state()
    GradientState._reset_state()
    made = Accelerator(cpu=cpu, mixed_precision="no" if options.precision == "fp32" else options.precision)
    kind = made.distributed_type
    if kind not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        # Deployed networks and checkpoints need the weights in one piece.
        raise ValueError(
            f"a run trains in one process or with DistributedDataParallel, got a launch with {kind.value}"
        )
    return made


def make_network(
    config: RunConfig, task: Task, facts: Mapping[str, Any], composition: Composition, device: torch.device
) -> tuple[nn.Module, Made]:
    """The network of a recipe, with its weights, prepared by the methods; and what is known of it.

    What cannot take the data is refused here and now.
    """
    network, made = task.make(config.model, facts)
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    network = network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    network = composition.prepare(network)
    *_, spare = try_out(task, network, config, facts, device)
    return network, replace(made, spare=spare)


def try_out(
    task: Task, network: nn.Module, config: RunConfig, facts: Mapping[str, Any], device: torch.device
) -> tuple[Any, Any, Any, int]:
    """`Task.tried`, as if it had not been: batch-norm statistics and torch's generator stay as they are."""
    network.eval()
    with torch.random.fork_rng(), torch.no_grad():
        found = task.tried(network, config.model, facts, device)
    network.train()
    return found


def check_batches(batches: RunBatches, config: RunConfig, samples: int, processes: int) -> None:
    """``ValueError`` where the last batch leaves a process nothing."""
    if (last := batches.train.global_sizes[-1]) < processes:
        raise ValueError(
            f"train.batch_size must leave every process an image of the last batch: "
            f"{plural(samples, 'image')} in batches of {config.train.batch_size} leave {last}"
        )


def with_bias_lr(groups: list[dict[str, Any]], network: nn.Module, options: TrainOptions) -> list[dict[str, Any]]:
    """Groups in which biases, of batch norms too, have a learning rate of their own."""
    if options.bias_lr == 1:
        return groups
    biases = {id(p) for name, p in network.named_parameters() if "bias" in name.split(".")}
    parted: list[dict[str, Any]] = []
    for group in groups:
        rest = {**group, "params": [p for p in group["params"] if id(p) not in biases]}
        own = {**group, "params": [p for p in group["params"] if id(p) in biases], "lr": options.lr * options.bias_lr}
        parted += [part for part in (rest, own) if part["params"]]
    return parted


def make_optimizer(groups: list[dict[str, Any]], options: TrainOptions) -> Optimizer:
    """The optimizer of a recipe, over groups that have their own weight decay."""
    lr = options.lr
    match options.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr, momentum=options.momentum, nesterov=options.nesterov)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr, momentum=options.momentum)
        case "adam":
            return torch.optim.Adam(groups, lr)
        case "adamw":
            return torch.optim.AdamW(groups, lr)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr)
