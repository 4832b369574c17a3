"""What a filter is, in every kind of layer, against trying it out (`reference.filters`)."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.filters import example, members
from reference.nets import CONVOLUTIONS, net
from torch import Tensor, nn

from filtersmith.common.modules import unwrap
from filtersmith.filters import FilterLayer, filter_layers, locate

KINDS = ("dense", "grouped", "depthwise", "transposed", "grouped transposed", "linear")
CONVS = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


@st.composite
def modules(draw: Any) -> tuple[str, nn.Module]:
    """A layer of any kind and its kind; small, in random layout."""
    kind = draw(st.sampled_from(KINDS))
    inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    if kind == "linear":
        return kind, nn.Linear(inputs, outputs, bias=draw(st.booleans()))
    groups = draw(st.integers(2, 3)) if "grouped" in kind or kind == "depthwise" else 1
    if kind == "depthwise":
        inputs = 1
    elif kind == "grouped":
        inputs += 1  # one input channel a group would make it depthwise
    dims = draw(st.integers(1, 3))
    module = CONVS[dims]["transposed" in kind](
        inputs * groups,
        outputs * groups,
        tuple(draw(st.integers(1, 2)) for _ in range(dims)),
        stride=draw(st.integers(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
    )
    if dims > 1 and draw(st.booleans()):
        module = module.to(memory_format=CHANNELS_LAST[dims])
    return kind, module


def mark(layer: FilterLayer, units: list[int], unit: str) -> Tensor:
    """Where `locate` says that the units are: bool of the weight's shape."""
    marks = torch.zeros_like(layer.weight, dtype=torch.int32)  # keeps the strides
    view, index = locate(layer, torch.tensor(units, dtype=torch.int64), unit, tensor=marks)  # type: ignore[arg-type]
    assert view[index].shape[0] == len(units)
    view[index] += 1
    assert int(marks.max()) <= 1
    return marks.bool()


@given(case=modules(), data=st.data())
@settings(max_examples=80)
def test_units_are_where_trying_finds_them(case: tuple[str, nn.Module], data: Any) -> None:
    kind, module = case
    layer = FilterLayer("layer", module)
    assert layer.kind == kind.split()[-1]
    for unit in ("filter", "input-channel", "element"):
        count = layer.units(unit)  # type: ignore[arg-type]
        units = data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=4))
        assert torch.equal(mark(layer, units, unit), members(module, units, unit)), unit
        assert mark(layer, list(range(count)), unit).all(), f"the {unit}s do not make up the weight"


@given(case=modules(), data=st.data())
@settings(max_examples=40)
def test_a_filter_is_all_that_makes_its_output_channel(case: tuple[str, nn.Module], data: Any) -> None:
    module = case[1].double()
    layer = FilterLayer("layer", module)
    f = data.draw(st.integers(0, layer.filters - 1))
    x = torch.rand_like(example(module, size=4))

    def changed(noise_in: Tensor) -> list[int]:
        """The output channels that change when the marked weights do."""
        with torch.no_grad():
            before, old = module(x)[0], layer.weight.clone()
            layer.weight[noise_in] += 1
            after = module(x)[0]
            layer.weight.copy_(old)
        return (
            (after != before).flatten(1).any(1).nonzero().flatten().tolist()
            if x.ndim > 2
            else ((after != before).nonzero().flatten().tolist())
        )

    mine = mark(layer, [f], "filter")
    assert changed(mine) == [f]
    assert f not in changed(~mine)
    assert layer.filters == module(x).shape[1]


@given(case=modules(), data=st.data())
@settings(max_examples=40)
def test_located_slices_read_and_write_the_tensor_itself(case: tuple[str, nn.Module], data: Any) -> None:
    layer = FilterLayer("layer", case[1])
    unit = data.draw(st.sampled_from(("filter", "input-channel", "element")))
    units = data.draw(st.lists(st.integers(0, layer.units(unit) - 1), unique=True))
    view, index = locate(layer, torch.tensor(units, dtype=torch.int64), unit)
    assert view.untyped_storage().data_ptr() == layer.weight.untyped_storage().data_ptr()
    assert not view.requires_grad
    expected = layer.weight.detach().clone()
    chosen = members(case[1], units, unit)
    expected[chosen] = 7
    view[index] = 7
    assert torch.equal(layer.weight.detach(), expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=("nchw", "nhwc"))
def test_a_filter_is_one_run_of_memory_in_both_layouts(memory_format: torch.memory_format) -> None:
    """Copying it is several times faster so."""
    module = nn.Conv2d(4, 6, 3).to(memory_format=memory_format)
    view, _ = locate(FilterLayer("layer", module), torch.arange(2))
    assert view.shape == (6, 36)
    assert view.is_contiguous()


def test_all_convolutions_by_default_and_any_layer_by_name() -> None:
    model = net()
    assert {layer.name: layer.filters for layer in filter_layers(model)} == CONVOLUTIONS
    assert [layer.kind for layer in filter_layers(model)] == [
        "dense", "grouped", "depthwise", "transposed", "dense", "transposed",
    ]  # fmt: skip
    named = filter_layers(model, (name for name in ("fc", "up", "fc")))
    assert [(layer.name, layer.kind, layer.filters) for layer in named] == [
        ("fc", "linear", 4),
        ("up", "transposed", 5),
    ]


def test_tied_weights_count_once() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    model[2].weight = model[0].weight
    assert [layer.name for layer in filter_layers(model)] == ["0", "1"]
    shared = nn.Conv2d(2, 2, 3)
    assert [layer.name for layer in filter_layers(nn.Sequential(shared, shared))] == ["0"]


def test_the_weight_is_looked_up_anew() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3))
    (layer,) = filter_layers(model)
    model[0].weight = nn.Parameter(torch.zeros(5, 2, 3, 3))
    assert layer.weight is model[0].weight
    assert layer.filters == 5


def test_wrappers_do_not_show_in_names() -> None:
    model = net()
    wrappers = (
        torch.compile(model, backend="eager"),
        nn.DataParallel(model),
        torch.compile(nn.DataParallel(torch.compile(model, backend="eager")), backend="eager"),
    )
    for wrapped in wrappers:
        assert unwrap(wrapped) is model
        assert [layer.name for layer in filter_layers(wrapped)] == list(CONVOLUTIONS)
    model.up = torch.compile(model.up, backend="eager")  # a part alone
    assert [layer.name for layer in filter_layers(model)] == list(CONVOLUTIONS)


def _lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3))


def _parametrized() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Conv2d(4, 4, 1)))


def _weight_norm() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)))


def _old_spectral_norm() -> nn.Module:
    return nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)))


class FullyShardedDataParallel(nn.Module):
    """Goes by the name of torch's, which needs a process group; tests/methods/test_wau.py tries the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Conv2d(3, 3, 3)


@pytest.mark.parametrize(
    ("make", "layers", "words"),
    [
        (_lazy, None, ("'0'", "lazy", "forward")),
        (_parametrized, None, ("'0'", "parametrization", "layers=")),
        (_weight_norm, None, ("'0'", "weight", "layers=")),
        (_old_spectral_norm, None, ("'0'", "spectral norm", "layers=")),
        (lambda: nn.Sequential(nn.Linear(3, 3)), None, ("Sequential", "no convolution", "layers=")),
        (net, ["dens"], ("unknown layer 'dens'", "'dense'")),
        (net, ["bn"], ("unknown layer 'bn'",)),
        (net, "dense", ("layers", "sequence", "'dense'")),
        (net, 5, ("layers", "sequence", "5")),
        (net, [], ("layers", "at least one", "[]")),
        (FullyShardedDataParallel, None, ("FullyShardedDataParallel", "fully_shard")),
        (lambda: "resnet", None, ("model", "torch.nn.Module", "'str'")),
    ],
)
def test_what_has_no_filters_is_refused_in_one_line(make: Any, layers: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        filter_layers(make(), layers)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_parametrized_layer_may_be_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)))
    assert [layer.name for layer in filter_layers(model, ["0"])] == ["0"]
