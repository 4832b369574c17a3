"""What a run in memory is made of: the machine, the network, its batches, the optimizer. Each is made by a function.

``ValueError`` for everything in a configuration that does not fit the data, the network or the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from filtersmith.common.options import first_line
from filtersmith.common.words import plural
from filtersmith.lab.data import Augment, Batches, Batching, Data, StreamBatches, channel_stats, make_batches
from filtersmith.lab.network import Made, logits_of, make
from filtersmith.lab.recipe.config import RunConfig, TrainOptions
from filtersmith.methods.composition import Composition

_LEAST_TEST_BATCH = 512
"""Images of a batch that is tested: no gradients are kept, so that larger ones fit, and they are faster."""


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
    config: RunConfig, data: Data, composition: Composition, device: torch.device
) -> tuple[nn.Module, Made]:
    """The network of a recipe, with its weights, prepared by the methods; and what is known of it.

    What cannot take the images is refused here and now.
    """
    size = data.image_size
    task = {"num_classes": data.num_classes, "in_channels": data.channels, "image_size": size}
    network, made = make(config.model, task)
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = composition.prepare(network)
    network.eval()  # batch-norm statistics stay as they are
    try:
        with torch.random.fork_rng(), torch.no_grad():
            outputs = network(torch.zeros(2, data.channels, size, size, device=device))
    except Exception as error:
        raise ValueError(
            f"model {config.model.name!r} cannot take images of {size}x{size} ({first_line(error)}); "
            "data.image_size resizes them"
        ) from error
    logits = logits_of(outputs, config.model, data.num_classes)
    return network.train(), replace(made, spare=logits - data.num_classes)


def network_facts(data: Data) -> dict[str, Any]:
    """What building and using a network needs to know of its data, as the manifest keeps it.

    ``mean`` and ``std``, one number a channel in units of 0..1, are what the images are normalised with.
    """
    mean, std = channel_stats(data.train)
    return {
        "num_classes": data.num_classes,
        "in_channels": data.channels,
        "image_size": data.image_size,
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


class RunBatches(NamedTuple):
    """The batches of a run; ``held_out`` for methods that choose by data, where images are held out for them."""

    train: Batches | StreamBatches
    test: Batches | StreamBatches
    held_out: Repeatable | None


class Repeatable:
    """Batches as evaluation takes them, as often as they are asked for."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches.epoch(0))


def make_run_batches(config: RunConfig, data: Data, facts: dict[str, Any], accelerator: Any) -> RunBatches:
    """The batches of this process. ``facts`` are `network_facts`."""
    size, processes, workers = config.train.batch_size, accelerator.num_processes, config.train.workers
    in_order = Batching(
        size,
        accelerator.device,
        torch.tensor(facts["mean"]),
        torch.tensor(facts["std"]),
        seed=config.seed,
        rank=accelerator.process_index,
        world_size=processes,
    )
    shuffled = replace(in_order, augment=augmentation(config, data), shuffle=True)
    train = make_batches(data.train, shuffled, workers=workers)
    if (last := train.global_sizes[-1]) < processes:
        raise ValueError(
            f"train.batch_size must leave every process an image of the last batch: "
            f"{plural(len(data.train), 'image')} in batches of {size} leave {last}"
        )
    test = make_batches(data.test, replace(in_order, batch_size=max(size, _LEAST_TEST_BATCH)), workers=workers)
    if data.held_out is None:
        return RunBatches(train, test, None)
    return RunBatches(train, test, Repeatable(make_batches(data.held_out, in_order, workers=workers)))


def augmentation(config: RunConfig, data: Data) -> Augment | None:
    """What training may do to the images: the set's own, or the part of it that is asked for."""
    asked, own = config.data.augment, data.augment
    if own is None or asked is False:
        return None
    if asked == "mirror":
        return replace(own, pad=0)
    return replace(own, reflect=True) if asked == "reflect" else own


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
