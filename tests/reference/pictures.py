"""Small image files and parquet sets that the data tests are run on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def pixels(seed: int, size: tuple[int, int] = (8, 8), channels: int = 3) -> Any:
    """uint8 (H, W, channels) or (H, W) of noise."""
    shape = (*size, channels) if channels > 1 else size
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(seed: int, size: tuple[int, int] = (8, 8), channels: int = 3, kind: str = "png") -> bytes:
    """The same as a file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed, size, channels)).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, seed: int, size: tuple[int, int] = (8, 8), channels: int = 3) -> Path:
    """An image file, its folders made; the kind is the suffix of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, size, channels)).save(path)
    return path


def class_folders(root: Path, per_class: int, names: Sequence[str] = ("cat", "dog"), **options: Any) -> Path:
    """``root/NAME/I.png`` with ``per_class`` images each; image I of class K is ``pixels(100 * K + I)``."""
    for number, name in enumerate(names):
        for i in range(per_class):
            write(root / name / f"{i}.png", 100 * number + i, **options)
    return root


def parquet(path: Path, images: Sequence[bytes | None], **columns: Any) -> Path:
    """A parquet file as ``datasets`` writes it: ``image``, and columns given as values or (values, feature)."""
    import datasets

    features: dict[str, Any] = {"image": datasets.Image()}
    values: dict[str, Any] = {"image": [image and {"bytes": image, "path": None} for image in images]}
    for name, column in columns.items():
        values[name], features[name] = column if isinstance(column, tuple) else (column, datasets.Value("int64"))
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(values, features=datasets.Features(features)).to_parquet(path)
    return path


def lay_out(root: Path, *lines: str) -> Path:
    """Files and links below ``root``, a line each, every image another one.

    ``a/b.png`` is an image if its suffix is that of one, else a text; ``a/*5`` are five images 0.png to 4.png;
    ``a/`` is an empty folder; ``a -> ../b`` a link.
    """
    seed = 0
    for line in lines:
        place, _, target = line.partition(" -> ")
        folder, star, count = place.partition("*")
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if target:
            path.symlink_to(target)
        elif place.endswith("/"):
            path.mkdir()
        elif not star and path.suffix.lower() in (".txt", ".db", ".gif", ""):
            path.write_text("no image")
        else:
            for name in [f"{n}.png" for n in range(int(count))] if star else [Path(place).name]:
                write(root / folder / name if star else path, seed)
                seed += 1
    return root
