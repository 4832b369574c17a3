"""Batches of images with boxes: the same promises as those of a classification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tasks.detection.small_sets import HEIGHT, WIDTH, Things, bccd, voc
from torch import Tensor

pytest.importorskip("torchvision")

from reference.pictures import pixels, write

from filtersmith.lab.data import Augment, Batching
from filtersmith.lab.data.decode import decode
from filtersmith.lab.tasks.detection.batches import DetectionBatches, Pair
from filtersmith.lab.tasks.detection.load import load
from filtersmith.lab.tasks.detection.records import DetectionSet, Sample, Target, longest_side

CPU = torch.device("cpu")
FLIP = Augment(0, True)
COLOR = Augment(0, flip=True, color=True)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> DetectionSet:
    """Seven images; one has no boxes, one a difficult one."""
    names = [f"t{n}" for n in range(7)]
    things: dict[str, Things] = {
        name: [("cat", (n + 1, n + 3, 20 + n, 30)), ("dog", (31, 11, 60 - n, 40))] for n, name in enumerate(names)
    }
    things |= {"t2": [], "t4": [("dog*", (1, 1, 15, 20)), ("cat", (11, 21, 40, 31))]}
    root = voc(tmp_path_factory.mktemp("boxes"), {"train": names, "val": ["v"]}, things)
    return load(f"voc:{root}", image_size=20, limit=None).train


def batches(
    images: DetectionSet, workers: int = 0, size: int = 3, train: bool = True, **options: Any
) -> DetectionBatches:
    standard: dict[str, Any] = {"augment": FLIP, "shuffle": True, "seed": 0} if train else {}
    batching = Batching(size, CPU, (0.0,) * 3, (1.0,) * 3, **(standard | options))
    return DetectionBatches(images, batching, train=train, workers=workers)


def flat(made: list[Pair]) -> list[Tensor]:
    """All tensors of some batches."""
    return [
        tensor
        for images, targets in made
        for image, target in zip(images, targets, strict=True)
        for tensor in (image, *target.values())
    ]


def same(ours: list[Pair], theirs: list[Pair]) -> bool:
    one, other = flat(ours), flat(theirs)
    return (
        [len(images) for images, _ in ours] == [len(images) for images, _ in theirs]
        and len(one) == len(other)
        and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    )


def test_evaluation_is_the_set_in_order_scaled(images: DetectionSet) -> None:
    from torchvision.transforms.v2 import functional

    made = list(batches(images, train=False).epoch(0))
    assert [len(part) for part, _ in made] == [3, 3, 1]
    pictures, targets = ([one for pair in made for one in pair[side]] for side in (0, 1))
    for file, picture, target, found in zip(images.files, pictures, images.targets, targets, strict=True):
        assert (picture.shape, picture.dtype) == ((3, 20, 30), torch.float32)
        expected = functional.resize(decode(file.read_bytes()), [20, 30], antialias=True) / 255
        assert torch.equal(picture, expected)
        assert found.keys() == {"boxes", "labels", "iscrowd"}
        assert torch.equal(found["boxes"], target.boxes / 2)
        assert torch.equal(found["labels"], target.labels)
        assert torch.equal(found["iscrowd"], target.ignored.long())
    assert [one["iscrowd"].tolist() for one in targets] == [[0, 0], [0, 0], [], [0, 0], [1, 0], [0, 0], [0, 0]]


def test_ignored_boxes_are_not_trained_on(images: DetectionSet) -> None:
    made = list(batches(images, shuffle=False, augment=None).epoch(0))
    targets = [one for _, part in made for one in part]
    assert all(one.keys() == {"boxes", "labels"} for one in targets)
    assert [one["labels"].tolist() for one in targets] == [[1, 2], [1, 2], [], [1, 2], [1], [1, 2], [1, 2]]
    assert targets[4]["boxes"].tolist() == [[5, 10, 20, 15.5]]
    assert (targets[2]["boxes"].shape, targets[2]["boxes"].dtype) == ((0, 4), torch.float32)
    assert targets[2]["labels"].dtype == torch.int64


def test_an_epoch_does_not_depend_on_workers_start_or_global_random_state(images: DetectionSet) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    whole = list(batches(images, augment=COLOR).epoch(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert len(whole) == len(batches(images)) == 3
    assert same(list(batches(images, workers=2, augment=COLOR).epoch(3)), whole)
    assert same(list(batches(images, workers=1, augment=COLOR).epoch(3, start=2)), whole[2:])
    assert list(batches(images).epoch(3, start=3)) == []
    assert not same(list(batches(images, augment=COLOR).epoch(4)), whole)
    assert not same(list(batches(images, augment=COLOR, seed=1).epoch(3)), whole)
    in_order = [list(batches(images, augment=COLOR, shuffle=False).epoch(epoch)) for epoch in (3, 4)]
    assert not same(*in_order), "changes are others, not only the order"


def test_what_ranks_take_joins_to_the_batches_of_one_process(images: DetectionSet) -> None:
    whole = list(batches(images).epoch(1))
    ranks = [list(batches(images, rank=rank, world_size=2).epoch(1)) for rank in range(2)]
    assert [[len(part) for part, _ in made] for made in ranks] == [[1, 1, 0], [2, 2, 1]]
    assert ranks[0][2] == ([], []), "an image that is left over leaves a rank none"
    joined = [(one[0] + other[0], one[1] + other[1]) for one, other in zip(*ranks, strict=True)]
    assert same(joined, whole)
    assert batches(images, rank=1, world_size=2).global_sizes == [3, 3, 1]


def test_boxes_are_mirrored_with_their_images_half_of_the_time(tmp_path: Path) -> None:
    """An image that is black but for its box, which is no square and not in the middle."""
    from PIL import Image

    picture = torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8)
    picture[10:30, 5:25] = 255
    Image.fromarray(picture.numpy()).save(tmp_path / "a.png")
    box = Target(torch.tensor([[5.0, 10, 25, 30]]), torch.tensor([1]), torch.tensor([False]))
    images = DetectionSet.of([Sample(tmp_path / "a.png", box, (HEIGHT, WIDTH))] * 200, None)
    mirrored = 0
    for pictures, targets in batches(images, size=50).epoch(0):
        for image, target in zip(pictures, targets, strict=True):
            x1, y1, x2, y2 = (int(corner) for corner in target["boxes"][0])
            assert image.sum() == image[:, y1:y2, x1:x2].sum() == 3 * 20 * 20
            mirrored += x1 == WIDTH - 25
    assert 70 < mirrored < 130
    plain = [one for _, targets in batches(images, augment=None).epoch(0) for one in targets]
    assert all(one["boxes"].tolist() == box.boxes.tolist() for one in plain)


def test_colours_are_distorted_only_where_it_is_asked_for(images: DetectionSet) -> None:
    plain, distorted = (
        list(batches(images, augment=Augment(0, flip=False, color=color)).epoch(0)) for color in (False, True)
    )
    pairs = list(zip(flat(plain), flat(distorted), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs if a.dim() != 3), "boxes stay"
    changed = [not torch.equal(a, b) for a, b in pairs if a.dim() == 3]
    assert sum(changed) > len(changed) / 2
    assert all(float(b.min()) >= 0 and float(b.max()) <= 1 for a, b in pairs if a.dim() == 3)


def test_images_of_all_shapes_colours_and_sizes(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "grey.png", 0, size=(30, 20), channels=1),
        write(tmp_path / "long.png", 1, size=(20, 200)),
        write(tmp_path / "small.png", 2, size=(4, 8), channels=4),
    ]
    sizes = [(30, 20), (20, 200), (4, 8)]
    none = Target(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool())
    whole = Target(torch.tensor([[0.0, 0, 200, 20]]), torch.tensor([1]), torch.tensor([False]))
    images = DetectionSet.of(map(Sample, files, [none, whole, none], sizes), 40)
    ((pictures, targets),) = batches(images, train=False).epoch(0)
    assert [tuple(one.shape) for one in pictures] == [(3, 60, 40), (3, 7, 66), (3, 33, 66)]
    assert longest_side(40) == 66
    assert torch.equal(pictures[0][0], pictures[0][2])
    assert targets[1]["boxes"].tolist() == [[0, 0, 66, 7]]
    unscaled = DetectionSet.of(map(Sample, files, [none, whole, none], sizes), None)
    ((pictures, _),) = batches(unscaled, train=False).epoch(0)
    assert torch.equal(pictures[1], torch.from_numpy(pixels(1, (20, 200))).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    root = voc(tmp_path, {"train": "ab", "val": "c"})
    images = load(f"voc:{root}", image_size=20, limit=None).train
    file = root / "JPEGImages/b.jpg"
    write(file, 3, size=(HEIGHT, WIDTH + 1))
    with pytest.raises(
        ValueError, match=rf"^{file} has 61x40 pixels, but its header said 60x40 when the set was read$"
    ):
        list(batches(images, workers=workers).epoch(0))
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=rf"^{file} cannot be read as an image: ") as caught:
        list(batches(images, workers=workers).epoch(0))
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(ValueError, match=rf"^{file} cannot be read: "):
        list(batches(images, workers=workers).epoch(0))


def test_what_cannot_work_is_refused_at_once(images: DetectionSet) -> None:
    for workers in (-1, True, 1.5):
        with pytest.raises(ValueError, match="workers must be a whole number >= 0, got"):
            batches(images, workers=workers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="it is for training"):
        batches(images, train=False, augment=FLIP)
    with pytest.raises(ValueError, match="epoch must be"):
        batches(images).epoch(-1)
    with pytest.raises(ValueError, match="start must be from 0 to 3"):
        batches(images).epoch(0, start=4)


def test_blood_cells() -> None:
    data = load(f"voc:{bccd()}", image_size=64, limit=6)
    for pictures, targets in batches(data.train, size=3).epoch(0):
        assert all(tuple(one.shape) == (3, 64, 85) for one in pictures)
        for target in targets:
            assert len(target["boxes"])
            assert (target["boxes"] >= 0).all()
            assert (target["boxes"].amax(0) <= torch.tensor([85.0, 64, 85, 64])).all()
