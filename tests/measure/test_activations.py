"""Where activations are watched, and that nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from reference.ranked_nets import Deciding, Repeating, case
from torch import Tensor, nn

from filtersmith.filters import FilterLayer, filter_layers
from filtersmith.measure.activations import gradients, mean_activation, share_of_zeros, taylor, watched


def seen(model: nn.Module, images: Tensor, *names: str) -> dict[str, Tensor]:
    layers, found = filter_layers(model, names or None), {}

    def see(name: str, z: Tensor) -> Tensor:
        found[name] = z.detach().clone()
        return z

    with watched(model.eval(), layers, see), torch.no_grad():
        model(images)
    return found


def test_behind_batch_norm_and_activation() -> None:
    some = case("vanilla")
    images = some.data()[0][0]
    found = seen(some.model, images)
    assert list(found) == ["features.0", "features.3"]
    x = images
    with torch.no_grad():
        for n, module in enumerate(some.model.get_submodule("features").children()):
            x = module(x)
            if n in (2, 5):
                torch.testing.assert_close(found[f"features.{n - 2}"], x)


def test_in_parts_and_at_the_convolution_itself() -> None:
    images = torch.randn(2, 3, 6, 6)
    model = Deciding().eval()
    found = seen(model, images)
    with torch.no_grad():
        torch.testing.assert_close(found["body.0"], model.body[:3](images))
        torch.testing.assert_close(found["last"], model.last(model.body(images)))
    twice = Repeating().eval()
    outputs: list[Tensor] = []
    twice.b.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    torch.testing.assert_close(seen(twice, images, "b")["b"], outputs[-1])


def test_what_see_returns_goes_on_and_nothing_stays_behind() -> None:
    some = case("vanilla")
    model, images = some.model.eval(), some.data()[0][0]
    before = [dict(vars(module)) for module in model.modules()]
    expected = model(images)
    with watched(model, filter_layers(model), lambda name, z: z * 0):
        torch.testing.assert_close(model(images), model.get_submodule("fc").bias.expand_as(expected))
    with pytest.raises(RuntimeError, match="stop"), watched(model, filter_layers(model), stop):
        model(images)
    assert [dict(vars(module)) for module in model.modules()] == before
    assert torch.equal(model(images), expected)


def stop(name: str, z: Tensor) -> Tensor:
    raise RuntimeError("stop")


def test_by_hand() -> None:
    """One filter of weight 1, one of weight -1, on one image of two pixels."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight[:, 0, 0, 0] = torch.tensor([1.0, -1.0])
        model[3].weight[:] = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    layers = [FilterLayer("0", model[0])]
    data = [(torch.tensor([[[[3.0, -1.0]]]]), None)]

    def loss(outputs: Tensor, labels: None) -> Tensor:
        return outputs.sum()

    assert mean_activation(model, layers, iter(data))["0"].tolist() == [1.5, 0.5]
    assert share_of_zeros(model, layers, iter(data))["0"].tolist() == [0.5, 0.5]
    assert taylor(model, layers, iter(data), loss)["0"].tolist() == [(3 * 1 + 0) / 2, (0 + 1 * 4) / 2]
    assert gradients(model, layers, iter(data), loss)["0"].tolist() == [3 * 1, 1 * 4]


def test_a_layer_that_evaluation_does_not_call() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.aux = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.aux(x) if self.training else self.a(x)  # type: ignore[no-any-return]

    model = Auxiliary().eval()
    with pytest.raises(ValueError, match="layer 'aux' is not called in evaluation mode"):
        mean_activation(model, filter_layers(model), iter([(torch.randn(1, 3, 2, 2), None)]))
