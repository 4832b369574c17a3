"""The data sets by name. Nothing here imports torch: the command line lists them without it."""

from __future__ import annotations

SOURCES = {
    "digits": "scikit-learn's digits: 1,797 grey images 8x8, 10 classes; embedded, nothing to download",
    "cifar10": "CIFAR-10: 60,000 colour images 32x32, 10 classes; read from the data folder or downloaded",
    "cifar100": "CIFAR-100: 60,000 colour images 32x32, 100 classes; read from the data folder or downloaded",
    "svhn": "SVHN: 99,289 house numbers 32x32, 10 classes; read from the data folder or downloaded",
    "imagefolder:PATH": "a folder of train/CLASS/IMAGE and test/CLASS/IMAGE, or of CLASS/IMAGE",
    "hf:PATH_OR_ID": "an image set in parquet: a folder, a file, or a name on the Hugging Face hub",
}
"""Each name that ``load`` understands, with one line about it."""


def names() -> tuple[str, ...]:
    """The names that ``load`` understands."""
    return tuple(SOURCES)
