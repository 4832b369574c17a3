"""DACNN's networks: parameter counts against the paper, and what their kernels and regulators are."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith import zoo
from filtersmith.sharing.regulators import Regulator
from filtersmith.zoo.dacnn import CHAINS, DACNN, RESIDUAL

BLOCKS = {depth: sum(layout) for depth, layout in RESIDUAL.items()}
STEM, KERNEL, CLASSIFIER = 3 * 128 * 9, 128 * 128 * 9, 128 * 100 + 100


def convolutions(depth: int) -> int:
    return 1 + (sum(CHAINS[depth]) if depth in CHAINS else 2 * BLOCKS[depth])


@pytest.mark.parametrize("depth", [*CHAINS, *RESIDUAL])
def test_plain_networks_and_their_twins_by_hand(depth: int) -> None:
    layers = convolutions(depth)
    assert layers == (depth if depth < 14 else depth - 1)
    norms = 2 * 128 * layers
    assert zoo.parameter_count(f"dacnn{depth}", 100) == STEM + KERNEL + norms + CLASSIFIER
    twin = STEM + (layers - 1) * KERNEL + norms + CLASSIFIER
    assert zoo.parameter_count(f"dacnn{depth}-unshared", 100) == twin
    assert zoo.parameter_count(f"dacnn{depth}-nobn", 100) == STEM + KERNEL + CLASSIFIER


@pytest.mark.parametrize(
    ("name", "printed", "within"),
    [
        # DACNN, Tables 2, 3, 6, in millions.
        *((f"dacnn{depth}", printed, 0.02) for depth, printed in ((3, 0.164), (9, 0.164), (11, 0.165))),
        *((f"dacnn{depth}", printed, 0.02) for depth, printed in ((14, 0.165), (18, 0.166), (34, 0.168))),
        *((f"dacnn{depth}-mix", printed, 0.02) for depth, printed in ((14, 4.73), (18, 4.90), (34, 4.91))),
        ("dacnn18-mix-reg", 5.60, 0.02),
        ("dacnn34-mix-reg", 6.17, 0.03),  # printed 6.10; 6.17 is the printed -mix with one regulator a block
    ],
)
def test_printed_sizes(name: str, printed: float, within: float) -> None:
    assert abs(zoo.parameter_count(name, 100) / 1e6 - printed) <= within


@pytest.mark.parametrize(("depth", "printed"), [(18, 0.46), (24, 0.56), (34, 0.72)])
def test_one_regulator_a_block_and_the_printed_one_a_layer(depth: int, printed: float) -> None:
    plain, regulator = zoo.parameter_count(f"dacnn{depth}", 100), 128 * 128
    ours = zoo.parameter_count(f"dacnn{depth}-reg", 100)
    assert ours == plain + BLOCKS[depth] * (regulator + 2 * 128)
    assert abs((plain + depth * regulator) / 1e6 - printed) < 0.011  # the printed ones are cut off


def test_each_section_of_18_layers_gets_two_regulators() -> None:
    """Table 4: 32 K (of 1024) more for each section, 128 K for all."""
    plain = zoo.parameter_count("dacnn18", 100)
    for section in "1234":
        assert zoo.parameter_count(f"dacnn18-reg{section}", 100) - plain == 32 * 1024 + 2 * 2 * 128
    assert zoo.parameter_count("dacnn18-reg", 100) - plain == 128 * 1024 + 8 * 2 * 128
    model = zoo.build("dacnn18-reg24")
    names = [name for name, module in model.named_modules() if isinstance(module, Regulator)]
    assert names == [f"sections.{s}.{b}.bn2.regulator" for s in (1, 3) for b in (0, 1)]


@pytest.mark.parametrize(
    "name", [name for name in zoo.names() if name.startswith("dacnn") and "unshared" not in name]
)
def test_kernels(name: str) -> None:
    with torch.device("meta"):
        model = zoo.build(name)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    spatial = {id(layer.weight) for layer in layers if layer.kernel_size == (3, 3)}
    regulators = [m for m in model.modules() if isinstance(m, Regulator)]
    pointwise = {id(layer.weight) for layer in layers if layer.kernel_size == (1, 1)}
    residual = name.startswith(("dacnn18", "dacnn24", "dacnn34"))
    assert len(spatial) == (8 if "mix" in name else 2)
    assert len(pointwise) == len(regulators) + (3 if "mix" in name and residual else 0)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len({id(norm.weight) for norm in norms}) == len(norms) == (0 if "nobn" in name else len(layers))
    assert not any(layer.bias is not None for layer in layers)


def test_a_chain_and_a_residual_network_by_hand() -> None:
    """Functional twins, mixed, in evaluation mode with random statistics."""
    for name in ("dacnn7-w4", "dacnn14-mix-w2", "dacnn18-mix-reg4-w2"):
        model = zoo.build(name).eval()
        state = model.state_dict()
        for key, value in state.items():
            if key.endswith(("running_mean", "bias")):
                value.normal_()
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2)
        x = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(model(x), by_hand(model, state, x), rtol=1e-4, atol=1e-5)


def by_hand(model: DACNN, state: dict[str, Tensor], x: Tensor) -> Tensor:
    def norm(name: str, x: Tensor) -> Tensor:
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)

    def conv(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, padding=weight.shape[2] // 2)

    def block(name: str, x: Tensor) -> Tensor:
        branch = norm(f"{name}.bn1", conv(f"{name}.conv1", x)).relu()
        branch = conv(f"{name}.conv2", branch)
        if f"{name}.bn2.regulator.conv.weight" in state:
            branch = norm(f"{name}.bn2.inner", branch)
            branch = norm(f"{name}.bn2.regulator.bn", conv(f"{name}.bn2.regulator.conv", branch)).relu()
        else:
            branch = norm(f"{name}.bn2", branch)
        shortcut = x
        if f"{name}.projection.0.weight" in state:
            shortcut = norm(f"{name}.projection.1", conv(f"{name}.projection.0", x))
        return (branch + shortcut).relu()

    x = norm("stem.bn", conv("stem.conv", x)).relu()
    for section, units in enumerate(model.sections):
        for unit in range(len(units) - 1):
            name = f"sections.{section}.{unit}"
            x = (
                block(name, x)
                if f"{name}.conv1.weight" in state
                else norm(f"{name}.bn", conv(f"{name}.conv", x)).relu()
            )
        x = F.max_pool2d(x, 2)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def test_depth_costs_batch_norms_only() -> None:
    counts = Counter(zoo.parameter_count(f"dacnn{depth}") - 2 * 128 * convolutions(depth) for depth in (3, 9, 14, 34))
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dacnn4", "dacnn depth must be 3, 5, 7, 9, 11, 14, 18, 24, 34, got 4"),
        ("dacnn5-mix", "dacnn depth must be 14, 18, 24 or 34 for -mix, got 5"),
        ("dacnn18-w0", "dacnn width must be a whole number of at least 1, got 0"),
        ("dacnn18-reg5", "sections must be 'all' or numbers from 1 to 4, got .5."),
        ("dacnn18-reg-mix", "unknown network"),
        ("dacnn18-reg0", "unknown network"),
        ("dacnn18-reg11", "unknown network"),
        ("dacnn18-reg21", "unknown network"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        zoo.build(name)
    assert "\n" not in str(caught.value)


def test_images_too_small() -> None:
    for name, smallest in (("dacnn3", 4), ("dacnn18-mix", 16), ("dacnn14", 32)):
        assert zoo.build(name, image_size=smallest).eval()(torch.zeros(1, 3, smallest, smallest)).shape == (1, 10)
        with pytest.raises(ValueError, match=f"^image_size must be at least {smallest} for dacnn"):
            zoo.build(name, image_size=smallest - 1)
