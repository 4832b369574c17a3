"""Which convolutions share a kernel, and why the others do not."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn

import filtersmith as fs
from filtersmith import zoo
from filtersmith.sharing.groups import groups_to_share, layers_not_shared


def conv(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, padding=1, **options)


def mixed() -> nn.Module:
    """Two equal pairs at two resolutions, one frozen, one alone, and a linear layer."""
    frozen = conv().requires_grad_(False)
    pooled = nn.Sequential(nn.MaxPool2d(2), conv(), conv(), frozen)
    return nn.Sequential(conv(), conv(), pooled, nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize("make", [mixed, lambda: zoo.build("resnet20"), lambda: zoo.build("vanilla-4-8")])
@pytest.mark.parametrize("scope", ["network", "stage"])
def test_every_layer_shares_or_has_a_reason(make: Any, scope: Any) -> None:
    model = make()
    shared = set(chain(*groups_to_share(model, scope)))
    reasons = layers_not_shared(model, scope)
    layers = {name for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    assert shared | reasons.keys() == layers
    assert not shared & reasons.keys()


def test_the_groups_and_the_reasons() -> None:
    model = mixed()
    assert groups_to_share(model, "network") == [["0", "1", "2.1", "2.2"]]
    assert groups_to_share(model, "stage") == [["0", "1"], ["2.1", "2.2"]]
    alone = "no other convolution has a kernel of its shape"
    assert layers_not_shared(model, "network") == {"2.3": alone, "3": alone, "5": "it is a linear layer"}
    by_name = layers_not_shared(model, [["0", "2.2"]])
    assert by_name.keys() == {"1", "2.1", "2.3", "3", "5"}
    assert by_name["1"] == "scope does not name it"
    fs.share_kernels(model)
    assert groups_to_share(model, "network") == [["0", "1", "2.1", "2.2"]], "a second time it is no other"


def test_regulators_and_what_no_graph_shows_stay_their_own() -> None:
    model = zoo.build("resnet20")
    fs.add_regulators(model, [1])
    reasons = layers_not_shared(model, "network")
    assert reasons["layer1.0.bn2.regulator.conv"] == "it is a regulator's, which is free"

    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.never = conv(), conv(), conv()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.b(self.a(x))
            return out

    assert layers_not_shared(Unused(), "stage") == {"never": "its resolution cannot be told from the graph"}
    assert layers_not_shared(Unused(), "network") == {}


def test_where_sharing_is_refused_the_cause_is_listed() -> None:
    computed = nn.Sequential(conv(), nn.utils.parametrizations.weight_norm(conv()), conv())
    reasons = layers_not_shared(computed, "network")
    assert list(reasons) == ["1"]
    assert groups_to_share(computed, "network") == [["0", "2"]], "nobody named it"
    with pytest.raises(ValueError, match=rf"^layer '1' cannot share its kernel: {reasons['1'][:40]}.*share kernels"):
        groups_to_share(computed, [["0", "1"]])
    lazy = nn.Sequential(conv(), conv(), nn.LazyConv2d(4, 3))
    assert layers_not_shared(lazy, "network") == {"2": "it is lazy and has no shape yet (run one forward pass first)"}
    wrapped = layers_not_shared(nn.DataParallel(mixed()), "network")
    assert len(wrapped) == 7
    assert all("DataParallel" in reason for reason in wrapped.values())
