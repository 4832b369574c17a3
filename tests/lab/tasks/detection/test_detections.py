"""The losses of a detector by part, and what it finds."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import Tensor, nn

from filtersmith.lab.tasks.detection import detections
from filtersmith.lab.tasks.detection.detections import LOSSES, detect, losses, not_finite, total
from filtersmith.lab.tasks.detection.metric import AveragePrecision
from filtersmith.lab.tasks.detection.network import build

pytest.importorskip("torchvision", reason="detectors need the extra filtersmith[vision]")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build("fasterrcnn-resnet18-fpn", 3, image_size=64, width=16, regions=8)


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator) for size in ((64, 80), (70, 64))]
    box = {"boxes": torch.tensor([[4.0, 4, 40, 50]]), "labels": torch.tensor([2])}
    return images, [box, {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)}]


def test_the_documentation() -> None:
    assert doctest.testmod(detections).failed == 0


def test_four_losses_that_are_trained_together(network: nn.Module) -> None:
    images, targets = batch()
    network.train()
    torch.manual_seed(0)
    parts = losses(network, images, targets)
    assert list(parts) == list(LOSSES)
    assert all(part.ndim == 0 and part.requires_grad for part in parts.values())
    assert total(parts).item() == pytest.approx(sum(part.item() for part in parts.values()))
    torch.manual_seed(0)
    theirs = network(images, targets)
    assert {name: part.item() for name, part in parts.items()} == {name: one.item() for name, one in theirs.items()}
    total(parts).backward()
    assert all(p.grad is not None for p in network.parameters()), "all of the detector is trained"
    network.zero_grad()


def test_targets_may_say_more_and_stay_as_they_are(network: nn.Module) -> None:
    images, targets = batch()
    more = [{**target, "iscrowd": torch.zeros(len(target["labels"]))} for target in targets]
    copies = [image.clone() for image in images]
    losses(network.train(), images, more)
    assert all(torch.equal(one, other) for one, other in zip(images, copies, strict=True))
    assert [sorted(target) for target in more] == [["boxes", "iscrowd", "labels"]] * 2
    assert torch.equal(more[0]["boxes"], batch()[1][0]["boxes"])


def test_what_is_refused(network: nn.Module) -> None:
    images, targets = batch()
    with pytest.raises(ValueError, match="has losses in training mode alone: call train"):
        losses(network.eval(), images, targets)
    flat = [{**targets[0], "boxes": torch.tensor([[4.0, 4, 4, 50]])}, targets[1]]
    with pytest.raises(
        ValueError, match=r"boxes should have positive height and width.* target at index 0"
    ) as caught:
        losses(network.train(), images, flat)
    assert "\n" not in str(caught.value)


def test_parts_that_are_not_finite_are_named(network: nn.Module) -> None:
    images, targets = batch()
    parts = losses(network.train(), images, targets)
    assert not_finite(parts) == ""
    bias = network.get_submodule("roi_heads.box_predictor.cls_score").bias
    assert isinstance(bias, nn.Parameter)
    kept = bias.detach().clone()
    with torch.no_grad():
        bias.fill_(torch.nan)
    parts = losses(network, images, targets)
    with torch.no_grad():
        bias.copy_(kept)
    assert not bool(total(parts).isfinite())
    assert not_finite(parts) == "loss_classifier (the classes of the regions) is nan"
    odd = {"loss_objectness": torch.tensor(torch.inf), "penalty": torch.tensor(-torch.inf)}
    assert not_finite(odd) == "loss_objectness (whether anchors hold a thing) is inf, penalty is -inf"


def test_what_is_found(network: nn.Module) -> None:
    images, _ = batch()
    head = network.get_submodule("roi_heads")
    network.train()
    head.eval()  # somebody's choice, which stays
    found = detect(network, images)
    assert network.training
    assert not head.training
    assert detect(network, []) == []
    assert len(found) == 2
    for one, image in zip(found, images, strict=True):
        assert sorted(one) == ["boxes", "labels", "scores"]
        assert not any(value.requires_grad for value in one.values())
        assert len(one["boxes"]) == len(one["labels"]) == len(one["scores"]) > 0
        assert torch.equal(one["scores"], one["scores"].sort(descending=True).values), "the surest first"
        assert bool((one["labels"] >= 1).all() and (one["labels"] <= 3).all())
        height, width = image.shape[-2:]
        assert bool((one["boxes"] >= 0).all() and (one["boxes"][:, 2] <= width).all())
        assert bool((one["boxes"][:, 3] <= height).all())
    network.train()


def test_the_mode_is_left_where_something_fails(network: nn.Module) -> None:
    network.train()
    with pytest.raises(ValueError, match="3d tensors"):
        detect(network, [torch.rand(1, 3, 64, 64)])
    assert all(module.training for module in network.modules())


def test_statistics_of_norms_do_not_move_while_it_detects(network: nn.Module) -> None:
    before = {name: value.clone() for name, value in network.named_buffers()}
    detect(network.train(), batch()[0])
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())


def test_a_batch_without_any_box_teaches_the_background_alone(network: nn.Module) -> None:
    images, (_, none) = batch()
    torch.manual_seed(0)
    parts = losses(network.train(), images, [none, none])
    assert parts["loss_box_reg"].item() == parts["loss_rpn_box_reg"].item() == 0
    assert parts["loss_classifier"].item() > 0
    assert parts["loss_objectness"].item() > 0
    before = parts["loss_classifier"].item()
    total(parts).backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert all(one is not None and bool(one.isfinite().all()) for one in gradients.values()), "as DDP needs them"
    assert not gradients["roi_heads.box_predictor.bbox_pred.weight"].any()  # type: ignore[union-attr]
    bias = network.get_parameter("roi_heads.box_predictor.cls_score.bias")
    assert bias.grad is not None
    assert bias.grad[0] < 0 < bias.grad[1:].min(), "the background becomes surer, all classes less so"
    network.zero_grad()
    with torch.no_grad():
        bias[0] += 5
        torch.manual_seed(0)
        assert losses(network, images, [none, none])["loss_classifier"].item() < before
        bias[0] -= 5


def test_the_loss_of_an_image_without_boxes_has_its_share(network: nn.Module) -> None:
    """As many regions of it are learnt as of the other."""
    images, targets = batch()
    sizes = []
    hook = network.get_submodule("roi_heads.box_predictor").register_forward_hook(
        lambda module, inputs, outputs: sizes.append(len(inputs[0]))
    )
    losses(network.train(), images, targets)
    losses(network, images[1:], targets[1:])
    hook.remove()
    assert sizes == [16, 8]


def test_nothing_is_found(network: nn.Module) -> None:
    images, targets = batch()
    bias = network.get_parameter("roi_heads.box_predictor.cls_score.bias")
    with torch.no_grad():
        bias[0] += 30
        found = detect(network, images)
        bias[0] -= 30
    assert [{name: tuple(value.shape) for name, value in one.items()} for one in found] == [
        {"boxes": (0, 4), "labels": (0,), "scores": (0,)}
    ] * 2
    metric = AveragePrecision()
    metric.add(found, targets)
    assert metric.result() == {"AP": 0, "AP50": 0, "AP75": 0}
