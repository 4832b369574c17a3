"""What timm reads: its networks load there as they are, those that it cannot make have no such keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reference.running import config, run

from filtersmith.lab.hub.timm_config import timm_config
from filtersmith.lab.hub.write import export_folder
from filtersmith.zoo import from_pretrained

FACTS = {"num_classes": 10, "in_channels": 1, "image_size": 8, "mean": [0.5], "std": [0.25]}


def test_timm_makes_the_same_network(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    run(config("wau", model="timm:test_resnet", epochs=1), tmp_path / "run")
    folder = export_folder(tmp_path / "run").path
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(theirs(images), from_pretrained(folder)(images))
    known = timm.data.resolve_model_data_config(theirs)
    assert (known["input_size"], len(known["mean"])) == ((1, 8, 8), 1)
    assert theirs.pretrained_cfg["label_names"] == [str(digit) for digit in range(10)]


@pytest.mark.parametrize(
    ("model", "method", "small"),
    [("resnet20", "wau", False), ("timm:resnet18", "wau", True), ("timm:resnet18", "dacnn", False)],
)
def test_networks_that_timm_cannot_make(model: str, method: str, small: bool) -> None:
    what = config(method, model=model)
    what = what.model_copy(update={"model": what.model.model_copy(update={"small_images": small})})
    assert timm_config(what, FACTS) == {}
