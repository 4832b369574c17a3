"""Detectors in files for elsewhere: what other programs read finds the same boxes in images of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tasks.detection import small_detector, small_sets
from safetensors.torch import load_file
from torch import Tensor

from filtersmith.lab import export as exported_by
from filtersmith.lab.data.decode import decode
from filtersmith.lab.exported import load
from filtersmith.lab.recipe.config import RunConfig, merge
from filtersmith.lab.tasks.detection.detections import detect
from filtersmith.lab.tasks.detection.exporting import (
    DetectorExporting,
    _batched_nms,
    _multiscale_roi_align,
    commonest_shape,
    compare,
)
from filtersmith.lab.tasks.detection.records import DetectionSet, Target
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.training.run import load_data, train

torchvision = pytest.importorskip("torchvision", reason="detectors need the extra filtersmith[vision]")
for library in ("torchmetrics", "faster_coco_eval"):
    pytest.importorskip(library, reason="average precision needs the extra filtersmith[vision]")
pytestmark = pytest.mark.xdist_group("exported-detectors")


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        small_detector.use(patch.setattr)
        yield


def run(root: Path, method: str) -> Path:
    """A finished one of three epochs."""
    data = small_sets.voc(root / "set", {"train": ["a", "b"], "val": ["c"]}, {"b": []})
    options = {"task": "detection", "data.name": f"voc:{data}", "data.image_size": 64, "train.workers": 0}
    options |= {
        "train.epochs": 3,
        "train.schedule": "constant",
        "train.optimizer": "sgd",
        "train.lr": 0.001,
        "train.device": "cpu",
    }
    what = merge(RunConfig, options={**options, "method": method})
    torch.manual_seed(0)
    train(what, root / "run", load_data(what), resume=False)
    return root / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its kernels were expanded."""
    return run(tmp_path_factory.mktemp("trained"), "kflo(width=1.1)")


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its filters were pruned and brought back."""
    return run(tmp_path_factory.mktemp("pruned"), "repr(s1=1,s2=1,cycles=1)")


def shown(run: Path) -> list[Tensor]:
    """The image of the set; and one that is larger, and upright."""
    image = decode((run.parent / "set" / "JPEGImages" / "c.jpg").read_bytes()).expand(3, -1, -1).float() / 255
    return [image, torch.nn.functional.interpolate(image.mT[None], scale_factor=3)[0]]


def assert_same(found: list[Any], expected: dict[str, Tensor]) -> None:
    names = ("boxes", "labels", "scores")
    assert len(expected["boxes"]) > 5
    for name, one in zip(names, found, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), expected[name], rtol=1e-4, atol=1e-3, msg=name)


@pytest.mark.long
def test_onnx_finds_the_same_in_images_of_any_size(trained: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    done = exported_by.export(trained, "onnx", tmp_path / "net.onnx")
    assert (done.convolutions, done.kernels) == (36, 24), "the head of the regions' proposals is called for 5 levels"
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    described = session.get_modelmeta().custom_metadata_map
    assert (described["task"], json.loads(described["classes"])) == ("detection", ["cat", "dog"])
    assert (json.loads(described["image_shape"]), described["batch"]) == ([3, "height", "width"], "1")
    network = load(exported_by.export(trained, "safetensors", tmp_path / "net.safetensors").path).network
    for image in shown(trained):
        (expected,) = detect(network, [image])
        assert_same(session.run(["boxes", "labels", "scores"], {"image": image.numpy()}), expected)
    for private in (Path(torch.__file__).parents[1], trained):
        assert str(private).encode() not in done.path.read_bytes()


@pytest.mark.long
def test_pt2_finds_the_same_in_images_of_the_commonest_size(pruned: Path, tmp_path: Path) -> None:
    done = exported_by.export(pruned, "pt2", tmp_path / "net.pt2")
    extra = {"metadata.json": ""}
    program = torch.export.load(done.path, extra_files=extra).module()
    assert json.loads(json.loads(extra["metadata.json"])["image_shape"]) == [3, 64, 96]
    image = torch.nn.functional.interpolate(shown(pruned)[0][None], (64, 96))[0]
    network = load(exported_by.export(pruned, "safetensors", tmp_path / "net.safetensors").path).network
    with torch.no_grad():
        assert_same(list(program(image)), detect(network, [image])[0])


def test_the_safetensors_file_has_what_was_deployed(trained: Path, tmp_path: Path) -> None:
    done = exported_by.export(trained, "safetensors", tmp_path / "net.safetensors")
    one, other = load_file(str(done.path)), load_file(str(trained / "model.safetensors"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert done.difference == 0


@pytest.mark.parametrize("name", ["roi_heads.box_predictor.bbox_pred.weight", "rpn.head.conv.0.0.weight"])
def test_other_weights_do_not_pass(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also where nothing is found in the images as they are."""
    write = exported_by.write

    def tampers(network: Any, *arguments: Any, **options: Any) -> None:
        with torch.no_grad():
            network.get_parameter(name)[-1] += 0.1
        write(network, *arguments, **options)

    monkeypatch.setattr(exported_by, "write", tampers)
    with pytest.raises(RunFailed, match=r"cannot be exported as safetensors: .*(detections differ|are read back)"):
        exported_by.export(trained, "safetensors", tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_torchvisions_functions_come_back() -> None:
    from torchvision.ops import boxes

    how, before = DetectorExporting({"image_size": 64, "num_classes": 1}), boxes.batched_nms

    def fails() -> None:
        with how.tracing("pt2"):
            assert boxes.batched_nms is not before
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert boxes.batched_nms is before
    with how.tracing("onnx"):
        assert boxes.batched_nms is before


def test_what_stands_in_for_torchvisions_functions() -> None:
    from torchvision.ops import boxes, poolers

    corners = torch.rand(300, 2) * 60
    found, scores, labels = (
        torch.cat([corners, corners + 5 + torch.rand(300, 2) * 50], 1),
        torch.rand(300),
        torch.arange(300) % 3,
    )
    for count in (300, 1, 0):
        mine = _batched_nms(found[:count], scores[:count], labels[:count], 0.5)
        assert torch.equal(mine, boxes.batched_nms(found[:count], scores[:count], labels[:count], 0.5))
    levels = {str(number): torch.rand(1, 4, 64 >> number, 64 >> number) for number in range(3)}
    pool = poolers.MultiScaleRoIAlign(list(levels), 7, 2)
    expected = pool(levels, [found * 4], [(256, 256)])
    mine = _multiscale_roi_align(list(levels.values()), [found * 4], (7, 7), 2, pool.scales, pool.map_levels)
    torch.testing.assert_close(mine, expected)


def detections(count: int) -> list[Tensor]:
    corners = torch.arange(2.0 * count).view(count, 2)
    return [torch.cat([corners, corners + 10], 1), torch.arange(count) % 4 + 1, torch.linspace(1, 0.1, count)]


def test_what_counts_as_equal() -> None:
    expected = detections(40)
    assert compare(expected, expected, 0.0) == 0
    assert compare(detections(0), detections(0), 0.0) == 0
    order = torch.arange(39, -1, -1)
    assert compare(expected, [one[order] for one in expected], 0.0) == 0
    near = [expected[0] + 1e-3, expected[1], expected[2]]
    assert compare(expected, near, 1e-4) == pytest.approx(1e-3 / 89, rel=0.1)
    assert compare(expected, [one[:38] for one in expected], 1e-4) == 0, "two of 40"
    others = [
        detections(0),
        [one[:37] for one in expected],
        [expected[0], expected[1].flip(0), expected[2]],
        [expected[0], expected[1], expected[2] + 0.01],
        [expected[0] * 1.01, expected[1], expected[2]],
        [expected[0] * float("nan"), expected[1], expected[2]],
    ]
    for other in others:
        with pytest.raises(RunFailed, match=r"detections (are|differ from those) read back"):
            compare(expected, other, 1e-4)
        with pytest.raises(RunFailed, match=r"detections (are|differ from those) read back"):
            compare(other, expected, 1e-4)
    with pytest.raises(RunFailed, match=r"^39 detections are read back, not 40"):
        compare(expected, [one[:39] for one in expected], 0.0)


def test_the_commonest_shape() -> None:
    none = Target(torch.empty(0, 4), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.bool))
    images = DetectionSet((Path("a"),) * 3, (none,) * 3, ((40, 60), (60, 40), (80, 120)), 64)
    assert commonest_shape(images) == [64, 96]
    assert DetectorExporting({"image_size": None, "num_classes": 1}).shape == (800, 800)
