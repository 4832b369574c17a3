"""Files of weights: as plain tensors, or one line that says what is wrong."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from filtersmith.zoo.checkpoints import digest, read

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.steps": torch.tensor(3)}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[name], STATE[name]) for name in found)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {**STATE, "epoch": 3, "note": "words"},
        {"state_dict": STATE, "best": torch.tensor(0.5), "optimizer": {"state": {}}},
        {"model": {"state_dict": STATE}, "args": None},
        nn.ParameterDict({"x": nn.Parameter(torch.ones(1))}).state_dict() | STATE | {"x": None},
    ],
)
def test_a_state_dict_alone_or_wrapped(content: Any, tmp_path: Path) -> None:
    assert same(read(saved(tmp_path / "net.pt", content)))


def test_safetensors_whole_and_in_shards(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "net.bin")  # known by what it holds, not by its name
    assert same(read(tmp_path / "net.bin"))
    assert digest(tmp_path / "net.bin") == sha256((tmp_path / "net.bin").read_bytes()).hexdigest()
    index = tmp_path / "net.safetensors.index.json"
    for number, (name, tensor) in enumerate(STATE.items()):
        save_file({name: tensor}, tmp_path / f"{number}.safetensors")
    index.write_text(json.dumps({"weight_map": {name: f"{n}.safetensors" for n, name in enumerate(STATE)}}))
    assert same(read(index))
    before = digest(index)
    save_file({"a.steps": torch.tensor(4)}, tmp_path / "1.safetensors")
    assert digest(index) != before
    (tmp_path / "0.safetensors").unlink()
    with pytest.raises(ValueError, match=r"names 0.safetensors, which is not beside it"):
        read(index)


def damaged(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-20])
    return path


def test_what_holds_no_weights_is_refused_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("hello there you")
    save_file(STATE, tmp_path / "cut.safetensors")
    (tmp_path / "run").mkdir()
    save_file(STATE, tmp_path / "run" / "model.safetensors")
    for path, said in [
        (tmp_path / "no.pt", r"there is no file of weights .*no.pt"),
        (tmp_path / "run", r"must be a file, got the folder .*run, which has model.safetensors"),
        (text, r"text.pt is neither safetensors nor a file of torch.save"),
        (
            saved(tmp_path / "object.pt", nn.Linear(1, 1)),
            r"holds objects \(torch.nn.*Linear\), .*: save a state_dict",
        ),
        (saved(tmp_path / "list.pt", [1]), r"must hold a state dict, alone or in state_dict or .*: it holds a list"),
        (saved(tmp_path / "none.pt", {"epoch": 1}), r"must hold a state dict, .*: it has epoch"),
        (damaged(saved(tmp_path / "cut.pt", STATE)), r"cut.pt cannot be read as weights: "),
        (damaged(tmp_path / "cut.safetensors"), r"cut.safetensors cannot be read as safetensors: "),
    ]:
        with pytest.raises(ValueError, match=said) as caught:
            read(path)
        assert "\n" not in str(caught.value)
