"""Detectors by name, the weights that they begin with, and every method on them."""

from __future__ import annotations

import copy
import doctest
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import thin as thin_networks
from torch import Tensor, nn

import filtersmith as fs
from filtersmith import zoo
from filtersmith.lab.tasks.detection import network as detectors
from filtersmith.lab.tasks.detection.detections import detect, losses, total
from filtersmith.lab.tasks.detection.network import NAMES, begin, build, norm_for, stages_of_head
from filtersmith.lab.tasks.detection.records import scaled_size

torchvision = pytest.importorskip("torchvision", reason="detectors need the extra filtersmith[vision]")
resnet, vgg = torchvision.models.resnet, torchvision.models.vgg
FPN, C4, VGG = "fasterrcnn-resnet18-fpn", "fasterrcnn-resnet18", "fasterrcnn-vgg16"
KINDS = [(name, norm) for name in (FPN, C4, VGG) for norm in ("batch", "frozen")]


@pytest.fixture
def thin(monkeypatch: pytest.MonkeyPatch) -> None:
    thin_networks.use(monkeypatch.setattr)


def small(name: str, norm: str = "batch", **options: Any) -> nn.Module:
    """A detector whose head is small, the same each time."""
    torch.manual_seed(0)
    width = {} if name == C4 else {"width": 16}
    network = build(name, 3, image_size=64, norm=norm, regions=8, **width, **options)
    for module in network.modules():
        if norm == "frozen" and hasattr(module, "running_var"):  # as if they had been trained
            module.running_mean.uniform_(-0.2, 0.2)
            module.weight.uniform_(0.3, 0.7)
            module.bias.uniform_(0.1, 0.5)
    return network


def batch(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images of other sizes, with two boxes and with one."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, *size, generator=generator).to(dtype) for size in ((64, 85), (96, 64))]
    boxes = [torch.tensor([[3.0, 4, 20, 30], [30, 10, 60, 44]]), torch.tensor([[5.0, 5, 40, 40]])]
    labels = [torch.tensor([1, 3]), torch.tensor([2])]
    return images, [{"boxes": of_one.to(dtype), "labels": label} for of_one, label in zip(boxes, labels, strict=True)]


# --- what is built ---------------------------------------------------------------------------------------


def test_the_documentation() -> None:
    assert doctest.testmod(detectors).failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_detector_has_its_layers(name: str) -> None:
    with torch.device("meta"):
        network = build(name, 20, image_size=600)
    assert type(network).__name__ == "FasterRCNN"
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes["roi_heads.box_predictor.cls_score.weight"][0] == 21, "and the background"
    assert shapes["roi_heads.box_predictor.bbox_pred.weight"][0] == 84
    assert all(p.requires_grad for p in network.parameters())
    last = {"18": 512, "50": 2048, "101": 2048}.get(name.removesuffix("-fpn").rpartition("resnet")[2])
    if name.endswith("-fpn"):
        assert shapes["backbone.fpn.inner_blocks.3.0.weight"][1] == last
        assert shapes["roi_heads.box_head.fc6.weight"] == (1024, 256 * 49)
    elif last:
        assert shapes["roi_heads.box_predictor.cls_score.weight"] == (21, last)
        assert not any(key.startswith("backbone.body.layer4") for key in shapes), "regions are proposed on C4"
    else:
        assert shapes["roi_heads.box_head.fc6.weight"] == (4096, 512 * 49)


def test_with_a_pyramid_it_is_torchvisions_own() -> None:
    with torch.device("meta"):
        own = build("fasterrcnn-resnet50-fpn", 90, image_size=800)
        theirs = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (own, theirs)]
    assert shapes[0] == shapes[1]
    assert own.transform.min_size == theirs.transform.min_size
    assert own.transform.max_size == theirs.transform.max_size
    assert own.rpn.anchor_generator.sizes == theirs.rpn.anchor_generator.sizes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"name": "fasterrcnn-resnet34"},
            r"unknown detector 'fasterrcnn-resnet34' .*known: .*fasterrcnn-resnet101-fpn",
        ),
        ({"num_classes": 0}, "num_classes must be a whole number of at least 1, got 0"),
        ({"image_size": 63}, "image_size must be at least 64 for a detector, got 63"),
        ({"norm": "group"}, f"norm must be batch or frozen for {FPN}, got 'group'"),
        ({"norm": "none"}, f"norm must be batch or frozen for {FPN}, got 'none'"),
        ({"trained": 6}, "trained must be a number of stages, 0 to 5, got 6"),
        ({"regions": 0}, "regions must be a whole number of at least 1, got 0"),
        ({"name": C4, "width": 9}, "width must be left out for fasterrcnn-resnet18, whose head is .*, got 9"),
    ],
)
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    given = {"name": FPN, "num_classes": 3, "image_size": 64, **options}
    with pytest.raises(ValueError, match=said) as caught:
        build(given.pop("name"), given.pop("num_classes"), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("name", [FPN, VGG])
def test_weights_are_drawn_from_torchs_generator(name: str) -> None:
    one, other = small(name).state_dict(), small(name).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    torch.manual_seed(1)
    third = build(name, 3, image_size=64, width=16).state_dict()
    assert not torch.equal(
        one["backbone.body.0.weight" if name == VGG else "backbone.body.conv1.weight"],
        third["backbone.body.0.weight" if name == VGG else "backbone.body.conv1.weight"],
    )


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("size", [64, 100, 128])
@pytest.mark.parametrize("of_file", [(480, 640), (333, 500), (500, 333), (100, 400), (77, 1000), (64, 64)])
def test_images_of_the_batches_are_not_scaled_again(size: int, of_file: tuple[int, int]) -> None:
    transform = build(FPN, 3, image_size=size, width=4).transform
    image = torch.rand(3, *scaled_size(*of_file, size))
    for training in (True, False):
        transform.train(training)
        together, _ = transform([image])
        assert together.image_sizes == [image.shape[1:]]
        shown = together.tensors[0, :, : image.shape[1], : image.shape[2]]
        assert torch.equal(shown, transform.normalize(image)), "bit for bit"


@pytest.mark.usefixtures("thin")
def test_another_image_is_scaled_and_its_boxes_are_in_its_own_pixels() -> None:
    network = small(FPN).eval()
    (found,) = detect(network, [torch.rand(3, 240, 320)])
    assert found["boxes"].max() > 100, "of a network for 64x85"


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize(("name", "levels"), [(FPN, 5), (C4, 1)])
@pytest.mark.parametrize("size", [64, 128, 800, None])
def test_anchors_scale_with_the_images(name: str, levels: int, size: int | None) -> None:
    width = {"width": 4} if name == FPN else {}
    generator = build(name, 3, image_size=size, **width).rpn.anchor_generator
    assert len(generator.sizes) == levels
    every = [anchor for level in generator.sizes for anchor in level]
    assert every == [anchor * (size or 800) / 800 for anchor in (32, 64, 128, 256, 512)]
    cells = torch.cat(generator.cell_anchors)
    assert bool((cells[:, 2:] > cells[:, :2]).all()), "all have an area"


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize(
    ("size", "regions", "sampled", "tested"),
    [(64, 8, 8, 16), (64, 512, 512, 1000), (64, None, 64, 128), (400, None, 256, 512), (None, None, 512, 1000)],
)
def test_regions_of_an_image(size: int | None, regions: int | None, sampled: int, tested: int) -> None:
    network = build(FPN, 3, image_size=size, width=4, regions=regions)
    assert network.roi_heads.fg_bg_sampler.batch_size_per_image == sampled
    assert network.rpn._post_nms_top_n["testing"] == tested


@pytest.mark.usefixtures("thin")
def test_stages_are_frozen_from_the_beginning() -> None:
    def frozen(name: str, trained: int) -> set[str]:
        network = small(name, trained=trained)
        keys = {key for key, p in network.named_parameters() if not p.requires_grad}
        whole = {
            key.split(".")[2] for key, p in network.named_parameters() if p.requires_grad and key[:8] == "backbone"
        }
        layers = {".".join(key.split(".")[:3]) for key in keys}
        assert not {layer.rpartition(".")[2] for layer in layers} & whole
        return {layer.removeprefix("backbone.body.") for layer in layers}

    assert frozen(FPN, 5) == frozen(C4, 5) == frozen(VGG, 5) == set()
    assert frozen(FPN, 3) == frozen(C4, 3) == {"conv1", "bn1", "layer1"}
    assert frozen(FPN, 0) == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
    assert frozen(C4, 0) == {"conv1", "bn1", "layer1", "layer2", "layer3", "roi_heads.box_head.layer4"}
    assert frozen(VGG, 3) == {*"0134", "7", "8", "10", "11"}, "before the second pooling"


def test_frozen_norms_have_no_parameters_and_do_not_move() -> None:
    with torch.device("meta"):
        network = build("fasterrcnn-resnet50", 3, image_size=64, norm="frozen")
    names = [name for name, _ in network.named_parameters()]
    assert not any(".bn" in name or "downsample.1" in name for name in names)
    with torch.device("meta"):
        plain = build(VGG, 3, image_size=64, norm="none", width=8)
    assert not any("running_mean" in name for name in plain.state_dict())


# --- what it begins with ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("name", [FPN, C4])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_it_begins_with_a_backbone(name: str, prefix: str) -> None:
    backbone = zoo_resnet()
    network = small(name, "frozen")
    drawn = copy.deepcopy(network.state_dict())
    begun = begin(network, {prefix + key: value for key, value in backbone.items()})
    assert begun.backbone
    assert begun.whole
    assert begun.fit.unexpected == ("fc.weight", "fc.bias"), "without what wrappers put in front"
    own = network.state_dict()
    where = "roi_heads.box_head" if name == C4 else "backbone.body"
    assert torch.equal(own["backbone.body.conv1.weight"], backbone["conv1.weight"])
    assert torch.equal(own[f"{where}.layer4.1.bn2.running_var"], backbone["layer4.1.bn2.running_var"])
    left = [key for key in own if torch.equal(own[key], drawn[key])]
    assert {key.split(".")[0] for key in left} <= {"backbone", "rpn", "roi_heads"}
    assert not [key for key in left if "body" in key or "layer4" in key], "all of the backbone is new"
    assert len(begun.fit.fitted) == 105
    assert str(begun).startswith("the backbone: 105 of 105 tensors fit")
    assert str(begun).endswith("the detector's own layers are drawn fresh")
    assert begun.record() == {"backbone": True, "fitted": 105, "unexpected": list(begun.fit.unexpected)}


def zoo_resnet() -> dict[str, Tensor]:
    """The weights of a run whose network is ``torchvision:resnet18``."""
    torch.manual_seed(3)
    state: dict[str, Tensor] = resnet.resnet18(weights=None).state_dict()
    return {key: torch.rand_like(value) if value.is_floating_point() else value for key, value in state.items()}


def test_a_network_of_the_zoo_fits_as_a_backbone() -> None:
    state = zoo.build("torchvision:resnet18", 10).state_dict()
    network = build(FPN, 3, image_size=64, width=8)
    begun = begin(network, state)
    assert begun.whole
    stem = zoo.build("torchvision:resnet18", 10, small_images=True).state_dict()
    begun = begin(network, stem)
    assert not begun.whole
    assert list(begun.fit.other_shape) == ["backbone.body.conv1.weight"]
    assert "64x3x3x3 in the file, 64x3x7x7 here" in str(begun)


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("norms", [True, False])
def test_a_vgg_gives_its_first_two_linear_layers_too(norms: bool) -> None:
    torch.manual_seed(5)
    features = vgg.make_layers(vgg.cfgs["D"], batch_norm=norms)
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    state |= {"classifier.0.weight": torch.rand(16, 32 * 49), "classifier.0.bias": torch.rand(16)}
    state |= {"classifier.3.weight": torch.rand(16, 16), "classifier.3.bias": torch.rand(16)}
    state |= {"classifier.6.weight": torch.rand(10, 16), "classifier.6.bias": torch.rand(10)}
    network = small(VGG, norm_for(state))
    begun = begin(network, state)
    assert begun.whole
    assert begun.fit.unexpected == ("classifier.6.weight", "classifier.6.bias")
    own = network.state_dict()
    assert torch.equal(own["roi_heads.box_head.fc7.weight"], state["classifier.3.weight"])
    last = "backbone.body.40.weight" if norms else "backbone.body.28.weight"
    assert torch.equal(own[last], state[last.replace("backbone.body", "features")])


@pytest.mark.usefixtures("thin")
def test_it_begins_with_a_detector_for_the_same_classes_or_others() -> None:
    theirs = small(FPN).state_dict()
    torch.manual_seed(9)
    network = build(FPN, 3, image_size=64, width=16)
    begun = begin(network, theirs)
    assert begun.whole
    assert not begun.backbone
    assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())
    more = build(FPN, 5, image_size=64, width=16)
    begun = begin(more, theirs)
    predictor = "roi_heads.box_predictor"
    layers = {f"{predictor}.{layer}.{kind}" for layer in ("cls_score", "bbox_pred") for kind in ("weight", "bias")}
    assert begun.whole, "all but the layer for the classes"
    assert set(begun.fit.classes) == layers
    assert "drawn fresh for the classes" in str(begun)
    assert torch.equal(more.state_dict()["rpn.head.cls_logits.weight"], theirs["rpn.head.cls_logits.weight"])


@pytest.mark.usefixtures("thin")
def test_a_file_of_which_nothing_fits_is_refused_with_its_names() -> None:
    network = small(FPN)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(
        ValueError, match=r"nothing fits: the file has blocks\.0\.weight; the detector backbone\.body"
    ):
        begin(network, {"blocks.0.weight": torch.rand(3)})
    with pytest.raises(ValueError, match=r"nothing fits: the file has conv1\.weight; the detector backbone\.body"):
        begin(network, {"conv1.weight": torch.rand(3)})
    bad = zoo_resnet() | {"layer1.0.conv1.weight": torch.full_like(zoo_resnet()["layer1.0.conv1.weight"], torch.nan)}
    with pytest.raises(ValueError, match=r"backbone\.body\.layer1\.0\.conv1\.weight has values that are not finite"):
        begin(network, bad)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.usefixtures("thin")
def test_which_norms_suit_the_weights() -> None:
    assert norm_for(None) == "batch"
    assert norm_for(zoo_resnet()) == "frozen"
    assert norm_for(small(FPN, "batch").state_dict()) == "batch"
    assert norm_for(small(C4, "frozen").state_dict()) == "frozen"
    assert norm_for(small(VGG, "none").state_dict()) == "none"


# --- every method ----------------------------------------------------------------------------------------

REFUSED = {
    "kd": "outputs must be logits (batch, classes) or (batch, classes, ...), got {'loss_classifier'",
    "regulators": "FasterRCNN cannot be traced by torch.fx, so its sections cannot be told",
}
"""Methods that do not work with a detector -> why: it gives losses and boxes, no logits; its code loops over data."""
OPTIONS = {"flow": "flow(rates=[0.5,1,0.5])"}
EVENTS = {
    **{name: ("phase",) for name in ("asa", "sas", "flow")},
    **{name: ("pruned", "restored") for name in ("repr", "dsd")},
    "prune": ("pruned",),
}
TRACED = "it is called by code that torch.fx cannot trace"
OUTSIDE = "its outputs leave the part of the network that torch.fx can trace"
FROZEN = "it has no bias and no batch norm directly behind it that could take the folded one"
ADDED = "zeros in its place would not be zeros any more where they are added to others"
LEFT_OUT: dict[tuple[str, str, str], dict[str, str]] = {
    (FPN, "batch", "repr"): {"rpn.head.cls_logits": TRACED, "backbone.fpn.layer_blocks.0.0": OUTSIDE},
    (C4, "batch", "repr"): {"rpn.head.bbox_pred": TRACED, "rpn.head.conv.0.0": OUTSIDE},
    (VGG, "frozen", "repr"): {"backbone.body.40": OUTSIDE},
    (FPN, "frozen", "repr"): {"backbone.body.layer1.0.conv2": ADDED},
    (C4, "frozen", "acnet"): {"backbone.body.layer1.0.conv1": FROZEN, "roi_heads.box_head.layer4.1.conv2": FROZEN},
    (FPN, "frozen", "dbb"): {"backbone.body.layer4.1.conv2": FROZEN},
}
"""Of a detector, its norms and a method: layers that take no part, and why."""


def composed(method: str, name: str, norm: str) -> fs.Composition:
    return fs.compose([fs.KD(small(name, norm))] if method == "kd" else OPTIONS.get(method, method))


def trained(method: str, name: str, norm: str, epochs: int = 4) -> tuple[nn.Module, list[str | None]]:
    """The deployed network and the events of a short training."""
    training = composed(method, name, norm)
    network = training.prepare(small(name, norm))
    optimizer = torch.optim.SGD(training.param_groups(network, weight_decay=1e-4), lr=0.002, momentum=0.9)
    training.attach(network, optimizer, epochs=epochs)
    images, targets = batch()
    events = []
    for _ in range(epochs):
        network.train()
        parts = losses(network, images, targets)
        (total(parts) + training.penalty(images, parts, targets)).backward()
        optimizer.step()
        optimizer.zero_grad()
        training.end_batch()
        events.append(training.end_epoch())
    return training.finish(), events


@pytest.mark.long
@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize(("name", "norm"), KINDS, ids=lambda each: each.removeprefix("fasterrcnn-"))
@pytest.mark.parametrize("method", fs.METHODS)
def test_every_method(method: str, name: str, norm: str) -> None:
    if method in REFUSED:
        with pytest.raises(ValueError, match=f"^{re.escape(REFUSED[method])}") as caught:
            trained(method, name, norm)
        assert "\n" not in str(caught.value)
        return
    deployed, events = trained(method, name, norm)
    assert set(events) - {None} == {*EVENTS.get(method, ())}
    plain = small(name, norm)
    assert type(deployed) is type(plain)
    if fs.METHODS[method].same_network:
        expected = {key: value.shape for key, value in plain.state_dict().items()}
        assert {key: value.shape for key, value in deployed.state_dict().items()} == expected
        assert list(deployed.state_dict()) == list(plain.state_dict())
    assert all(bool(value.isfinite().all()) for value in deployed.state_dict().values())
    before = plain.state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in deployed.state_dict().items() if key in before)
    found = detect(deployed, batch()[0])
    assert sum(len(one["boxes"]) for one in found), "it finds something"
    assert all(bool(one[key].isfinite().all()) for one in found for key in ("boxes", "scores"))
    assert all(bool((one["labels"] >= 1).all() and (one["labels"] <= 3).all()) for one in found)


@pytest.mark.long
@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize(("name", "norm"), KINDS, ids=lambda each: each.removeprefix("fasterrcnn-"))
def test_every_method_says_which_layers_take_no_part(name: str, norm: str) -> None:
    network = small(name, norm)
    modules = dict(network.named_modules())
    for method in fs.METHODS:
        reasons = fs.why_not(network, method)
        assert set(reasons) <= set(modules)
        assert all(reason and "\n" not in reason for reason in reasons.values())
        layers = [key for key, one in modules.items() if isinstance(one, nn.Conv2d)]
        takes_part = [key for key in layers if key not in reasons]
        assert bool(takes_part) is (method != "regulators"), method
        for layer, reason in LEFT_OUT.get((name, norm, method), {}).items():
            assert reasons[layer] == reason, (method, layer)


# --- a detector without some filters -----------------------------------------------------------------------


def behind(network: nn.Module, name: str) -> nn.Module:
    """The norm behind a convolution by their names in torchvision, else the convolution."""
    place, _, last = name.rpartition(".")
    block = network.get_submodule(place)
    norm = f"bn{last[-1]}" if last.startswith("conv") else f"{int(last) + 1}"
    beside = dict(block.named_children()).get(norm, nn.Identity())
    return beside if hasattr(beside, "running_mean") else network.get_submodule(name)


def zeroed(mask: Tensor) -> Callable[..., Tensor]:
    return lambda module, given, out: out.masked_fill(mask.view(1, -1, 1, 1), 0)


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize(("name", "norm"), KINDS, ids=lambda each: each.removeprefix("fasterrcnn-"))
@pytest.mark.parametrize("rank", ["ortho", "random"])
def test_a_pruned_detector_is_one_whose_channels_are_zero(name: str, norm: str, rank: str) -> None:
    network = small(name, norm).double()
    reference = copy.deepcopy(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    cycle = fs.RePr(network, optimizer, s1=1, s2=1, cycles=1, prune=0.3, rank=rank, first_layer=True, seed=0)
    assert cycle.step() == "pruned"
    pruned = {layer: mask for layer, mask in cycle.pruned.items() if mask.any()}
    assert len(pruned) > 1
    for layer, mask in pruned.items():
        behind(reference, layer).register_forward_hook(zeroed(mask))
    images, targets = batch(torch.float64)
    found = []
    for one in (network, reference):
        torch.manual_seed(1)  # which regions are looked at is drawn
        parts = losses(one, images, targets)
        total(parts).backward()
        found.append(parts)
    torch.testing.assert_close(found[0], found[1])
    for (key, ours), (_, theirs) in zip(network.named_parameters(), reference.named_parameters(), strict=True):
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in (ours, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-10, msg=lambda said, key=key: f"{key}: {said}")
    torch.testing.assert_close(detect(network, images), detect(reference, images))


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("name", [FPN, "fasterrcnn-resnet18"])
def test_norms_of_a_frozen_backbone_do_not_move(name: str) -> None:
    detector = small(name).state_dict()
    assert [norm_for(detector, frozen=frozen) for frozen in (False, True)] == ["batch", "frozen"]
    network = small(name, norm="frozen", trained=stages_of_head(name))
    assert begin(network, detector).fit.missing == ()
    before = {key: value.clone() for key, value in network.state_dict().items() if key.startswith("backbone.body")}
    image, boxes = torch.rand(3, 64, 80), torch.tensor([[4.0, 4.0, 40.0, 40.0]])
    losses(network.train(), [image], [{"boxes": boxes, "labels": torch.ones(1, dtype=torch.int64)}])
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())
    assert not any(p.requires_grad for key, p in network.named_parameters() if key.startswith("backbone.body"))
    assert any(p.requires_grad for key, p in network.named_parameters() if "box_head" in key)
