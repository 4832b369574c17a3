"""Mean average precision as COCO defines it: torchmetrics with the fast backend, over all processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from filtersmith.common.options import whole_number
from filtersmith.lab.data.decode import need

_KEYS = {"AP": "map", "AP50": "map_50", "AP75": "map_75"}
# Those of pycocotools, exactly: torchmetrics' own are of single precision, and an overlap of 0.6 would miss its 0.6.
_OVERLAPS = np.linspace(0.5, 0.95, 10).tolist()
_RECALLS = np.linspace(0.0, 1.0, 101).tolist()

_Image = tuple[dict[str, Tensor], dict[str, Tensor]]


class AveragePrecision:
    """AP (over overlaps from 0.5 to 0.95), AP50 and AP75 of detections, averaged over the classes that have boxes.

    Args:
        max_detections: Of an image, so many with the highest scores count in each class, >= 1.

    Example::

        metric = AveragePrecision()
        for images, targets in batches.epoch(0):
            metric.add(network(images), targets)
        scores = metric.result()          # {"AP": 0.31, "AP50": 0.62, "AP75": 0.28}
    """

    def __init__(self, *, max_detections: int = 100) -> None:
        self.max_detections: int = whole_number("max_detections", max_detections, 1)
        self._calls: list[list[_Image]] = []

    def add(self, predictions: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> None:
        """The detections in some images and what there is in them.

        In several processes each calls this once for every batch, also for an empty one: images are then counted in
        the order of a single process, which decides where scores are equal.

        Args:
            predictions: ``boxes`` (n, 4) x1 y1 x2 y2, ``labels`` (n,) and ``scores`` (n,) of each image. What is not
                finite is no detection.
            targets: ``boxes``, ``labels`` and, where some are ignored, ``iscrowd`` (n,) of each image.

        Raises:
            ValueError: There are not as many predictions as targets.
        """
        if len(predictions) != len(targets):
            raise ValueError(f"there are predictions for {len(predictions)} images, but {len(targets)} targets")
        self._calls.append([(_found(one), _there(other)) for one, other in zip(predictions, targets, strict=True)])

    def result(self) -> dict[str, float]:
        """``AP``, ``AP50`` and ``AP75`` as fractions over the images of all processes; 0 where nothing is found.

        All processes have to call it, and all get the same.
        """
        images = self._all()
        highest = self.max_detections
        metric: Any = need("torchmetrics.detection").MeanAveragePrecision(
            backend="faster_coco_eval",
            iou_thresholds=_OVERLAPS,
            rec_thresholds=_RECALLS,
            max_detection_thresholds=[min(1, highest), min(10, highest), highest],
            sync_on_compute=False,  # it would wait for ever where processes have unequal numbers of images
        )
        metric.warn_on_many_detections = False
        metric.update([found for found, _ in images], [there for _, there in images])
        values = metric.compute()
        return {name: max(0.0, float(values[key])) for name, key in _KEYS.items()}  # -1: no class has a box

    def _all(self) -> list[_Image]:
        """The images of all processes, batch by batch, those of each batch by rank."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return [image for call in self._calls for image in call]
        ranks: list[list[list[_Image]]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(ranks, self._calls)
        most = max(map(len, ranks))
        return [
            image for call in range(most) for calls in ranks for image in (calls[call] if call < len(calls) else ())
        ]


def _found(prediction: Mapping[str, Tensor]) -> dict[str, Tensor]:
    boxes, labels, scores = (_on_cpu(prediction[name]) for name in ("boxes", "labels", "scores"))
    boxes, scores = boxes.reshape(-1, 4).float(), scores.float()
    finite = boxes.isfinite().all(1) & scores.isfinite()
    return {"boxes": boxes[finite], "labels": labels.long()[finite], "scores": scores[finite]}


def _there(target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    boxes, labels = (_on_cpu(target[name]) for name in ("boxes", "labels"))
    crowd = target.get("iscrowd")
    crowds = torch.zeros_like(labels) if crowd is None else _on_cpu(crowd)
    return {"boxes": boxes.reshape(-1, 4).float(), "labels": labels.long(), "iscrowd": crowds.long()}


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()
