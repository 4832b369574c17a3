"""Sharing kernels and adding regulators on networks of all kinds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import sharing
from reference.nets import assert_same
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet, vgg

import filtersmith as fs
from filtersmith import zoo
from filtersmith.sharing.regulators import Copy, Regulated, Regulator


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    "build",
    [
        torchvision.models.resnet18,
        torchvision.models.resnet50,
        lambda: timm.create_model("resnet26t"),
        lambda: timm.create_model("mobilenetv3_small_050"),
        lambda: zoo.build("wrn-10-1"),
    ],
    ids=["resnet18", "resnet50", "resnet26t", "mobilenetv3", "wrn"],
)
def test_whole_networks(build: Any) -> None:
    with torch.device("meta"):
        model = build()
    groups = sharing.groups_of_equal_shape(model)
    first = {name: model.get_submodule(group[0]).weight for group in groups for name in group}
    saved = sum(len(g[1:]) * model.get_submodule(g[0]).weight.numel() for g in groups)
    names, before = list(model.state_dict()), parameters(model)
    report = fs.share_kernels(model)
    assert sorted(map(sorted, report.groups)) == sorted(map(sorted, groups))
    assert all(model.get_submodule(name).weight is kernel for name, kernel in first.items())
    assert (report.parameters_before, report.parameters_after) == (before, before - saved)
    assert parameters(model) == before - saved
    assert list(model.state_dict()) == names
    assert f"{before:,} -> {before - saved:,} parameters" in str(report)


def test_stages_are_those_of_the_resolution() -> None:
    report = fs.share_kernels(zoo.build("vanilla-4-8"), "stage")
    assert report.groups == (("features.3", "features.6", "features.9"),)
    chain = nn.Sequential(
        *(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1)),
    )
    assert fs.share_kernels(copy.deepcopy(chain), "stage").groups == (("0", "2"), ("5", "6"))
    assert fs.share_kernels(chain, "network").groups == (("0", "2", "4", "5", "6"),)

    class Branching(nn.Module):
        """Decides by the values that it sees: torch.fx cannot trace it, its halves it can."""

        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = (nn.Sequential(*(nn.Conv2d(2, 2, 1) for _ in range(2))) for _ in range(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.left(x) if x.sum() > 0 else self.right(x)

    assert fs.share_kernels(Branching(), "stage").groups == (("left.0", "left.1"), ("right.0", "right.1"))
    assert fs.share_kernels(Branching(), "network").groups == (("left.0", "left.1", "right.0", "right.1"),)


class Chain(nn.Module):
    """``layers`` equal convolutions with batch norms of their own; (b, c, 5, 5) -> (b, 3)."""

    def __init__(self, layers: int, channels: int, bias: bool, groups: int) -> None:
        super().__init__()
        make = lambda: nn.Conv2d(channels, channels, 3, padding=1, bias=bias, groups=groups)  # noqa: E731
        self.convs = nn.ModuleList(make() for _ in range(layers))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(layers))
        self.fc = nn.Linear(channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return self.fc(x.mean((2, 3)))


@settings(max_examples=40)
@given(st.integers(2, 5), st.sampled_from([(4, 1), (4, 2), (3, 3)]), st.booleans(), st.data())
def test_a_shared_kernel_moves_by_the_sum_of_all_gradients(
    layers: int, channels_groups: tuple[int, int], bias: bool, data: st.DataObject
) -> None:
    torch.manual_seed(layers)
    channels, split = channels_groups
    model = Chain(layers, channels, bias, split).double()
    chosen = data.draw(st.lists(st.integers(0, layers - 1), min_size=2, unique=True))
    groups = [[f"convs.{n}" for n in chosen]]
    fs.share_kernels(model, groups)
    twin = sharing.untied(model, groups)
    per_kernel = model.convs[0].weight.numel()
    assert parameters(twin) == parameters(model) + (len(chosen) - 1) * per_kernel
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):
        x, y = torch.randn(4, channels, 5, 5).double(), torch.randint(3, (4,))
        outputs, expected = model(x), twin(x)
        torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-10)
        for network, out in ((model, outputs), (twin, expected)):
            network.zero_grad()
            F.cross_entropy(out, y).backward()
        optimizer.step()
        sharing.sgd_step(twin, groups, 0.05)
        torch.testing.assert_close(dict(model.state_dict()), dict(twin.state_dict()), rtol=0, atol=1e-10)


def test_every_layer_reads_the_shared_kernel() -> None:
    model = Chain(4, 4, True, 1).eval()
    fs.share_kernels(model)
    seen: list[torch.Tensor] = []
    for conv in model.convs:
        conv.register_forward_hook(lambda module, inputs, out: seen.append(out))
    x = torch.randn(1, 4, 5, 5)
    model(x)
    with torch.no_grad():
        model.convs[2].weight[1, 2, 1, 1] += 1
    model(x)
    assert len(seen) == 8
    assert not any(torch.equal(before, after) for before, after in zip(seen[:4], seen[4:], strict=True))
    assert len({id(norm.weight) for norm in model.norms} | {id(conv.bias) for conv in model.convs}) == 8
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    wau = fs.WAU(model, rate=0.5).attach(optimizer)
    before = model.convs[0].weight.detach().clone()
    model(x).sum().backward()
    optimizer.step()
    moved = (model.convs[0].weight != before).flatten(1).any(1)
    assert int(moved.sum()) == 2, "half of one layer's filters"
    wau.detach()


# --- regulators ------------------------------------------------------------------------------------------


def test_regulators_stand_at_the_ends_of_the_branches() -> None:
    model = torchvision.models.resnet18(num_classes=10)
    before = parameters(model)
    report = fs.add_regulators(model)
    assert report.sections == {n: tuple(f"layer{n}.{b}.bn2.regulator" for b in range(2)) for n in range(1, 5)}
    added = sum(2 * (c * c + 2 * c) for c in (64, 128, 256, 512))
    assert (report.parameters_before, report.parameters_after) == (before, before + added)
    assert "8 regulators" in str(report)
    block = model.layer2[0].eval()
    assert isinstance(block.bn2, Regulated)
    assert isinstance(block.bn2.regulator, Regulator)
    x = torch.randn(2, 64, 8, 8)
    branch = block.bn2.inner(block.conv2(block.bn1(block.conv1(x)).relu()))
    regulated = block.bn2.regulator.bn(block.bn2.regulator.conv(branch)).relu()
    torch.testing.assert_close(block(x), (regulated + block.downsample(x)).relu())
    with torch.no_grad():
        block.bn2.regulator.bn.weight.zero_()  # and its bias is 0
    torch.testing.assert_close(block(x), block.downsample(x).relu())


def places(model: nn.Module, sections: Any = "all") -> dict[int, tuple[str, ...]]:
    with torch.device("meta"):
        found: dict[int, tuple[str, ...]] = fs.add_regulators(model, sections).sections
    return found


def test_where_regulators_go_in_other_networks() -> None:
    with torch.device("meta"):
        preactivated = timm.create_model("resnetv2_50d", drop_path_rate=0.1)
        gated = timm.create_model("seresnet18")
        chain = torchvision.models.vgg11_bn()
        dense = torchvision.models.densenet121()
        dropped = torchvision.models.efficientnet_b0()
    # Before what drops the whole branch, and before the gate.
    assert places(preactivated, [2]) == {2: tuple(f"stages.1.blocks.{n}.conv3.regulator" for n in range(4))}
    assert places(gated, [1, 4]) == {n: tuple(f"layer{n}.{b}.bn2.regulator" for b in range(2)) for n in (1, 4)}
    assert places(chain) == {n: (f"features.{f}.regulator",) for n, f in enumerate((2, 6, 13, 20, 27), 1)}
    assert len(places(dense)) == 5
    assert places(dropped, [1]) == {1: ("features.2.1.block.3.1.regulator",)}
    assert places(zoo.build("resnet20"), [3]) == {3: tuple(f"layer3.{b}.bn2.regulator" for b in range(3))}
    assert places(zoo.build("wrn-10-1")) == {n: (f"layer{n}.0.conv2.regulator",) for n in (1, 2, 3)}


def test_regulators_are_made_as_their_neighbours_are() -> None:
    model = torchvision.models.resnet18().to(torch.float64, memory_format=torch.channels_last).eval()
    fs.share_kernels(model)
    fs.add_regulators(model, [2])
    regulator = model.layer2[1].bn2.regulator
    assert regulator.conv.weight.dtype == regulator.bn.running_mean.dtype == torch.float64
    assert not any(module.training for module in regulator.modules())
    again = fs.share_kernels(model)
    assert not any("regulator" in name for group in again.groups for name in group), "regulators stay free"


def test_ties_are_known_by_their_new_names() -> None:
    """In a pre-activated block the branch ends in a convolution, which gets another name."""
    model = zoo.build("wrn-16-1")
    fs.share_kernels(model)
    fs.add_regulators(model, [1])
    model(torch.zeros(2, 3, 8, 8)).sum().backward()
    assert fs.check_ties(model) == []
    copied = copy.deepcopy(model)
    copied.load_state_dict(model.state_dict())
    inner = model.layer1[0].conv2.inner
    inner.weight = nn.Parameter(inner.weight.detach().clone())
    assert fs.check_ties(model) == ["layer1.0.conv2.inner"]


def test_gradients_of_regulators_behind_which_code_writes_in_place() -> None:
    """torchvision adds the shortcut in place, and ReLU's gradient is made of its output."""
    for model, copies in (
        (resnet.ResNet(resnet.BasicBlock, [1, 2, 1, 1], num_classes=3), True),
        (nn.Sequential(vgg.make_layers(vgg.cfgs["A"], batch_norm=True), nn.Flatten(), nn.Linear(512, 3)), False),
        (timm.create_model("resnetv2_50", layers=[1, 2, 1, 1], num_classes=3), True),
        (zoo.build("dacnn14-w4"), True),
        (zoo.build("dacnn18-w4"), False),
    ):
        fs.add_regulators(model)
        model(torch.randn(2, 3, 32, 32)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert any(isinstance(module, Copy) for module in model.modules()) == copies


def test_in_one_and_three_dimensions() -> None:
    for conv, norm, dims in ((nn.Conv1d, nn.BatchNorm1d, 1), (nn.Conv3d, nn.BatchNorm3d, 3)):
        model = nn.Sequential(conv(2, 4, 3, padding=1), norm(4), nn.ReLU(), conv(4, 4, 3, padding=1))
        model.append(conv(4, 4, 3, padding=1))
        assert fs.share_kernels(model).groups == (("3", "4"),)
        fs.add_regulators(model)
        assert model(torch.zeros(2, 2, *[4] * dims)).shape == (2, 4, *[4] * dims)
        model(torch.randn(2, 2, *[4] * dims)).sum().backward()


class Sum(nn.Module):
    """``x + branch(x)``, where ``end`` is what the branch does after its parts."""

    def __init__(self, end: Any, **parts: nn.Module) -> None:
        super().__init__()
        self.end = end
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self, x)


def conv(inputs: int = 4, outputs: int = 4, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)


def in_place_behind_a_view(model: Any, x: torch.Tensor) -> torch.Tensor:
    return model.bn(model.a(x)).flatten(2).mul_(2.0)


@pytest.mark.parametrize(
    ("end", "parts", "place"),
    [
        (lambda m, x: x + m.bn(F.glu(m.a(x), 1)), {"a": conv(4, 8), "bn": nn.BatchNorm2d(4)}, "bn"),
        (lambda m, x: x + m.bn(torch.cat([m.a(x), m.b(x)], 1)), {"a": conv(4, 2), "b": conv(4, 2)}, "bn"),
        (lambda m, x: x + m.scale * m.bn(m.a(x)), {}, "bn"),
        (lambda m, x: sum([m.a(x) * m.scale + m.scale, x]), {}, "a"),
        (lambda m, x: x + m.gn(m.a(x)), {"gn": nn.GroupNorm(2, 4)}, "gn"),
        (lambda m, x: x + m.seq(x), {"a": (shared := conv()), "seq": nn.Sequential(shared)}, "a"),
        (lambda m, x: x + F.dropout(F.relu(m.bn(m.a(x))), 0.1), {}, "bn"),
        (in_place_behind_a_view, {}, "bn"),
    ],
    ids=["narrower", "joined", "scaled", "shifted", "group norm", "two names", "activation", "view"],
)
def test_unusual_branches(end: Any, parts: dict[str, nn.Module], place: str) -> None:
    model = Sum(end, **{"a": conv(), "bn": nn.BatchNorm2d(4), **parts})
    model.scale = nn.Parameter(torch.ones(4, 1, 1))
    report = fs.add_regulators(model)
    assert report.sections == {1: (f"{place}.regulator",)}
    assert report.left_out == {}
    model(torch.randn(2, 4, 6, 6)).square().sum().backward()
    regulator = model.get_submodule(place).regulator
    assert all(p.grad is not None and p.grad.isfinite().all() for p in regulator.parameters())
    assert regulator.conv.weight.shape == (4, 4, 1, 1)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda m, x: x + m.fc(m.a(x)), "its branch ends in Linear"),
        (lambda m, x: x + torch.cat([m.some(x), m.some(x)], 1), "its branch ends in cat"),
        (lambda m, x: m.a(x) + m.b(x), "same number of convolutions"),
        (lambda m, x: x + F.interpolate(m.a(F.max_pool2d(x, 2)), scale_factor=2), "changes the resolution"),
        (lambda m, x: x.chunk(2, 1)[1] + m.quarter(x.chunk(2, 1)[0]), "its shortcut is a part of the channels"),
        (lambda m, x: x + m.a(m.a(x)), "a is called more than once"),
        (lambda m, x: x + m.kept[0](x), "a is also kept in a plain list"),
    ],
)
def test_branches_without_a_place_are_told(end: Any, reason: str) -> None:
    layers = {"a": conv(), "b": conv(), "some": conv(4, 2), "quarter": conv(2, 2), "fc": nn.Linear(6, 6)}
    model = Sum(end, **layers)
    model.kept = [model.a] if "plain" in reason else []
    names = list(model.state_dict())
    with pytest.raises(ValueError, match=rf"^Sum has no place for a regulator \(.*{reason}") as caught:
        fs.add_regulators(model)
    assert "\n" not in str(caught.value)
    assert list(model.state_dict()) == names
    together = nn.Sequential(Sum(lambda m, x: x + m.a(x), a=conv()), model)
    report = fs.add_regulators(together)
    assert report.sections == {1: ("0.a.regulator",)}
    assert set(report.left_out) == {"1"}
    assert f"none in 1: {report.left_out['1']}" in str(report)


def test_ties_of_a_larger_network_know_their_layers_by_new_names() -> None:
    model = nn.Sequential(zoo.build("wrn-16-1"))
    fs.share_kernels(model)
    fs.add_regulators(model[0], [1])
    assert fs.check_ties(model) == []
    model(torch.zeros(2, 3, 8, 8)).sum().backward()


def test_frozen_kernels_are_shared_among_themselves() -> None:
    model = nn.Sequential(*(conv() for _ in range(5)))
    model[1].requires_grad_(False)
    model[3].requires_grad_(False)
    with pytest.raises(ValueError, match=r"layers '0' and '1' cannot share a kernel: .*cpu\) and .*cpu, frozen\)"):
        fs.share_kernels(model, [["0", "1"]])
    assert fs.share_kernels(model).groups == (("0", "2", "4"), ("1", "3"))
    assert [layer.weight.requires_grad for layer in model] == [True, False, True, False, True]


def test_stages_of_what_cannot_be_told() -> None:
    """Layers that the graph does not show, or not at which resolution, stay as they are."""

    class Untraceable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(), nn.Conv2d(4, 4, 3, stride=2, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x)) if x.sum() > 0 else x

    with pytest.raises(
        ValueError, match="matches nothing: Untraceable has no two convolutions of equal shape at the"
    ):
        fs.share_kernels(Untraceable(), "stage")
    unused = Sum(lambda m, x: m.b(m.a(x)), a=conv(), b=conv(), never=conv())
    assert fs.share_kernels(unused, "stage").groups == (("a", "b"),)


# --- bad input -------------------------------------------------------------------------------------------


class Bad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)
        self.wide, self.half = nn.Conv2d(2, 4, 3), nn.Conv2d(2, 2, 3).to(torch.bfloat16)
        self.grouped = nn.Conv2d(4, 2, 3, groups=2)
        self.up = nn.ConvTranspose2d(2, 2, 3)
        self.fc = nn.Linear(2, 2)
        self.made = nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ("layer", "scope must be 'network', 'stage' or lists of layer names, got 'layer'"),
        (3, "scope must be .*, got 3"),
        ([], "scope must be"),
        (["a", "b"], "scope must be"),
        ([["a", 3]], "scope must be"),
        ([["a"]], "scope must be groups of at least two different layers"),
        ([["a", "a"]], "scope must be groups of at least two different layers"),
        ([["a", "b"], ["b", "up"]], "scope names the layer 'b' in two groups"),
        ([["a", "bb"]], "unknown layer 'bb'.*did you mean 'b'"),
        ([["a", "fc"]], "layer 'fc' cannot share its kernel: it is a linear layer"),
        ([["a", "wide"]], "layers 'a' and 'wide' cannot share a kernel: 2x2x3x3 .* and 4x2x3x3"),
        ([["a", "half"]], "'a' and 'half' cannot share a kernel: .*float32.* and .*bfloat16"),
        ([["a", "grouped"]], "cannot share a kernel: .* and .* in 2 groups"),
        ([["a", "up"]], "cannot share a kernel: .* and .* transposed"),
        ([["a", "b"], ["wide", "made"]], "'wide' and 'made' cannot share"),
        (
            [["a", "made"]],
            "layer 'made' cannot share its kernel: its weight is not a parameter but computed from others",
        ),
        (nn.Sequential(conv(), conv()), r"scope must be .*, got Sequential\("),
    ],
)
def test_bad_scopes(scope: Any, message: str) -> None:
    model = Bad()
    before = {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with pytest.raises(ValueError, match=f"^{message}|{message}") as caught:
        fs.share_kernels(model, scope)
    assert "\n" not in str(caught.value)
    assert {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)} == before
    assert not model._forward_pre_hooks
    assert_same(dict(model.named_buffers()), buffers)  # reading a weight under spectral norm changes some


def test_scopes_that_match_nothing() -> None:
    for scope in ("network", "stage"):
        with pytest.raises(ValueError, match=f"^scope='{scope}' matches nothing: Linear has no two convolutions"):
            fs.share_kernels(nn.Linear(2, 2), scope)
    with pytest.raises(ValueError, match=r"^model must be"):
        fs.share_kernels("resnet18")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [fs.KFLO(), fs.DOConv(), fs.ACNet(), fs.DBB()])
def test_expanded_networks(method: Any) -> None:
    expanded = fs.expand(zoo.build("resnet8"), method, layers=["layer1.0.conv1"])
    names = list(expanded.state_dict())
    for call, doing in ((fs.share_kernels, "share kernels"), (fs.add_regulators, "add regulators")):
        with pytest.raises(ValueError, match=rf"^cannot {doing}: layer 'layer1\.0\.conv1': it is expanded already"):
            call(expanded)
    assert list(expanded.state_dict()) == names


def test_lazy_layers() -> None:
    for lazy in (nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(affine=False, track_running_stats=False)):
        model = nn.Sequential(conv(), conv(), lazy)
        for call, doing in ((fs.share_kernels, "share kernels"), (fs.add_regulators, "add regulators")):
            with pytest.raises(ValueError, match=rf"^cannot {doing}: layer '2': it is lazy"):
                call(model)
        model(torch.zeros(1, 4, 5, 5))
        assert fs.share_kernels(model).groups[0][:2] == ("0", "1")


@pytest.mark.parametrize("sections", [0, 5, "last", [], [0], [5], [1.0], [True], ["1"], [[1]], None, torch.ones(2)])
def test_bad_sections(sections: Any) -> None:
    model = torchvision.models.resnet18(num_classes=2)
    before = list(model.state_dict())
    with pytest.raises(ValueError, match=r"^sections must be 'all' or numbers from 1 to 4, got") as caught:
        fs.add_regulators(model, sections)
    assert "\n" not in str(caught.value)
    assert list(model.state_dict()) == before


def test_regulators_without_a_place() -> None:
    class Untraceable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) if x.sum() > 0 else x

    for model, message in (
        (nn.Sequential(nn.Linear(2, 2)), "Sequential has no place for a regulator"),
        (Untraceable(), "Untraceable cannot be traced"),
    ):
        before = dict(model.state_dict())
        with pytest.raises(ValueError, match=f"^{message}"):
            fs.add_regulators(model)
        assert_same(dict(model.state_dict()), before)
    model = zoo.build("resnet20")
    fs.add_regulators(model, [2])
    with pytest.raises(ValueError, match=r"^section 2 has a regulator already"):
        fs.add_regulators(model)
    assert len([m for m in model.modules() if isinstance(m, Regulator)]) == 3
