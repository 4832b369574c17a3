"""Faster R-CNN by name, made of torchvision's parts, and begun from weights of a detector or of a backbone.

With a pyramid (``-fpn``) a ResNet's four stages are read (torchvision's ``fasterrcnn_resnet50_fpn``). Without one the
regions are proposed and cut out at stride 16: a ResNet's last stage is then the head of each region ("C4", as in
RePr's Table 7), a VGG's regions go through two linear layers of 4096 (as in the paper, without its dropout).
Nothing is ever downloaded.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from filtersmith.common.options import bad_option, unknown_name
from filtersmith.lab.tasks.detection.records import longest_side
from filtersmith.zoo import fitting
from filtersmith.zoo.fitting import Fit
from filtersmith.zoo.info import not_installed, positive_int

BACKBONES = ("vgg16", "resnet18", "resnet50", "resnet101")
NAMES = (
    "fasterrcnn-vgg16",
    *(f"fasterrcnn-{backbone}{neck}" for backbone in BACKBONES[1:] for neck in ("", "-fpn")),
)
"""All detectors that `build` makes."""
NORMS = ("batch", "frozen", "none")
SMALLEST = 64
"""Pixels: at stride 32 a smaller image has one position, and its smallest anchors have no area."""
FULL_SIZE = 800
"""The shorter side for which torchvision's anchors of 32 to 512 pixels are meant."""
ANCHORS = (32, 64, 128, 256, 512)
RATIOS = (0.5, 1.0, 2.0)
REGIONS, FEWEST = 512, 64
"""Regions of an image that the head is trained on at the full size, and of the smallest images."""
STAGES = 5
"""Of each of the backbones."""
REGION = 7
"""Positions of a region, height = width, where its head begins (C4: where it ends)."""
_STEM = ("conv1", "bn1", "relu", "maxpool")
_STAGES = ("layer1", "layer2", "layer3", "layer4")
_CLASSIFIERS = {"0": "fc6", "3": "fc7"}  # of torchvision's VGG -> of the head


def build(
    name: str,
    num_classes: int,
    *,
    image_size: int | None,
    norm: str = "batch",
    trained: int = 5,
    regions: int | None = None,
    width: int | None = None,
) -> nn.Module:
    """torchvision's ``FasterRCNN`` called ``name``, randomly initialised from torch's generator, in training mode.

    Images come as a list of (3, height, width) in [0, 1]; they may differ in size. The detector subtracts ImageNet's
    mean, divides by its deviation and pads. Images that `DetectionBatches` scaled to ``image_size`` aren't scaled
    again; others are, and their boxes are given in their own pixels all the same.

    Args:
        name: one of `NAMES`.
        num_classes: kinds of things, without the background. Labels are 1 to ``num_classes``.
        image_size: the shorter side of the images in pixels, at least 64; the longer one has up to `longest_side`.
            Anchors have 32 to 512 pixels at 800, and scale with it. ``None``: 800, which the detector scales to.
        norm: ``"batch"``: batch norms that are trained, as training from scratch needs them. ``"frozen"``: those of a
            pretrained backbone, whose statistics and factors stay (torchvision's ``FrozenBatchNorm2d``), for a
            detector's batches of a few images make poor statistics. Frozen ones that were never trained do nothing:
            the values grow from block to block, and the network doesn't train. ``"none"``: without norms, as the
            VGG-16 of the papers; VGG only. `norm_for` tells which one a file of weights needs.
        trained: how many of the backbone's five stages are trained, counted from its end; torchvision trains the last
            3 of a pretrained one.
        regions: how many regions of an image the head is trained on; it is tested on twice as many, at most 1000.
            By default 512 at 800 pixels, fewer of smaller images in proportion, but at least 64 (Fast R-CNN's): there
            are fewer places for them, and the head takes most of the time.
        width: outputs of the head's two linear layers, by default 1024 with a pyramid, 4096 for VGG. A ResNet without
            a pyramid has none.

    Raises:
        ValueError: an unknown name, an option out of range, torchvision is not installed.
    """
    if name not in NAMES:
        raise unknown_name("detector", name, dict.fromkeys(NAMES))
    classes, size = positive_int("num_classes", num_classes), FULL_SIZE
    if image_size is not None and (size := positive_int("image_size", image_size)) < SMALLEST:
        raise bad_option("image_size", image_size, f"at least {SMALLEST} for a detector")
    kind = name.removeprefix("fasterrcnn-").removesuffix("-fpn")
    fpn, vgg = name.endswith("-fpn"), kind.startswith("vgg")
    _check(name, norm, trained, vgg)
    wide = _width(name, width, fpn, vgg)
    parts = _vgg(norm, wide) if vgg else _resnet(kind, norm, wide, fpn)
    _freeze(parts, STAGES - trained)
    sampled = _regions(regions, size)
    return _assembled(
        parts,
        classes + 1,
        tuple(anchor * size / FULL_SIZE for anchor in ANCHORS),
        min_size=size,
        max_size=longest_side(size),
        box_batch_size_per_image=sampled,
        rpn_post_nms_top_n_test=min(1000, 2 * sampled),
    )


def stages_of_head(name: str) -> int:
    """How many of the backbone's stages are the head of each region: without a pyramid the last one of a ResNet."""
    return int(not name.endswith("-fpn") and "vgg" not in name)


def _check(name: str, norm: str, trained: int, vgg: bool) -> None:
    if norm not in (norms := NORMS[: 3 if vgg else 2]):
        raise bad_option("norm", norm, f"{' or '.join(norms)} for {name}")
    if trained not in range(STAGES + 1) or isinstance(trained, bool):
        raise bad_option("trained", trained, f"a number of stages, 0 to {STAGES}")


def _regions(regions: int | None, size: int) -> int:
    """Regions of an image that the head is trained on."""
    if regions is not None:
        return positive_int("regions", regions)
    return max(FEWEST, round(REGIONS * min(1, size / FULL_SIZE)))


def _width(name: str, width: int | None, fpn: bool, vgg: bool) -> int:
    """Outputs of the head's linear layers."""
    if width is None:
        return 1024 if fpn else 4096
    if not (fpn or vgg):
        raise bad_option("width", width, f"left out for {name}, whose head is the last stage of the ResNet")
    return positive_int("width", width)


def norm_for(weights: Mapping[str, Tensor] | None, *, frozen: bool = False) -> str:
    """The ``norm`` of `build` that suits what the network begins with.

    >>> norm_for(None)
    'batch'

    A detector keeps the norms that it was trained with; those of a backbone are frozen, and with ``frozen`` those of
    a detector, too, whose statistics would go on moving.
    """
    if weights is None:
        return "batch"
    if not any(name.endswith("running_mean") for name in weights):
        return "none"
    counts = any(name.endswith("num_batches_tracked") for name in weights)  # frozen ones don't
    return "batch" if counts and _is_detector(weights) and not frozen else "frozen"


@dataclass(frozen=True)
class Begun:
    """What became of the weights that a detector began with.

    Attributes:
        fit: which of them fit; of a backbone's among the layers of the backbone alone.
        backbone: whether they are those of a backbone, so that the detector's own layers are as they were drawn.
    """

    fit: Fit
    backbone: bool

    @property
    def whole(self) -> bool:
        """Whether all that was to be had from such weights is there."""
        return self.fit.whole

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"backbone": self.backbone, **self.fit.record()}

    def __str__(self) -> str:
        own = "; the detector's own layers are drawn fresh"
        return f"the backbone: {self.fit}{own}" if self.backbone else str(self.fit)


def begin(network: nn.Module, weights: Mapping[str, Tensor]) -> Begun:
    """Give a detector of `build`, in place, the weights that fit.

    Args:
        network: the detector.
        weights: of a detector, or of a classification network of torchvision with the same backbone (its own file,
            or that of a run whose network is ``torchvision:resnet18``). The classifier of a ResNet isn't used; of a
            VGG its first two layers are.

    Raises:
        ValueError: nothing fits, or values are not finite. The network is as it was.
    """
    own = network.state_dict()
    classes = own["roi_heads.box_predictor.cls_score.bias"].numel()
    backbone = not _is_detector(weights)
    names = {name: _in_detector(name, own) if backbone else name for name in weights}
    try:
        fit = fitting.load(network, {names[name]: value for name, value in weights.items()}, classes)
    except ValueError as error:
        if str(error).startswith("nothing fits"):  # in the file's own names
            raise ValueError(
                f"nothing fits: the file has {fitting.shortened(weights)}; the detector {fitting.shortened(own)}"
            ) from None
        raise
    theirs = {name: before for before, name in names.items()}
    boxes = "roi_heads.box_predictor.bbox_pred."
    fresh = tuple(n for n in fit.other_shape if n.startswith(boxes) and fit.classes and n not in fit.classes)
    fit = replace(
        fit,
        classes=(*fit.classes, *fresh),
        unexpected=tuple(theirs.get(name, name) for name in fit.unexpected),
        missing=tuple(name for name in fit.missing if not backbone or _of_backbone(name)),
    )
    return Begun(fit, backbone)


# --- names in files --------------------------------------------------------------------------------------


def _is_detector(weights: Mapping[str, Tensor]) -> bool:
    return any({"rpn", "roi_heads"} & set(name.split(".")) for name in weights)


def _in_detector(name: str, own: Mapping[str, Tensor]) -> str:
    """What a tensor of a classification network is called in the detector, if it has a place there."""
    parts = name.split(".")
    first = next((n for n, part in enumerate(parts) if part in (*_STEM, *_STAGES, "features", "classifier")), None)
    if first is None:
        return name
    part, rest = parts[first], ".".join(parts[first + 1 :])
    if part == "features":
        return f"backbone.body.{rest}"
    if part == "classifier":
        place, _, kind = rest.partition(".")
        return f"roi_heads.box_head.{_CLASSIFIERS[place]}.{kind}" if place in _CLASSIFIERS else name
    inside = ".".join(parts[first:])
    in_head = part == "layer4" and any(each.startswith("roi_heads.box_head.layer4.") for each in own)
    return f"roi_heads.box_head.{inside}" if in_head else f"backbone.body.{inside}"


def _of_backbone(name: str) -> bool:
    return name.startswith(("backbone.body.", "roi_heads.box_head.layer4."))


# --- what it is made of ----------------------------------------------------------------------------------


class _Parts(NamedTuple):
    backbone: nn.Module
    levels: int
    """Maps from which regions are cut out."""
    pooled: int
    """Height = width of a region when it is cut out."""
    head: nn.Module
    outputs: int
    """Of the head."""


def _torchvision(module: str) -> Any:
    """A module of torchvision; ``ValueError`` that names the extra where it isn't installed."""
    try:
        return importlib.import_module(f"torchvision.{module}")
    except ImportError:
        raise ValueError(not_installed("torchvision")) from None


def _resnet(name: str, norm: str, width: int, fpn: bool) -> _Parts:
    layer = nn.BatchNorm2d if norm == "batch" else _torchvision("ops.misc").FrozenBatchNorm2d
    whole = getattr(_torchvision("models.resnet"), name)(weights=None, norm_layer=layer)
    if fpn:
        backbone: nn.Module = _torchvision("models.detection.backbone_utils")._resnet_fpn_extractor(whole, STAGES)
        return _Parts(backbone, len(_STAGES), REGION, _two_layers(backbone.out_channels, width), width)
    body = nn.Sequential(OrderedDict((part, getattr(whole, part)) for part in (*_STEM, *_STAGES[:3])))
    end = OrderedDict(layer4=whole.layer4, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    # The last stage halves a region.
    return _Parts(_backbone(body, whole.inplanes // 2), 1, 2 * REGION, nn.Sequential(end), whole.inplanes)


def _vgg(norm: str, width: int) -> _Parts:
    """The convolutions of VGG-16 but for the last pooling, initialised as torchvision does."""
    vgg = _torchvision("models.vgg")
    body = vgg.make_layers(vgg.cfgs["D"], batch_norm=norm != "none")[:-1]
    for place, layer in enumerate(body):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d) and norm == "frozen":
            body[place] = _torchvision("ops.misc").FrozenBatchNorm2d(layer.num_features)
    channels = vgg.cfgs["D"][-2]
    return _Parts(_backbone(body, channels), 1, REGION, _two_layers(channels, width), width)


def _backbone(body: nn.Module, channels: int) -> nn.Module:
    backbone = nn.Sequential(OrderedDict(body=body))
    backbone.out_channels = channels  # type: ignore[assignment]  # a plain number, which torchvision asks for
    return backbone


def _two_layers(channels: Any, width: int) -> nn.Module:
    head: nn.Module = _torchvision("models.detection.faster_rcnn").TwoMLPHead(channels * REGION**2, width)
    return head


def _freeze(parts: _Parts, stages: int) -> None:
    """Freeze the first stages of the backbone; the last one of a ResNet without a pyramid is the head."""
    stage, resnet = 0, any(name in _STAGES for name, _ in parts.backbone.get_submodule("body").named_children())
    for name, layer in (*parts.backbone.get_submodule("body").named_children(), *parts.head.named_children()):
        stage += name in _STAGES
        if stage < stages and (name in (*_STEM, *_STAGES) or not (resnet or name.startswith("fc"))):
            layer.requires_grad_(False)
        stage += isinstance(layer, nn.MaxPool2d) and not resnet


def _assembled(parts: _Parts, outputs: int, anchors: tuple[float, ...], **options: Any) -> nn.Module:
    """The whole detector: a pyramid has an anchor's size for each level, a single map all of them."""
    models = _torchvision("models.detection.faster_rcnn")
    sizes = tuple((anchor,) for anchor in anchors) if parts.levels > 1 else (anchors,)
    maps = [str(level) for level in range(parts.levels)]
    network: nn.Module = models.FasterRCNN(
        parts.backbone,
        rpn_anchor_generator=models.AnchorGenerator(sizes, (RATIOS,) * len(sizes)),
        box_roi_pool=models.MultiScaleRoIAlign(maps, output_size=parts.pooled, sampling_ratio=2),
        box_head=parts.head,
        box_predictor=models.FastRCNNPredictor(parts.outputs, outputs),
        **options,
    )
    return network
