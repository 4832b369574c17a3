"""What timm reads in ``config.json``: ``timm.create_model("local-dir:FOLDER", pretrained=True)`` works, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from filtersmith.lab.recipe.config import RunConfig
from filtersmith.methods.spelling import read

_PREFIX = "timm:"


def timm_config(config: RunConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that timm needs; none for a network that timm cannot make: another's, or one that was changed."""
    changed = config.model.small_images or not all(one.record.same_network for one in read(config.method))
    if config.task != "classification" or not config.model.name.startswith(_PREFIX) or changed:
        return {}
    size, channels = facts["image_size"], facts["in_channels"]
    return {
        "architecture": config.model.name.removeprefix(_PREFIX).partition(".")[0],
        "num_classes": facts["num_classes"],
        "model_args": {"in_chans": channels},
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [channels, size, size],
            "mean": facts["mean"],
            "std": facts["std"],
            "num_classes": facts["num_classes"],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
        },
    }
