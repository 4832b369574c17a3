"""``filtersmith export RUN --format hub``: a folder that can be pushed to the Hugging Face hub as it is.

``model.safetensors``  the weights, read back and compared as every export is
``config.json``        what network they are of; `filtersmith.zoo.from_pretrained` reads it, and so does timm, of its
                       own networks
``README.md``          the model card

Nothing is uploaded: ``hf upload OWNER/NAME FOLDER`` does that.
"""

from __future__ import annotations

import filecmp
import json
import os
import tempfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

import filtersmith
from filtersmith.common.options import bad_option
from filtersmith.lab.deployed import finished_run
from filtersmith.lab.export import Exported, export
from filtersmith.lab.exported import described
from filtersmith.lab.hub import licences
from filtersmith.lab.hub.card import Facts, card
from filtersmith.lab.hub.compared import comparison_of
from filtersmith.lab.hub.timm_config import timm_config
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.training.folder import RunFolder, make_folder
from filtersmith.zoo.pretrained import CONFIG, WEIGHTS

FOLDER = "hub"
"""Where it is written by default, within the folder of the run."""
CARD = "README.md"
FILES = (WEIGHTS, CONFIG, CARD)


def export_folder(run: Path, out: Path | None = None, *, verbose: bool = False) -> Exported:
    """Write the deployed network of a run with its configuration and its model card.

    Args:
        run: the folder of a finished run.
        out: the folder, made if it isn't there; default: ``hub`` in the folder of the run. Its files are written over
            where the card is as it was written; of another one only those of the same content, so that nothing is
            lost that somebody has worked on.
        verbose: let the libraries print and warn.

    Raises:
        ValueError: not such a run, a file in place of the folder, a file in it that differs.
        RunFailed: the network cannot be written, or what was read back is not the same network.
    """
    folder = finished_run(run)
    out = (out or run / FOLDER).resolve()  # a link may lead to another disk
    if out.exists() and not out.is_dir():
        raise bad_option("--out", str(out), "a folder, not a file")
    if out == folder.path.resolve():
        raise bad_option("--out", str(out), "another folder than that of the run")
    beside = out if out.is_dir() else out.parent
    make_folder(beside)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".tmp", dir=beside) as place:
        made = Path(place) / "hub"
        made.mkdir()
        done = export(run, "safetensors", made / WEIGHTS, verbose=verbose)
        _describe(folder, made)
        _move(made, out)
    size = sum((out / name).stat().st_size for name in FILES)
    return replace(done, path=out, size=size)


def _describe(folder: RunFolder, made: Path) -> None:
    config, manifest, run = folder.read_config(), folder.read_manifest(), folder.result()
    if run is None:  # it was looked at before
        raise RunFailed(f"{folder.path} has no result")
    with safe_open(str(made / WEIGHTS), "pt") as opened:
        metadata = opened.metadata() or {}
    about = described(metadata)
    facts = Facts(
        config, about["facts"], manifest, run, comparison_of(folder.path), licences.of_data(config.data.name)
    )
    names = (manifest.get("data") or {}).get("class_names")
    whole: dict[str, Any] = {
        "library_name": "filtersmith",
        "filtersmith_version": filtersmith.__version__,
        **{name: about[name] for name in ("task", "model", "small_images", "method", "seed", "data", "facts")},
        **({"label_names": names} if names else {}),
        **timm_config(config, about["facts"]),
    }
    (made / CONFIG).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    (made / CARD).write_text(_sealed(card(facts)), encoding="utf-8")


def _sealed(text: str) -> str:
    """A card with the digest of its text behind it, by which it is known again."""
    return f"{text}\n<!-- as it was made: {sha256(text.encode()).hexdigest()} -->\n"


def _untouched(card: Path) -> bool:
    """Whether a card is as it was made."""
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return _sealed(text.rpartition("\n<!-- as it was made: ")[0]) == text


def _same(one: Path, other: Path) -> bool:
    """Whether two files have the same content; safetensors writes metadata in any order."""
    if filecmp.cmp(one, other, shallow=False):
        return True
    if one.suffix != ".safetensors":
        return False
    try:
        with safe_open(str(one), "pt") as first, safe_open(str(other), "pt") as second:
            names = set(first.keys())
            if first.metadata() != second.metadata() or names != set(second.keys()):
                return False
            return all(torch.equal(first.get_tensor(name), second.get_tensor(name)) for name in names)
    except SafetensorError:
        return False


def _move(made: Path, out: Path) -> None:
    """All or nothing: what differs from a file that somebody has changed is refused before anything is moved."""
    for name in FILES if not _untouched(out / CARD) else ():
        there = out / name
        if there.exists() and not (there.is_file() and _same(there, made / name)):
            raise bad_option("--out", str(out), f"a folder without another {name}, which would be lost")
    make_folder(out)
    for name in FILES:
        os.replace(made / name, out / name)
