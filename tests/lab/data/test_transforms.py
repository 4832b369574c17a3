"""What is done to one image: against torchvision, and against the formulas of the sources."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from reference.pictures import pixels
from torch import Tensor

pytest.importorskip("torchvision")

from torchvision.transforms import v2

from filtersmith.lab.data import Augment
from filtersmith.lab.data.transforms import lighting, transform_for


def image(height: int, width: int, seed: int = 0) -> Tensor:
    """uint8 (3, height, width), rows of pixels contiguous, as it is decoded."""
    return torch.from_numpy(pixels(seed, size=(height, width))).permute(2, 0, 1)


def test_an_image_is_tested_on_the_centre_of_224_pixels_of_256() -> None:
    usual = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])
    for size in ((375, 500), (500, 333), (224, 300), (60, 80)):
        assert torch.equal(transform_for(None, 224)(image(*size)), usual(image(*size)))
    ready = image(224, 224)
    assert transform_for(None, 224)(ready) is ready, "images that have the size are not blown up"


def test_training_crops_at_random_and_without_pad_it_does_not() -> None:
    whole, usual = image(60, 80), v2.Compose([v2.RandomResizedCrop(48, antialias=True), v2.RandomHorizontalFlip()])
    for seed in range(4):
        found = [torch.manual_seed(seed) and one(whole) for one in (transform_for(Augment(6, True), 48), usual)]
        assert torch.equal(*found)
    centre = transform_for(None, 48)(whole)
    mirrored = [transform_for(Augment(0, True), 48)(whole) for _ in range(20)]
    kept = [torch.equal(one, centre) for one in mirrored]
    assert 3 < sum(kept) < 17
    assert all(torch.equal(one, centre.flip(2)) for one, same in zip(mirrored, kept, strict=True) if not same)
    assert torch.equal(transform_for(Augment(0, False), 48)(whole), centre)


def test_colours_are_changed_after_the_same_crop_and_mirror_image() -> None:
    """Within brightness, contrast and saturation of 0.6 to 1.4: grey stays near the line that they leave to it."""
    flat = torch.full((3, 64, 64), 100, dtype=torch.uint8)
    means = torch.stack(
        [transform_for(Augment(8, True, color=True), 48)(flat).float().mean((1, 2)) for _ in range(99)]
    )
    assert 45 < means.min() < 75
    assert 125 < means.max() < 155
    assert 0 < means.std(1).max() < 5, "lighting alone tells channels of grey apart, by little"
    steps = [
        v2.RandomResizedCrop(48, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4)),
        lighting,
    ]
    found = [
        torch.manual_seed(3) and one(image(70, 90))
        for one in (transform_for(Augment(8, True, color=True), 48), v2.Compose(steps))
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("augment", [None, Augment(0, True), Augment(8, True, color=True)])
def test_they_can_be_sent_to_workers_that_are_not_forked(augment: Augment | None) -> None:
    ours = transform_for(augment, 48)
    found = [torch.manual_seed(0) and one(image(70, 90)) for one in (ours, pickle.loads(pickle.dumps(ours)))]
    assert torch.equal(*found)


def test_lighting_is_that_of_alexnet() -> None:
    """Krizhevsky et al. 2012, Sec. 4.1: every pixel gets p1 a1 l1 + p2 a2 l2 + p3 a3 l3, with a of deviation 0.1."""
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    assert np.allclose(vectors.T @ vectors, np.eye(3), atol=2e-3), "p are principal components"
    grey = torch.full((3, 2, 2), 128, dtype=torch.uint8)
    torch.manual_seed(1)
    found = torch.stack([lighting(grey) for _ in range(4000)]).double()
    assert (found == found[:, :, :1, :1]).all(), "all pixels of an image alike"
    spread = np.cov((found[:, :, 0, 0] / 255).T.numpy())
    values = np.array([0.2175, 0.0188, 0.0045]) * 0.1
    assert np.allclose(spread, vectors @ np.diag(values**2) @ vectors.T, atol=2e-5)
    assert lighting(torch.full((3, 2, 2), 255, dtype=torch.uint8)).dtype == torch.uint8
