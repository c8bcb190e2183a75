"""Crops: image, target and weight read at the same places, where there is annotation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core import sampling
from napari_unet.core.augmentation import Augmentation
from napari_unet.core.planes import mirrored_indices
from napari_unet.core.sampling import (
    CropSampler,
    TrainingImage,
    match_channels,
    mirror,
    sample,
    training_image,
)
from napari_unet.core.settings import AugmentationSettings

NOTHING = AugmentationSettings(
    rotation=False, flips=False, scale=0, elastic=0, gamma=0, contrast=0, noise=0
)
MOVED = AugmentationSettings(gamma=0, contrast=0, noise=0)
STRONG = AugmentationSettings()


def augmentation(settings_: AugmentationSettings = NOTHING, seed: int = 0) -> Augmentation:
    return Augmentation(settings_, torch.Generator().manual_seed(seed))


def random_source(shape: tuple[int, int], *, channels: int = 1, seed: int = 0) -> TrainingImage:
    rng = np.random.default_rng(seed)
    return training_image(
        rng.random((channels, *shape), dtype=np.float32),
        rng.integers(0, 5, shape, dtype=np.uint8),
        rng.random(shape, dtype=np.float32) + 0.1,
        np.ones(shape, np.int32),
    )


def position_source(shape: tuple[int, int], factor: float) -> TrainingImage:
    """An image that shows the annotation grid's coordinates, and a target that counts rows."""
    rows, columns = (
        (np.arange(round(n * factor), dtype=np.float32) + 0.5) / factor - 0.5 for n in shape
    )
    image = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    target, weight = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return training_image(
        image,
        target.astype(np.uint8),
        weight.astype(np.float32),
        np.ones(shape, np.int32),
        factor=factor,
    )


def padded(pixels: npt.NDArray[Any], border: int) -> npt.NDArray[Any]:
    rows, columns = (mirrored_indices(-border, n + border, n) for n in pixels.shape[-2:])
    return pixels[..., rows[:, None], columns]


# --- one grid for all --------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.tuples(st.integers(-40, 70), st.integers(-40, 70)),
    st.integers(1, 25),
)
def test_the_pixel_grid_reads_the_image_mirrored_beyond_its_borders(
    shape: tuple[int, int], centre: tuple[int, int], size: int
) -> None:
    """Without augmentation a crop is a window of the mirrored image, target and weight."""
    source = random_source(shape)
    batch = sample(
        source, torch.tensor([centre], dtype=torch.float32), augmentation().grid(1, size)
    )
    border = 100
    top, left = (c - (size - 1) // 2 + border for c in centre)
    tops = {top, top - 1} if size % 2 == 0 else {top}
    lefts = {left, left - 1} if size % 2 == 0 else {left}
    windows = [np.s_[y : y + size, x : x + size] for y in tops for x in lefts]
    image, target, weight = (
        padded(t.numpy(), border) for t in (source.image[0], source.target, source.weight)
    )
    matching = [w for w in windows if np.array_equal(batch.target[0].numpy(), target[w])]
    assert matching
    assert any(np.abs(batch.image[0, 0].numpy() - image[w]).max() < 1e-5 for w in matching)
    assert any(np.array_equal(batch.weight[0].numpy(), weight[w]) for w in matching)


@pytest.mark.parametrize("factor", [1.0, 0.5, 2.0, 0.73, 3.1])
def test_image_target_and_weight_stay_aligned_under_every_change(factor: float) -> None:
    """Rotation, mirror, zoom and elastic deformation, inside the image."""
    source = position_source((120, 90), factor)
    size = 24
    centres = torch.tensor([[60.0, 45.0], [50.3, 40.9], [70.5, 50.5]])
    for seed in range(5):
        batch = sample(source, centres, augmentation(MOVED, seed).grid(3, size))
        reached = size * 1.2 / factor  # half diagonal, zoomed, and deformed
        assert reached < 59
        # A nearest neighbour lies at most half an annotation pixel away along each axis. PyTorch's
        # bicubic kernel (a = -3/4) brings a ramp back within 5 % of its rise per pixel.
        allowed = 0.5 + 0.05 / factor
        assert float((batch.image[:, 0] - batch.target).abs().max()) <= allowed
        assert float((batch.image[:, 1] - batch.weight).abs().max()) <= allowed


@pytest.mark.parametrize("factor", [1.0, 0.5, 2.0])
def test_image_target_and_weight_stay_aligned_beyond_the_border(factor: float) -> None:
    source = position_source((40, 50), factor)
    batch = sample(
        source, torch.tensor([[1.0, 48.0], [-30.0, 10.0]]), augmentation(MOVED).grid(2, 24)
    )
    # The mirror stands on the border pixel of each grid; a pixel's width apart at most.
    allowed = 0.5 + abs(1 - 1 / factor) / 2 + 0.15
    assert float((batch.image[:, 0] - batch.target).abs().max()) <= allowed
    assert float((batch.image[:, 1] - batch.weight).abs().max()) <= allowed


def test_an_image_that_equals_its_target_still_does_after_sampling() -> None:
    rows, columns = np.indices((80, 80))
    disc = (rows - 40) ** 2 + (columns - 38) ** 2 < 15**2
    source = training_image(
        disc[None].astype(np.float32),
        disc.astype(np.uint8),
        np.ones(disc.shape, np.float32),
        disc.astype(np.int32),
    )
    for seed in range(5):
        grid = augmentation(MOVED, seed).grid(2, 64)
        batch = sample(source, torch.tensor([[40.0, 38.0], [35.0, 50.0]]), grid)
        different = (batch.image[:, 0] > 0.5) != (batch.target > 0)
        assert float(different.float().mean()) < 0.01


@given(st.integers(1, 20), st.floats(-200, 200))
def test_mirrored_coordinates_are_a_triangle_wave(size: int, place: float) -> None:
    (found,) = mirror(torch.tensor([place], dtype=torch.float64), torch.tensor([float(size)]))
    lower = mirrored_indices(int(np.floor(place)), int(np.floor(place)) + 2, size)
    share = place - np.floor(place)
    assert float(found) == pytest.approx(lower[0] * (1 - share) + lower[1] * share, abs=1e-4)
    assert 0 <= float(found) <= size - 1


# --- collecting --------------------------------------------------------------------------------


def test_places_are_the_middles_of_objects_and_the_trained_pixels() -> None:
    labels = np.zeros((20, 30), np.int64)
    labels[2:5, 2:5], labels[10:13, 20:27], labels[18:, :2] = 7, 10**9, -1
    weight = np.where(labels != 0, 1, 0).astype(np.float32)
    source = training_image(
        np.zeros((1, 20, 30), np.float32), (labels > 0).astype(np.uint8), weight, labels
    )
    assert source.objects.tolist() == [[3, 3], [11, 23]]
    np.testing.assert_array_equal(source.pixels.numpy(), np.argwhere(weight))
    assert source.share == 2


def test_an_object_that_is_nowhere_trained_is_no_place() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[:2, :2], labels[5:, 5:] = 1, 2
    weight = (labels == 2).astype(np.float32)
    source = training_image(
        np.zeros((1, 9, 9), np.float32), weight.astype(np.uint8), weight, labels
    )
    assert len(source.objects) == 1


def test_background_alone_can_be_drawn() -> None:
    weight = np.zeros((40, 40), np.float32)
    weight[3:9, 3:9] = 1
    zeros = np.zeros((40, 40), np.int32)
    source = training_image(zeros[None].astype(np.float32), zeros.astype(np.uint8), weight, zeros)
    assert len(source.objects) == 0 and source.share == 1
    sampler = CropSampler(
        [source], crop=16, batch=8, augmentation=augmentation(STRONG), in_channels=1
    )
    assert (sampler.draw().weight.sum(dim=(1, 2)) > 0).all()


def test_a_large_annotation_is_thinned_out_and_stays_spread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "_MOST_CANDIDATES", 500)
    source = random_source((60, 60))
    assert len(source.pixels) == 500
    assert len(torch.unique(source.pixels, dim=0)) == 500
    np.testing.assert_allclose(source.pixels.float().mean(0), 29.5, atol=4)


# --- drawing -----------------------------------------------------------------------------------


def scattered(shape: tuple[int, int] = (200, 200)) -> TrainingImage:
    """Three small painted cells in a large image."""
    labels = np.zeros(shape, np.int32)
    for number, (y, x) in enumerate([(3, 5), (100, 90), (194, 197)], start=1):
        labels[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = number
    weight = (labels > 0).astype(np.float32)
    return training_image(
        np.zeros((1, *shape), np.float32), weight.astype(np.uint8), weight, labels
    )


@pytest.mark.parametrize("factor", [1.0, 0.5, 2.0])
def test_every_crop_holds_annotation(factor: float) -> None:
    """Complaint 5: a few cells in a large image are what is drawn, not the empty rest."""
    image = np.zeros((1, round(200 * factor), round(200 * factor)), np.float32)
    plain = scattered()
    source = TrainingImage(
        torch.from_numpy(image), plain.target, plain.weight, plain.objects, plain.pixels, factor
    )
    sampler = CropSampler(
        [source], crop=32, batch=60, augmentation=augmentation(STRONG), in_channels=1
    )
    batch = sampler.draw()
    assert batch.image.shape == (60, 1, 32, 32)
    assert batch.target.shape == batch.weight.shape == (60, 32, 32)
    assert batch.target.dtype == torch.int64 and batch.weight.dtype == torch.float32
    assert (batch.weight.sum(dim=(1, 2)) > 0).all()


def test_every_crop_holds_annotation_where_a_valid_network_answers() -> None:
    """Its output is the middle of the crop only."""
    sampler = CropSampler(
        [scattered()],
        crop=120,
        answered=32,
        batch=60,
        augmentation=augmentation(STRONG),
        in_channels=1,
    )
    middle = sampler.draw().weight[:, 44:-44, 44:-44]
    assert middle.shape == (60, 32, 32)
    assert (middle.sum(dim=(1, 2)) > 0).all()


def test_every_trained_pixel_is_seen() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[:, 10:20] = 1
    numbers = np.arange(labels.size, dtype=np.float32).reshape(1, *labels.shape)
    weight = (labels > 0).astype(np.float32)
    source = training_image(numbers, weight.astype(np.uint8), weight, labels)
    sampler = CropSampler([source], crop=16, batch=40, augmentation=augmentation(), in_channels=1)
    seen: set[int] = set()
    for _ in range(10):
        batch = sampler.draw()
        seen |= set(torch.round(batch.image[:, 0][batch.weight > 0]).int().tolist())
    assert seen == set(numbers[0][labels > 0].astype(int).tolist())


def test_objects_are_drawn_alike_however_large() -> None:
    """Half of the crops belong to an object drawn among all objects, whatever its area."""
    labels = np.zeros((240, 240), np.int32)
    labels[:100, :100] = 1
    corners = [(y, x) for y in (20, 80, 140, 200) for x in (150, 200)]
    for number, (y, x) in enumerate(corners, start=2):
        labels[y : y + 3, x : x + 3] = number
    weight = (labels > 0).astype(np.float32)
    source = training_image(
        np.zeros((1, 240, 240), np.float32), labels.astype(np.uint8), weight, labels
    )
    sampler = CropSampler([source], crop=16, batch=900, augmentation=augmentation(), in_channels=1)
    drawn = sampler.draw().target.flatten(1).amax(dim=1)
    shares = torch.bincount(drawn, minlength=10)[1:] / 900
    assert shares[1:].tolist() == pytest.approx([0.5 / 9] * 8, abs=0.03)
    assert float(shares[0]) == pytest.approx(0.5 + 0.5 / 9, abs=0.06)


def test_images_are_drawn_by_their_share() -> None:
    sources = [random_source((9, 9), seed=k) for k in range(2)]
    bright = TrainingImage(
        torch.full((1, 9, 9), 5.0),
        sources[1].target,
        sources[1].weight,
        sources[1].objects,
        sources[1].pixels,
        share=3.0,
    )
    sampler = CropSampler(
        [sources[0], bright], crop=16, batch=400, augmentation=augmentation(), in_channels=1
    )
    batch = sampler.draw()
    assert float((batch.image.mean(dim=(1, 2, 3)) > 3).float().mean()) == pytest.approx(
        0.75, abs=0.08
    )


def test_batches_drawn_together_hold_the_images_in_the_order_of_the_lot() -> None:
    """As on a GPU: crops of one image are read together, and dealt out to batches afterwards."""
    sources = []
    for number in range(3):
        source = scattered()
        sources.append(dataclasses.replace(source, image=torch.full_like(source.image, number)))
    sampler = CropSampler(
        sources, crop=16, batch=4, augmentation=augmentation(seed=2), in_channels=1
    )
    sampler.at_once = 5
    shares = torch.tensor([source.share for source in sources])
    generator = torch.Generator().manual_seed(2)
    lots = torch.multinomial(shares, 20, replacement=True, generator=generator)
    drawn = [sampler.draw() for _ in range(5)]
    shown = torch.cat([batch.image[:, 0, 0, 0] for batch in drawn])
    assert torch.equal(shown.round().long(), lots)
    sampler.draw()
    sampler.batch = 2
    assert len(sampler.draw().image) == 2


@pytest.mark.parametrize("used", [0, 3, 5, 7])
def test_a_sampler_goes_on_within_batches_drawn_together(used: int) -> None:
    samplers = [
        CropSampler(
            [scattered()], crop=16, batch=2, augmentation=augmentation(STRONG, seed), in_channels=1
        )
        for seed in (2, 9)
    ]
    for sampler in samplers:
        sampler.at_once = 5
    for _ in range(used):
        samplers[0].draw()
    samplers[1].draw()
    samplers[1].restore(*samplers[0].state())
    for _ in range(6):
        first, second = (sampler.draw() for sampler in samplers)
        assert torch.equal(first.image, second.image)
        assert torch.equal(first.target, second.target)


def test_batches_drawn_together_fit_into_memory() -> None:
    sampler = CropSampler(
        [scattered()], crop=256, batch=8, augmentation=augmentation(), in_channels=1
    )
    assert sampler.at_once == 1
    sampler.at_once = sampling._batches_at_once(8, 256, torch.device("cuda"))
    assert sampler.at_once == 4
    sampler.batch = 2  # memory ran out twice: less is drawn ahead, too
    assert sampler.at_once == 4
    sampler.draw()
    assert sampler.state()[1] == 1


def test_gray_and_rgb_images_share_a_batch() -> None:
    gray, colour = random_source((30, 30)), random_source((25, 35), channels=3)
    sampler = CropSampler(
        [gray, colour], crop=16, batch=20, augmentation=augmentation(STRONG), in_channels=3
    )
    batch = sampler.draw()
    assert batch.image.shape == (20, 3, 16, 16)
    is_gray = (batch.image[:, 0] == batch.image[:, 2]).all(dim=(1, 2))
    assert 0 < int(is_gray.sum()) < 20


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_repeated_only_where_needed(channels: int) -> None:
    image = torch.rand(2, 1, 4, 4)
    result = match_channels(image, channels)
    assert result.shape == (2, channels, 4, 4)
    assert torch.equal(result[:, -1:], image)


def test_the_same_seed_draws_the_same_batches() -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        sampler = CropSampler(
            [random_source((30, 30)), random_source((20, 40), seed=3)],
            crop=16,
            batch=5,
            augmentation=augmentation(STRONG, seed),
            in_channels=1,
        )
        batches = [sampler.draw() for _ in range(2)]
        return [t for b in batches for t in (b.image, b.target, b.weight)]

    for a, b in zip(drawn(4), drawn(4), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(drawn(4)[0], drawn(5)[0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (3, 2)])
def test_images_smaller_than_a_crop_are_mirrored(shape: tuple[int, int]) -> None:
    """Complaint 24."""
    sampler = CropSampler(
        [random_source(shape)], crop=32, batch=4, augmentation=augmentation(STRONG), in_channels=1
    )
    batch = sampler.draw()
    assert torch.isfinite(batch.image).all()
    assert (batch.weight > 0).all()
