"""Networks back from the folders that an export for the hub writes; nothing that stands in them is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.running import assert_same, config, run, weights
from safetensors.torch import save_file
from torch import nn

from filtersmith import zoo
from filtersmith.lab.hub.write import export_folder
from filtersmith.zoo.pretrained import fill, from_pretrained


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written")
    run(config("dacnn+regulators+wau", model="vanilla-5-16", epochs=1), out / "run")
    return export_folder(out / "run", out / "hub").path


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "hub"))


def change(folder: Path, **values: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return folder


def test_the_deployed_network_comes_back(written: Path) -> None:
    before = torch.get_rng_state()
    network = zoo.from_pretrained(written)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in network.modules())
    state, deployed = network.state_dict(), weights(written.parent / "run")
    assert_same({name: state[name] for name in deployed}, deployed)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": None}, r"config.json was not written by `filtersmith export --format hub`: it has no model$"),
        ({"model": "resnet"}, "unknown network 'resnet'"),
        ({"model": "resnet20"}, "model.safetensors does not hold the weights of resnet20: .*Missing key"),
        ({"method": "walk"}, "unknown method 'walk'"),
        ({"facts": {}}, "num_classes must be a whole number"),
        ({"facts": {"num_classes": 10**13, "in_channels": 1, "image_size": 8}}, "vanilla-5-16 cannot be made for"),
        ({"task": "detection"}, r"has a network of the task 'detection'.*lab.exported.load\(.*\) makes it"),
    ],
)
def test_another_folder_is_refused(folder: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_pretrained(change(folder, **values))


def test_what_is_no_folder_of_ours(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"config.json cannot be read"):
        from_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"source must be a folder, or OWNER/NAME on the Hugging Face hub, got '.*none'"
    ):
        from_pretrained(tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"source must be a folder, or OWNER/NAME"):
        from_pretrained(f"{folder.name}/mistyped")  # nobody is asked for it
    with pytest.raises(ValueError, match=r"revision must be None for .*, which is a folder"):
        from_pretrained(folder, revision="main")
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"config.json cannot be read"):
        from_pretrained(folder)


def test_code_that_a_folder_names_is_run_only_where_one_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ("import pathlib", "from torch import nn", "def make():", "    pathlib.Path('ran').touch()")
    Path("net.py").write_text("\n".join([*lines, "    return nn.Flatten()"]))
    for name in ("net.py:make", "net:make", "subprocess:run(args='touch ran',shell=true)"):
        with pytest.raises(ValueError, match=r"which is not run: own_code=True runs it"):
            from_pretrained(change(folder, model=name, method="baseline"))
    assert not Path("ran").exists()
    with pytest.raises(ValueError, match=r"does not hold the weights of net.py:make"):
        from_pretrained(change(folder, model="net.py:make"), own_code=True)
    assert Path("ran").exists()


def test_a_name_on_the_hub(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[tuple[Any, ...]] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        if name != "owner/net":
            raise OSError("offline\nin several lines")
        return str(written)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert isinstance(from_pretrained("owner/net", revision="v1"), nn.Module)
    assert asked == [("owner/net", "v1", ["config.json", "model.safetensors"])], "weights and configuration alone"
    with pytest.raises(ValueError, match=r"^there is no folder owner/other, and the hub does not give it: offline$"):
        from_pretrained("owner/other")


def test_weights_have_to_fit(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(1, 2), "bias": torch.ones(1)}, tmp_path / "net.safetensors")
    assert fill(nn.Linear(2, 1), tmp_path / "net.safetensors", "linear")(torch.ones(2)).item() == 3
    with pytest.raises(ValueError, match=r"net.safetensors does not hold the weights of wide: .*size mismatch"):
        fill(nn.Linear(3, 1), tmp_path / "net.safetensors", "wide")
