"""Where filters, input channels and single weights stand, against trying it out (`reference.filters`)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.filters import example, members
from torch import Tensor, nn

from filtersmith.filters import FilterLayer, locate

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
    _, module = case
    layer = FilterLayer("layer", module)
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
