"""Which batch norm belongs to which convolution, and what takes the place of the two."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.nets import assert_same
from torch import Tensor, nn
from torch.nn import functional as F

import filtersmith as fs
from filtersmith import zoo
from filtersmith.reparam.branches import Absorbed, Branches
from filtersmith.reparam.pairs import fold, swap
from filtersmith.reparam.places import places_for_branches


class Own(nn.Module):
    """A network with a forward of its own: ``compute(self, x)``."""

    def __init__(self, compute: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.compute = compute
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.compute(self, x)


def conv(channels: int = 4) -> nn.Conv2d:
    return nn.Conv2d(4, channels, 3, padding=1, bias=False)


def bn(channels: int = 4, **options: Any) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, **options)


def pairs(network: nn.Module) -> dict[str, str]:
    """By their names; nothing in the network may change on the way."""
    before = copy.deepcopy(network.state_dict())
    names = {module: name for name, module in network.named_modules()}
    found = {names[one]: names[other] for one, other in places_for_branches(network).behind.items()}
    assert_same(network.state_dict(), before)
    return found


class MoreThanNormal(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class Stage(nn.Sequential):
    """It has code of its own, so that nobody but this calls what is inside."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


def in_the_way(self: Any, x: Tensor) -> Tensor:
    """Control flow that depends on the values, which torch.fx cannot trace."""
    return self.stem(x) if x.sum() > 0 else self.stem(-x)


def tapped(self: Any, x: Tensor) -> Tensor:
    """Likewise, and the code calls what is inside of a container."""
    values = []
    for part in self.stem if x.sum() > 0 else ():
        values.append(part(x))
    return sum(values)


two_convs = {"a": conv(), "b": conv(), "bn": bn()}
again = {"conv": conv(), "bn": bn(), "other": bn()}


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Sequential(conv(), bn(), nn.ReLU(), conv(), bn()), {"0": "1", "3": "4"}),
        (nn.Sequential(nn.Sequential(conv()), nn.Sequential(nn.Sequential(bn()))), {"0.0": "1.0.0"}),
        (nn.Sequential(conv(), nn.Identity(), bn()), {}),
        (nn.Sequential(conv(), nn.ReLU(), bn()), {}),
        (nn.Sequential(conv(), nn.Dropout(0.1), bn()), {}),
        (nn.Sequential(bn(), conv(), nn.ReLU()), {}),
        (nn.Sequential(conv()), {}),
        (conv(), {}),
        (bn(), {}),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), {}),
        (nn.Sequential(conv(), bn(track_running_stats=False)), {}),
        (nn.Sequential(conv(), MoreThanNormal(4)), {}),
        (nn.Sequential(conv(), nn.InstanceNorm2d(4, track_running_stats=True)), {}),
        (nn.Sequential(conv(), nn.GroupNorm(2, 4)), {}),
        (nn.Sequential(conv(), bn(affine=False)), {"0": "1"}),
        (nn.Sequential(conv(), nn.SyncBatchNorm(4)), {"0": "1"}),
        (nn.Sequential(nn.Conv1d(4, 5, 3), nn.BatchNorm1d(5)), {"0": "1"}),
        (nn.Sequential(nn.ConvTranspose3d(4, 5, 3), nn.BatchNorm3d(5)), {"0": "1"}),
        (nn.Sequential(conv(5), bn(4)), {}),  # could never run
        # functional code
        (Own(lambda s, x: F.relu(s.bn(s.conv(x))) + x, conv=conv(), bn=bn()), {"conv": "bn"}),
        (Own(lambda s, x: s.bn(F.relu(s.conv(x))), conv=conv(), bn=bn()), {}),
        (Own(lambda s, x: s.bn(s.conv(x) + 1), conv=conv(), bn=bn()), {}),
        (Own(lambda s, x: s.bn(F.conv2d(x, s.conv.weight)), conv=conv(), bn=bn()), {}),
        (Own(lambda s, x: F.batch_norm(s.conv(x), s.bn.running_mean, s.bn.running_var), conv=conv(), bn=bn()), {}),
        # read by others, too
        (Own(lambda s, x: s.bn(y := s.conv(x)) + y, conv=conv(), bn=bn()), {}),
        (Own(lambda s, x: [y := s.conv(x), s.bn(y)], conv=conv(), bn=bn()), {}),
        (Own(lambda s, x: s.bn(y := s.conv(x)) + s.other(y), conv=conv(), bn=bn(), other=bn()), {}),
        (Own(lambda s, x: s.bn(s.conv(x)) + x, conv=conv(), bn=bn()), {"conv": "bn"}),
        # used more than once
        (Own(lambda s, x: s.bn(s.a(x)) + s.bn(s.b(x)), **two_convs), {}),
        (Own(lambda s, x: s.bn(s.a(x)) + s.bn(x) + s.b(x), **two_convs), {}),
        (Own(lambda s, x: s.bn(s.conv(s.bn(s.conv(x)))), conv=conv(), bn=bn()), {"conv": "bn"}),
        (Own(lambda s, x: s.other(s.conv(s.bn(s.conv(x)))), **again), {}),
        (Own(lambda s, x: s.conv(s.bn(s.conv(x))), **again), {}),
        (Own(lambda s, x: s.bn(s.conv(s.conv(x))), **again), {}),
        (Own(lambda s, x: s.bn(s.conv(s.bn(x))), **again), {}),
        # not traceable: its parts are
        (Own(in_the_way, stem=Stage(conv(), bn(), nn.ReLU(), conv())), {"stem.0": "stem.1"}),
        (Own(tapped, stem=nn.Sequential(conv(), bn(), nn.ReLU(), conv())), {}),
        (Own(in_the_way, stem=nn.Sequential(Stage(conv(), bn()), conv())), {"stem.0.0": "stem.0.1"}),
        (Own(lambda s, x: s.bn(s.conv(x)) if x.sum() > 0 else x, conv=conv(), bn=bn()), {}),
        (
            Own(in_the_way, stem=Own(in_the_way, stem=Stage(conv(), bn())), head=Stage(conv(), bn())),
            {"stem.stem.0": "stem.stem.1", "head.0": "head.1"},
        ),
        (Own(in_the_way, stem=nn.Sequential(conv()), bn=nn.Sequential(bn())), {}),
    ],
)
def test_only_what_alone_reads_a_convolution_is_its_batch_norm(network: nn.Module, expected: dict[str, str]) -> None:
    assert pairs(network) == expected


def test_parts_of_an_untraceable_network_that_share_a_module_agree_on_it() -> None:
    shared, norm = conv(), bn()
    with_norm, without = Stage(shared, norm), Stage(shared, nn.ReLU())
    for parts in ((with_norm, without), (without, with_norm)):
        assert pairs(Own(in_the_way, stem=parts[0], head=parts[1])) == {}
    assert pairs(Own(in_the_way, stem=with_norm, head=Stage(nn.ReLU(), norm))) == {}
    for alone in (shared, norm):  # which the code may call itself
        assert pairs(Own(in_the_way, stem=with_norm, alone=alone)) == {}
        assert pairs(Own(in_the_way, alone=alone, stem=with_norm)) == {}
    assert pairs(Own(in_the_way, stem=with_norm, head=Stage(with_norm, nn.ReLU()))) == {"stem.0": "stem.1"}


@pytest.mark.parametrize("traceable", [True, False])
def test_blocks_are_taken_as_they_are(traceable: bool) -> None:
    parts = {"stem": Stage(conv(), bn()), "head": Stage(conv(), bn())}
    network = Own((lambda s, x: s.head(s.stem(x))) if traceable else in_the_way, **parts)
    fs.expand(network, fs.ACNet(), layers=["stem.0"])
    network.block = network.stem[0]  # a second name, among the parts of the network itself
    assert pairs(network) == {"head.0": "head.1"}
    fs.expand(network, fs.ACNet())
    assert isinstance(network.head[0], Branches)


def test_networks_of_torchvision() -> None:
    models = pytest.importorskip("torchvision.models")
    network = models.resnet18()
    convolutions = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d)]
    found = pairs(network)
    assert list(found) == convolutions
    assert len(found) == len(set(found.values())) == 20
    for name, behind in found.items():
        expected = name.replace("downsample.0", "downsample.1").replace("conv", "bn")
        assert behind == expected


def test_a_pre_activated_network_has_pairs_inside_its_blocks_only() -> None:
    assert pairs(zoo.build("wrn-16-1")) == {
        f"layer{stage}.{block}.conv1": f"layer{stage}.{block}.bn2" for stage in (1, 2, 3) for block in (0, 1)
    }


class Known(Branches):
    """A block that folds to known values."""

    def __init__(self, first: Any, norm: Any) -> None:
        super().__init__()
        self.conv = first
        self.bn = norm
        self.kernel = torch.randn_like(first.weight)
        self.of_bias = torch.randn(first.out_channels, dtype=first.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        first: Any = self.conv
        return first._conv_forward(x, self.kernel, self.of_bias)  # type: ignore[no-any-return]

    def fold(self) -> tuple[Tensor, Tensor]:
        return self.kernel, self.of_bias


def test_block_and_placeholder_take_every_place() -> None:
    first, norm, untouched = conv(), bn(), conv()
    network = Own(
        lambda s, x: s.body(x) + s.stem(x),
        body=nn.Sequential(first, norm, untouched),
        stem=nn.ModuleDict({"one": first, "list": nn.ModuleList([norm, first])}),
    )
    network.also = norm
    block = swap(network, first, norm, Known)
    assert isinstance(block, Known)
    assert block.conv is first
    assert block.bn is norm
    (placeholder,) = block.absorbed
    assert type(placeholder) is Absorbed
    assert [network.body[0], network.stem["one"], network.stem["list"][1]] == [block] * 3
    assert [network.body[1], network.stem["list"][0], network.also] == [placeholder] * 3
    assert network.body[2] is untouched
    assert sum(1 for part in network.modules() if part is norm) == 1, "it lives in the block alone"
    x = torch.randn(2, 4, 5, 5)
    assert placeholder(x) is x

    deployed = fs.collapse(network)
    plain = deployed.body[0]
    assert type(plain) is nn.Conv2d
    assert [deployed.stem["one"], deployed.stem["list"][1]] == [plain] * 2
    assert [deployed.stem["list"][0], deployed.also] == [deployed.body[1]] * 2
    assert type(deployed.body[1]) is nn.BatchNorm2d
    torch.testing.assert_close(deployed.eval().body(x), network.eval().body(x))
    assert network.body[0] is block


def test_modes_are_those_of_what_was_there() -> None:
    network = nn.Sequential(conv(), bn())
    network[1].eval()  # frozen statistics
    block = swap(network, network[0], network[1], Known)
    assert block.training
    assert not block.bn.training
    assert not network[1].training
    assert not fs.collapse(network)[1].training
    network = nn.Sequential(conv(), bn()).eval()
    assert not swap(network, network[0], network[1], Known).training


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_batch_norm_the_block_gets_one_of_its_own(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3, dtype=dtype), nn.ReLU(), bn(6))
    block = swap(network, network[0], None, Known)
    assert network[0] is block
    assert type(network[2]) is nn.BatchNorm2d, "another one stays"
    assert block.absorbed == ()
    assert isinstance(block.bn, nn.BatchNorm2d)
    assert block.bn.num_features == 6
    assert block.bn.weight.dtype == dtype
    plain = copy.deepcopy(block.conv)
    fold(block, plain, None)
    assert torch.equal(plain.weight, block.kernel)
    assert torch.equal(plain.bias, block.of_bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.SyncBatchNorm])
def test_a_fold_is_a_convolution_and_a_batch_norm_that_adds_at_most_the_bias(
    kind: Any, affine: bool, bias: bool, dtype: torch.dtype
) -> None:
    first = nn.Conv2d(4, 6, 3, 2, groups=2, bias=bias, dtype=dtype)
    norm = kind(6, eps=1e-3, momentum=0.3, affine=affine, dtype=dtype)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.num_batches_tracked.fill_(7)
    network = nn.Sequential(first, norm)
    block = swap(network, first, norm, Known)
    before = copy.deepcopy(block.state_dict())
    assert block.absorbed == (network[1],)
    plain, behind = copy.deepcopy((block.conv, block.bn))
    fold(block, plain, behind)
    assert_same(block.state_dict(), before)
    assert torch.equal(plain.weight, block.kernel)
    assert (plain.stride, plain.groups, plain.bias is None) == ((2, 2), 2, not bias)
    if bias:
        assert torch.equal(plain.bias, block.of_bias)
    assert (behind.eps, behind.momentum, behind.affine, int(behind.num_batches_tracked)) == (1e-3, 0.3, affine, 7)
    assert all(parameter.requires_grad for parameter in [*plain.parameters(), *behind.parameters()])

    x = torch.randn(2, 4, 7, 7, dtype=dtype)
    # SyncBatchNorm takes no CPU tensors in training, but evaluates them
    outputs = behind.eval()(plain(x))
    torch.testing.assert_close(outputs, block(x), rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=1e-6)


def test_a_batch_norm_without_bias_takes_it_into_its_mean() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6))
    network[1].register_parameter("bias", None)
    block = swap(network, network[0], network[1], Known)
    plain, behind = copy.deepcopy((block.conv, block.bn))
    fold(block, plain, behind)
    x = torch.randn(2, 4, 7, 7)
    torch.testing.assert_close(behind.eval()(plain(x)), block.eval()(x))


class KeptInAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3)
        self.steps = [self.conv, {"then": self.bn}]

    def forward(self, x: Tensor) -> Tensor:
        return self.steps[1]["then"](self.steps[0](x))


class ReadInEvaluation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return self.bn(y) if self.training else (self.bn(y), y)


class WeightRead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.conv.weight.sum()


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3))
    network[0].register_forward_hook(lambda *_: None)
    return network


@pytest.mark.parametrize("make", [KeptInAList, ReadInEvaluation, WeightRead, hooked])
def test_what_something_else_sees_is_no_pair(make: Any) -> None:
    assert places_for_branches(make()).behind == {}
    assert places_for_branches(make().eval()).behind == {}


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.calls = nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.feature = self.bn(self.conv(x * torch.rand(())))
        return self.feature


def test_looking_leaves_no_trace() -> None:
    network = Remembers()
    network.bn.eval()
    before, state = copy.copy(vars(network)), torch.get_rng_state()
    assert places_for_branches(network).behind == {network.conv: network.bn}
    assert vars(network) == before
    assert (network.training, network.bn.training) == (True, False)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_block_has_to_say_how_it_folds() -> None:
    class Silent(Branches):
        """It has a forward pass, but nothing that could be deployed."""

        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(TypeError, match=r"abstract method '?fold"):
        Silent()  # type: ignore[abstract]
