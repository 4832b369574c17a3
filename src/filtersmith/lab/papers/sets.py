"""The data sets of the papers: what they hold, of which task they are, and where those to be brought are from.

Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from filtersmith.lab.tasks.names import CLASSIFICATION

SMALL = 32
"""Pixels a side of the papers' small images; others are resized to it."""


@dataclass(frozen=True)
class PaperSet:
    """A data set of a paper.

    Attributes:
        title: for tables and headings.
        task: what is trained on it.
        train, test: how many samples (images; questions) it has.
        classes: or answers to choose from.
        image_size: pixels a side that its images are brought to, unless a recipe has another number.
        source: of one that is not downloaded: where it is from, and how it has to lie.
        form: of one that is not downloaded: how ``--data`` names it.
    """

    title: str
    task: str
    train: int
    test: int
    classes: int
    image_size: int = SMALL
    source: str = ""
    form: str = ""

    def holds(self, train: int, test: int, classes: int) -> bool:
        """Whether data of so many samples and classes is this set."""
        return (train, test, classes) == (self.train, self.test, self.classes)


SETS = {
    "cifar10": PaperSet("CIFAR-10", CLASSIFICATION, 50_000, 10_000, 10),
    "cifar100": PaperSet("CIFAR-100", CLASSIFICATION, 50_000, 10_000, 100),
    "svhn": PaperSet("SVHN", CLASSIFICATION, 73_257, 26_032, 10),
    "imagenet": PaperSet(
        "ImageNet",
        CLASSIFICATION,
        1_281_167,
        50_000,
        1_000,
        image_size=224,
        source="ILSVRC 2012 from image-net.org, as train/CLASS/IMAGE and val/CLASS/IMAGE",
        form="imagefolder:PATH",
    ),
    "coco": PaperSet(
        "COCO",
        "detection",
        118_287,
        5_000,
        80,
        image_size=800,
        source="2017's images and annotations from cocodataset.org, as train2017, val2017 and "
        "annotations/instances_{train,val}2017.json (trainval35k and minival, under the names of 2017)",
        form="coco:PATH",
    ),
    "voc2007": PaperSet(
        "Pascal VOC 2007",
        "detection",
        5_011,
        4_952,
        20,
        image_size=600,
        source="trainval and test from host.robots.ox.ac.uk/pascal/VOC, as VOCdevkit/VOC2007 with Annotations, "
        "JPEGImages and ImageSets/Main",
        form="voc:PATH",
    ),
    "vqa": PaperSet(
        "VQA v1",
        "vqa",
        248_349,
        121_512,
        1_000,
        image_size=224,
        source="OpenEnded questions and annotations from visualqa.org, with COCO's images in train2014 and val2014 "
        "beside them",
        form="vqa:PATH",
    ),
}
"""Name -> what is known of it. Those without a form are read from the data folder or downloaded."""


def needed(name: str) -> str:
    """What a person has to have for rows on a set that is not downloaded, and how it is named."""
    one = SETS[name]
    return f"{one.title} ({one.source}), named by --data {name}={one.form}"
