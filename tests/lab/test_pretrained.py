"""Pretrained networks come with what their libraries say of their images."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from torch import nn

from filtersmith.lab.pretrained import pretrained


def test_one_of_timm_has_its_normalisation_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Linear(2, 2)
    known = {"mean": (0.1, 0.2), "std": (0.3, 0.4), "input_size": (3, 288, 240), "crop_pct": 0.9}
    network.pretrained_cfg = known  # type: ignore[assignment]
    made = SimpleNamespace(create_model=lambda name, pretrained: network if pretrained and name == "a.b" else None)
    monkeypatch.setitem(sys.modules, "timm", made)
    assert pretrained("timm:a.b") == (network, {"mean": [0.1, 0.2], "std": [0.3, 0.4], "image_size": 240})


def test_one_of_torchvision_has_those_of_its_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("torchvision").models
    network, asked = nn.Linear(2, 2), []
    monkeypatch.setattr(models, "get_model", lambda name, weights: asked.append((name, weights)) or network)
    found, facts = pretrained("torchvision:resnet50")
    assert found is network
    assert asked == [("resnet50", models.ResNet50_Weights.IMAGENET1K_V2)]
    assert facts == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "image_size": 224}


def test_what_a_library_does_not_have_and_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(ValueError, match=r"^torchvision has no pretrained nothing here: \S"):
        pretrained("torchvision:nothing")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"need timm, which is not installed"):
        pretrained("timm:resnet18")
