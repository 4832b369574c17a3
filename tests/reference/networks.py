"""Networks of the zoo as functions of their state dicts, layer after layer, in evaluation mode."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith import zoo

State = dict[str, Tensor]


def shaken(name: str, image_size: int) -> nn.Module:
    """The network in double precision and eval mode; random batch norms and biases, so that each one shows."""
    torch.manual_seed(0)
    model = zoo.build(name, 7, 2, image_size=image_size).double()
    for key, tensor in model.state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.2, 1.5).sub_(0.8 if key.endswith((".bias", "running_mean")) else 0.0)
    return model.eval()


def norm(state: State, name: str, x: Tensor) -> Tensor:
    """Batch norm in eval mode."""
    mean, variance, gamma, beta = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * gamma + beta


def norm_relu(state: State, name: str, x: Tensor) -> Tensor:
    """Batch norm in eval mode, then ReLU."""
    return norm(state, name, x).clamp(min=0)


def conv(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Convolution without groups, padded so that stride 1 keeps the size."""
    kernel = state[f"{name}.weight"]
    return F.conv2d(x, kernel, state.get(f"{name}.bias"), stride=stride, padding=kernel.shape[-1] // 2)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def blocks(state: State) -> Iterator[tuple[str, int]]:
    """``(layerS.N, stride)`` of every residual block; stages but the first begin with stride 2."""
    found = {tuple(map(int, part)) for part in re.findall(r"layer(\d)\.(\d+)\.conv1", " ".join(state))}
    for stage, number in sorted(found):
        yield f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1


def resnet18(state: State, x: Tensor) -> Tensor:
    x = norm_relu(state, "bn1", conv(state, "conv1", x))
    for block, stride in blocks(state):
        shortcut = x
        if f"{block}.projection.0.weight" in state:
            shortcut = norm(state, f"{block}.projection.1", conv(state, f"{block}.projection.0", x, stride))
        x = norm_relu(state, f"{block}.bn1", conv(state, f"{block}.conv1", x, stride))
        x = (norm(state, f"{block}.bn2", conv(state, f"{block}.conv2", x)) + shortcut).clamp(min=0)
    return linear(state, "fc", x.mean((2, 3)))


def preresnet(state: State, x: Tensor) -> Tensor:
    x = conv(state, "conv1", x)
    for block, stride in blocks(state):
        shortcut = conv(state, f"{block}.projection", x, stride) if f"{block}.projection.weight" in state else x
        x = conv(state, f"{block}.conv1", norm_relu(state, f"{block}.bn1", x), stride)
        x = conv(state, f"{block}.conv2", norm_relu(state, f"{block}.bn2", x)) + shortcut
    return linear(state, "fc", norm_relu(state, "bn", x).mean((2, 3)))


def resnext(state: State, x: Tensor) -> Tensor:
    x = norm_relu(state, "bn1", conv(state, "conv1", x))
    for block, stride in blocks(state):
        shortcut = x
        if f"{block}.projection.0.weight" in state:
            shortcut = norm(state, f"{block}.projection.1", conv(state, f"{block}.projection.0", x, stride))
        inner = norm_relu(state, f"{block}.bn1", conv(state, f"{block}.conv1", x))
        kernel = state[f"{block}.conv2.weight"]
        groups = inner.shape[1] // kernel.shape[1]
        pieces = zip(inner.chunk(groups, 1), kernel.chunk(groups), strict=True)
        inner = torch.cat([F.conv2d(a, b, stride=stride, padding=1) for a, b in pieces], 1)
        inner = norm_relu(state, f"{block}.bn2", inner)
        x = (norm(state, f"{block}.bn3", conv(state, f"{block}.conv3", inner)) + shortcut).clamp(min=0)
    return linear(state, "fc", x.mean((2, 3)))


def densenet(state: State, x: Tensor) -> Tensor:
    x = conv(state, "conv1", x)
    number = 1
    while f"features.block{number}.0.conv.weight" in state:
        if number > 1:
            part = f"features.transition{number - 1}"
            x = F.avg_pool2d(conv(state, f"{part}.2", norm_relu(state, f"{part}.0", x)), 2)
        layer = 0
        while (part := f"features.block{number}.{layer}") + ".conv.weight" in state:
            new = norm_relu(state, f"{part}.bn1", x)
            if f"{part}.reduce.0.weight" in state:
                new = norm_relu(state, f"{part}.reduce.1", conv(state, f"{part}.reduce.0", new))
            x = torch.cat([x, conv(state, f"{part}.conv", new)], 1)
            layer += 1
        number += 1
    return linear(state, "fc", norm_relu(state, "bn", x).mean((2, 3)))


def vgg(state: State, x: Tensor) -> Tensor:
    """VGG-16 or VGG-19, whose linear layers are called fc, or fc1 and fc2."""
    depth = len([key for key in state if re.search(r"conv\d+\.weight", key)])
    pools = {13: (2, 4, 7, 10, 13), 16: (2, 4, 8, 12, 16)}[depth]
    for number in range(1, depth + 1):
        x = norm_relu(state, f"features.bn{number}", conv(state, f"features.conv{number}", x))
        if number in pools:
            x = F.max_pool2d(x, 2)
    x = x.mean((2, 3))
    if "fc.weight" in state:
        return linear(state, "fc", x)
    return linear(state, "fc2", linear(state, "fc1", x).clamp(min=0))


def cifar_quick(state: State, x: Tensor) -> Tensor:
    for number, pool in ((1, F.max_pool2d), (2, F.avg_pool2d), (3, F.avg_pool2d)):
        x = F.conv2d(x, state[f"stage{number}.conv.weight"], padding=2)
        x = pool(norm_relu(state, f"stage{number}.bn", x), 3, 2)
    return linear(state, "fc2", linear(state, "fc1", x.flatten(1)).clamp(min=0))


def wrn(state: State, x: Tensor) -> Tensor:
    x = F.conv2d(x, state["conv1.weight"], padding=1)
    for block, stride in blocks(state):
        active = norm_relu(state, f"{block}.bn1", x)
        projection = state.get(f"{block}.projection.weight")
        shortcut = x if projection is None else F.conv2d(active, projection, stride=stride)
        inner = F.conv2d(active, state[f"{block}.conv1.weight"], stride=stride, padding=1)
        inner = norm_relu(state, f"{block}.bn2", inner)
        x = F.conv2d(inner, state[f"{block}.conv2.weight"], padding=1) + shortcut
    return linear(state, "fc", norm_relu(state, "bn", x).mean((2, 3)))


def lenet(state: State, x: Tensor) -> Tensor:
    x = F.max_pool2d(F.conv2d(x, state["conv1.weight"], state["conv1.bias"], padding=2).clamp(min=0), 2)
    x = F.max_pool2d(F.conv2d(x, state["conv2.weight"], state["conv2.bias"]).clamp(min=0), 2)
    for name in ("fc1", "fc2"):
        x = linear(state, name, x.flatten(1)).clamp(min=0)
    return linear(state, "fc3", x)
