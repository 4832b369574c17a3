"""The networks of KFLO's tables: published sizes, wiring against functional references, images, names, tracing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith import zoo
from filtersmith.zoo.cifar_quick import CifarQuick
from filtersmith.zoo.lenet import LeNet5
from filtersmith.zoo.vgg import KfloVgg16
from filtersmith.zoo.wrn import WideResNet

NETWORKS = ("cifar-quick", "vgg16-kflo", "wrn-10-1", "wrn-16-2", "lenet5")
State = dict[str, Tensor]


@pytest.mark.parametrize(
    ("name", "for_ten", "for_hundred"),
    [
        ("cifar-quick", 117_034, 122_884),
        ("vgg16-kflo", 14_986_698, 15_032_868),
        ("wrn-16-8", 10_961_370, 11_007_540),
        ("wrn-28-2", 1_467_610, 1_479_220),
        ("wrn-28-5", 9_132_634, 9_161_524),
        ("wrn-28-10", 36_479_194, 36_536_884),
    ],
)
def test_sizes(name: str, for_ten: int, for_hundred: int) -> None:
    assert zoo.parameter_count(name, 10) == for_ten
    assert zoo.parameter_count(name, 100) == for_hundred


def test_size_of_lenet_for_mnist() -> None:
    assert zoo.parameter_count("lenet5", 10, 1, image_size=28) == 61_706
    assert sum(parameter.numel() for parameter in LeNet5().parameters()) == 61_706


def test_biases_of_cifar_quick_are_those_of_the_published_kflo_size() -> None:
    count = 0
    for module in CifarQuick().modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            out = len(module.weight)
            count += 4 * module.weight.numel() + out * 4 * out + (4 * out if module.bias is not None else 0)
        elif isinstance(module, nn.BatchNorm2d):
            count += 2 * module.num_features
    assert count == 508_728


def norm_relu(state: State, name: str, x: Tensor) -> Tensor:
    """Batch norm in eval mode, then ReLU."""
    mean, variance, gamma, beta = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / (variance + 1e-5).sqrt() * gamma + beta).clamp(min=0)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def reference_cifar_quick(state: State, x: Tensor) -> Tensor:
    for number, pool in ((1, F.max_pool2d), (2, F.avg_pool2d), (3, F.avg_pool2d)):
        x = F.conv2d(x, state[f"stage{number}.conv.weight"], padding=2)
        x = pool(norm_relu(state, f"stage{number}.bn", x), 3, 2)
    return linear(state, "fc2", linear(state, "fc1", x.flatten(1)).clamp(min=0))


def reference_vgg(state: State, x: Tensor) -> Tensor:
    for number in range(1, 14):
        x = F.conv2d(x, state[f"features.conv{number}.weight"], padding=1)
        x = norm_relu(state, f"features.bn{number}", x)
        if number in (2, 4, 7, 10, 13):
            x = F.max_pool2d(x, 2)
    return linear(state, "fc2", linear(state, "fc1", x.mean((2, 3))).clamp(min=0))


def reference_wrn(state: State, x: Tensor) -> Tensor:
    x = F.conv2d(x, state["conv1.weight"], padding=1)
    blocks = sorted({name.rsplit(".", 2)[0] for name in state if re.match(r"layer\d\.\d+\.conv1", name)})
    for block in blocks:
        stride = 2 if block in ("layer2.0", "layer3.0") else 1
        active = norm_relu(state, f"{block}.bn1", x)
        projection = state.get(f"{block}.projection.weight")
        shortcut = x if projection is None else F.conv2d(active, projection, stride=stride)
        inner = F.conv2d(active, state[f"{block}.conv1.weight"], stride=stride, padding=1)
        inner = norm_relu(state, f"{block}.bn2", inner)
        x = F.conv2d(inner, state[f"{block}.conv2.weight"], padding=1) + shortcut
    return linear(state, "fc", norm_relu(state, "bn", x).mean((2, 3)))


def reference_lenet(state: State, x: Tensor) -> Tensor:
    x = F.max_pool2d(F.conv2d(x, state["conv1.weight"], state["conv1.bias"], padding=2).clamp(min=0), 2)
    x = F.max_pool2d(F.conv2d(x, state["conv2.weight"], state["conv2.bias"]).clamp(min=0), 2)
    for name in ("fc1", "fc2"):
        x = linear(state, name, x.flatten(1)).clamp(min=0)
    return linear(state, "fc3", x)


def shaken(name: str, image_size: int) -> nn.Module:
    """The network in double precision and eval mode; random batch norms and biases, so that each one shows."""
    torch.manual_seed(0)
    model = zoo.build(name, 7, 2, image_size=image_size).double()
    for key, tensor in model.state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.2, 1.5).sub_(0.8 if key.endswith((".bias", "running_mean")) else 0.0)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "side", "reference"),
    [
        ("cifar-quick", 33, reference_cifar_quick),
        ("vgg16-kflo", 70, reference_vgg),
        ("wrn-10-1", 13, reference_wrn),  # the first stage has no projection
        ("wrn-16-2", 16, reference_wrn),
        ("lenet5", 29, reference_lenet),
    ],
)
@torch.no_grad()
def test_wiring_against_a_functional_reference(
    name: str, side: int, reference: Callable[[State, Tensor], Tensor]
) -> None:
    model = shaken(name, side)
    x = torch.randn(2, 2, side, side, dtype=torch.double)
    expected = reference(model.state_dict(), x)
    assert expected.std() > 1e-3
    torch.testing.assert_close(model(x), expected)


def test_wrn_projections_stand_where_the_channels_change() -> None:
    def projections(width: int) -> list[str]:
        return [name for name, _ in WideResNet(16, width).named_modules() if name.endswith("projection")]

    assert projections(1) == ["layer2.0.projection", "layer3.0.projection"]
    assert projections(2) == ["layer1.0.projection", "layer2.0.projection", "layer3.0.projection"]


@torch.no_grad()
def test_wrn_drops_activations_right_before_the_second_convolution() -> None:
    block = WideResNet(10, 2, dropout=1.0).layer1[0]
    nn.init.ones_(block.bn2.bias)  # a dropout before it would leave ones
    inputs: list[Tensor] = []
    block.conv2.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    x = torch.randn(4, 16, 8, 8)
    torch.testing.assert_close(block(x), block.projection(F.relu(block.bn1(x))))
    block.eval()(x)
    assert [bool(maps.any()) for maps in inputs] == [False, True]
    assert {m.p for m in zoo.build("wrn-16-1").modules() if isinstance(m, nn.Dropout)} == {0.3}


def test_wrn_starts_as_its_authors_say() -> None:
    torch.manual_seed(0)
    model = WideResNet(10, 4)
    for conv in (model.layer1[0].conv1, model.layer2[0].conv2, model.layer3[0].projection):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert not model.fc.bias.any()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_changes_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = zoo.build(name, 5)
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()
    assert [key for key, parameter in model.named_parameters() if torch.equal(parameter, before[key])] == []


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_tracing_sees_every_layer_once(name: str) -> None:
    model = zoo.build(name).eval()
    traced = torch.fx.symbolic_trace(model)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(traced(x), model(x))
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    layers = [
        key for key, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))
    ]
    assert [calls[key] for key in layers] == [1] * len(layers)
    functions = {node.target for node in traced.graph.nodes if node.op == "call_function"}
    assert functions.isdisjoint({F.conv2d, F.batch_norm, F.linear})


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("cifar-quick", (15, 16, 28, 33, 64)),
        ("vgg16-kflo", (32, 33, 65)),
        ("wrn-10-1", (1, 4, 9, 33)),
        ("lenet5", (12, 13, 28, 31, 32)),
    ],
)
@pytest.mark.parametrize("in_channels", [1, 3])
@torch.no_grad()
def test_sizes_of_images(name: str, sides: tuple[int, ...], in_channels: int) -> None:
    for side in sides:
        model = zoo.build(name, 11, in_channels, image_size=side).eval()
        assert model(torch.randn(2, in_channels, side, side)).shape == (2, 11)


@pytest.mark.parametrize(
    ("name", "smallest", "model"),
    [
        ("cifar-quick", 15, CifarQuick(image_size=15)),
        ("vgg16-kflo", 32, KfloVgg16()),
        ("lenet5", 12, LeNet5(in_channels=3, image_size=12)),
    ],
)
def test_smallest_image_is_where_torch_refuses(name: str, smallest: int, model: nn.Module) -> None:
    small = smallest - 1
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 3, small, small))
    with pytest.raises(ValueError, match=f"^image_size must be at least {smallest} for {name}, got {small}$"):
        zoo.build(name, image_size=small)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrn-27-2", "wrn depth must be 6n+4 and at least 10 (10, 16, 22, 28, ...), got 27"),
        ("wrn-4-2", "wrn depth must be 6n+4 and at least 10"),
        ("wrn-0-2", "wrn depth must be 6n+4 and at least 10"),
        ("wrn-28-0", "wrn width must be a whole number of at least 1, got 0"),
        ("wrn-28", "unknown network 'wrn-28' (did you mean 'wrn-28-"),
        ("wrn-028-2", "did you mean 'wrn-28-2'?"),
        ("WRN-28-10", "did you mean 'wrn-28-10'?"),
        ("cifar-quick-bn", "did you mean 'cifar-quick'?"),
        ("vgg16", "did you mean 'vgg16-kflo'?"),
        ("lenet", "did you mean 'lenet5'?"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        zoo.build(name)
    assert "\n" not in str(error.value)
