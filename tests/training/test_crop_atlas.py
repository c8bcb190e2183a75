"""Crops of the atlas are those of the package's own sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training.base_data import AnnotatedImage
from training.base_looks import changed_looks, mixed_channels
from training.crop_atlas import AtlasImage, CropAtlas

from napari_unet.core.augmentation import Augmentation
from napari_unet.core.sampling import sample, training_image
from napari_unet.core.settings import AugmentationSettings
from napari_unet.core.simulation import simulate_nuclei
from training import train_base

UNCHANGED = AugmentationSettings(
    rotation=False, flips=False, scale=0, elastic=0, gamma=0, contrast=0, noise=0
)
GEOMETRY = AugmentationSettings(elastic=3, gamma=0, contrast=0, noise=0)


def annotated(shape: tuple[int, int], seed: int, diameter: float) -> AnnotatedImage:
    image, labels = simulate_nuclei(shape, 12, diameter=14, seed=seed)
    return AnnotatedImage(str(seed), "fluo_small", str(seed), False, diameter, image, labels)


@pytest.fixture(scope="module")
def images() -> list[AtlasImage]:
    items = [annotated((80, 96), 0, 14), annotated((64, 120), 1, 20)]
    return [train_base.prepare(item, 1.0, 16.0) for item in items]


def atlas_of(images: list[AtlasImage], settings: AugmentationSettings, seed: int = 0) -> CropAtlas:
    generator = torch.Generator().manual_seed(seed)
    return CropAtlas(images, crop=40, batch=3, augmentation=Augmentation(settings, generator))


@pytest.mark.parametrize("settings", [UNCHANGED, GEOMETRY])
@pytest.mark.parametrize("which", [0, 1])
def test_crops_are_read_as_the_package_reads_them(
    images: list[AtlasImage],
    settings: AugmentationSettings,
    which: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both images are in the atlas; the same centres and grids must give the same crops."""
    image = images[which]
    atlas = atlas_of(images, settings)
    centres = torch.tensor([[3.0, 5.0], [30.0, 40.0], [60.0, 90.0]])
    grids = Augmentation(settings, torch.Generator().manual_seed(5)).grid(3, 40)
    monkeypatch.setattr(CropAtlas, "_centres", lambda self, chosen: centres)
    monkeypatch.setattr(Augmentation, "grid", lambda self, count, size: grids)
    monkeypatch.setattr(torch, "multinomial", lambda *args, **options: torch.full((3,), which))
    batch = atlas.draw()

    source = training_image(
        np.moveaxis(image.pixels.astype(np.float32), -1, 0),
        image.target,
        image.weight.astype(np.float32),
        image.target.astype(np.int32),
        factor=image.factor,
    )
    expected = sample(source, centres, grids)
    torch.testing.assert_close(batch.image, expected.image, atol=1e-4, rtol=0)
    assert torch.equal(batch.target, expected.target)
    assert torch.equal(batch.weight, expected.weight)


def test_crops_repeat_and_differ(images: list[AtlasImage]) -> None:
    first, again = (atlas_of(images, GEOMETRY).draw() for _ in range(2))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, atlas_of(images, GEOMETRY, seed=1).draw().image)


def test_crops_lie_inside_their_image_and_near_objects(images: list[AtlasImage]) -> None:
    atlas = atlas_of(images, UNCHANGED)
    chosen = torch.tensor([0, 1] * 200)
    centres = atlas._centres(chosen)
    shapes = torch.tensor([image.target.shape for image in images])[chosen]
    reach = torch.tensor([10 / image.factor for image in images])[chosen][:, None]
    assert (centres > -reach).all() and (centres < shapes + reach).all()
    near = sum(
        bool((np.abs(images[which].objects - centre.numpy()).max(axis=1) <= reach[0].item()).any())
        for which, centre in zip(chosen.tolist(), centres, strict=True)
    )
    assert near > 200


def test_looks_keep_shape_gray_and_repeat() -> None:
    gray = torch.rand(64, 1, 30, 30).expand(64, 3, 30, 30)
    generator = torch.Generator().manual_seed(0)
    mixed = mixed_channels(gray, generator)
    torch.testing.assert_close(mixed, gray, atol=1e-5, rtol=0)
    colour = torch.rand(64, 3, 30, 30)
    first, again = (changed_looks(colour, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == colour.shape and torch.equal(first, again)
    untouched = (first == colour).flatten(1).all(dim=1)
    assert 0 < untouched.sum() < 64
