"""The features of images by a CNN that is not trained, kept on disk so that they are made once."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from filtersmith.common.snapshot import snapshot
from filtersmith.lab.data.augment import normalise, per_channel
from filtersmith.lab.data.fingerprint import digest as digest_of
from filtersmith.lab.data.fingerprint import names_and_sizes, sampled
from filtersmith.lab.tasks.vqa.batches import load_images

FORMAT = 1
"""Of the files; those of another format are made again."""

_TOGETHER = 64  # images that go through the network at a time; fixed, as the last bits may depend on it


def cached_features(
    files: Sequence[Path],
    backbone: nn.Module,
    digest: str,
    folder: Path,
    *,
    image_size: int,
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
    device: torch.device | None = None,
) -> Tensor:
    """Features of images, from a file in ``folder`` or made and written there.

    The file is known by the images' names, sizes and, of a thousand, contents, by the network's digest, and by how
    images are resized and normalised. It is written whole or not at all; one that is damaged, or another's, is made
    again. Several processes may do this at once, and all make the same file: let the first one go ahead.

    Args:
        files: of the images, in the order of the features.
        backbone: gives features (n, d), as `without_classifier` makes it; called in evaluation mode, left as it was.
        digest: of the network's weights and code, by `backbone_digest`.
        folder: for the files; made if it is not there.
        image_size: side in pixels of the square that every image is brought to.
        mean: of each channel, in units of 0..1.
        std: of each channel, in units of 0..1.
        device: where the network is; default: the CPU.

    Returns:
        float32 (files, d), on the CPU.

    Raises:
        ValueError: an image, or the folder, that can't be read; features that are not (n, d) or not finite.
    """
    scaling = [per_channel("mean", mean, 3), per_channel("std", std, 3)]
    facts = {
        "format": str(FORMAT),
        "images": digest_of([*names_and_sizes(files), *sampled(files)]),
        "count": str(len(files)),
        "backbone": digest,
        "image_size": str(image_size),
        "scaling": json.dumps([one.tolist() for one in scaling]),
    }
    path = Path(folder) / f"features-{_key(facts)}.safetensors"
    found = _read(path, facts)
    if found is not None:
        return found
    _make_folder(path.parent)
    made = _make(files, backbone, image_size, scaling, device or torch.device("cpu"))
    _write(path, made, facts)
    return made


def backbone_digest(backbone: nn.Module) -> str:
    """Of a network's structure, its weights and buffers, and the files in which its classes are written.

    Torch's own classes are not read: its version decides about last bits alone.
    """
    classes = {cls for module in backbone.modules() for cls in type(module).__mro__}
    return digest_of([repr(backbone).encode(), *_sources(classes), *_tensors(backbone)])


def _sources(classes: set[type]) -> Iterator[bytes]:
    files = set()
    for cls in classes:
        if cls.__module__.partition(".")[0] not in ("torch", "builtins"):
            try:
                files.add(inspect.getfile(cls))
            except (OSError, TypeError):  # typed into a console
                yield cls.__qualname__.encode()
    yield from sorted(Path(file).read_bytes() for file in files if Path(file).is_file())


def _tensors(backbone: nn.Module) -> Iterator[bytes]:
    for name, tensor in backbone.state_dict().items():
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield _bytes(tensor)


def _bytes(tensor: Tensor) -> bytes:
    contents: bytes = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return contents


def _key(facts: dict[str, str]) -> str:
    return digest_of(f"{name}={value}".encode() for name, value in facts.items())


@torch.no_grad()
def _make(
    files: Sequence[Path], backbone: nn.Module, image_size: int, scaling: Sequence[Tensor], device: torch.device
) -> Tensor:
    mean, scale = scaling[0].mul(255), scaling[1].mul(255).reciprocal()
    pixels = image_size**2
    mean, scale = mean.repeat(pixels).to(device), scale.repeat(pixels).to(device)
    restore = snapshot(backbone)
    parts = []
    try:
        backbone.eval()
        for start in range(0, len(files), _TOGETHER):
            part = files[start : start + _TOGETHER]
            images = load_images(part, image_size).permute(0, 2, 3, 1).contiguous().to(device)
            features = backbone(normalise(images, mean, scale))
            if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != len(part):
                raise ValueError(f"{type(backbone).__name__} must give features (n, d) of n images")
            parts.append(features.float().cpu())
    finally:
        restore()
    made = torch.cat(parts)
    if not bool(made.isfinite().all()):
        raise ValueError(f"{type(backbone).__name__} gives features that are not finite")
    return made


def _read(path: Path, facts: dict[str, str]) -> Tensor | None:
    """The features of a file; ``None`` where it is not there, not whole, or not of these ``facts``."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            held = opened.metadata() or {}
            features: Tensor = opened.get_tensor("features")
    except (OSError, SafetensorError):
        return None
    sound = held == {**facts, "digest": digest_of([_bytes(features)])}
    return features if sound and features.dim() == 2 and features.dtype == torch.float32 else None


def _write(path: Path, features: Tensor, facts: dict[str, str]) -> None:
    from safetensors.torch import save

    contents = save({"features": features}, {**facts, "digest": digest_of([_bytes(features)])})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:  # opened plainly, for the permissions that the user's umask gives
            stream.write(contents)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Before anything takes long."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder} cannot be made: {error.strerror}") from error
