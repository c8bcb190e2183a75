"""Random changes of crops: one grid, smooth, repeatable, as strong as the settings say."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from napari_unet.core.augmentation import Augmentation, gaussian_blur
from napari_unet.core.settings import AugmentationSettings

NOTHING = AugmentationSettings(
    rotation=False, flips=False, scale=0, elastic=0, gamma=0, contrast=0, noise=0
)
EVERYTHING = AugmentationSettings(blur=2, inversion=0.5, desaturation=0.5)


def augmentation(seed: int = 0, **changes: object) -> Augmentation:
    settings = AugmentationSettings(**{**NOTHING.to_dict(), **changes})  # type: ignore[arg-type]
    return Augmentation(settings, torch.Generator().manual_seed(seed))


def regular(size: int) -> npt.NDArray[np.float32]:
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)


def matrices(grids: Tensor) -> npt.NDArray[np.float64]:
    """Return the linear map of each grid that has no deformation."""
    steps = torch.stack([grids[:, 1, 0] - grids[:, 0, 0], grids[:, 0, 1] - grids[:, 0, 0]], dim=1)
    return steps.double().numpy()


# --- geometry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_without_changes_the_grid_is_the_pixel_grid(size: int) -> None:
    grids = augmentation().grid(3, size)
    assert grids.shape == (3, size, size, 2) and grids.dtype == torch.float32
    for grid in grids:
        np.testing.assert_array_equal(grid.numpy(), regular(size))


def test_without_changes_intensities_stay_bit_for_bit() -> None:
    images = torch.randn(2, 3, 9, 9)
    assert torch.equal(augmentation().intensities(images), images)


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("rotation", [False, True])
def test_rotation_and_mirrors_keep_lengths_and_angles(rotation: bool, flips: bool) -> None:
    found = matrices(augmentation(rotation=rotation, flips=flips).grid(400, 3))
    product = found @ found.transpose(0, 2, 1)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(2), product.shape), atol=1e-5)
    mirrored = np.linalg.det(found) < 0
    assert mirrored.mean() == pytest.approx(0.5 if flips else 0, abs=0.12)
    angles = np.arctan2(found[~mirrored, 0, 1], found[~mirrored, 0, 0])
    eighths = np.unique(np.round((angles + np.pi) / (np.pi / 4)) % 8)
    expected = 8 if rotation else (2 if flips else 1)  # both mirrors: half a turn
    assert len(eighths) == expected


def test_zoom_is_within_its_bounds_and_as_often_in_as_out() -> None:
    found = matrices(augmentation(scale=0.25).grid(400, 3))
    zoom = found[:, 0, 0]
    np.testing.assert_allclose(found, zoom[:, None, None] * np.eye(2), atol=1e-5)
    assert 1 / 1.25 - 1e-6 <= zoom.min() < 0.82
    assert 1.23 < zoom.max() <= 1.25 + 1e-6
    assert (zoom > 1).mean() == pytest.approx(0.5, abs=0.12)


def keys_kernel(distance: npt.NDArray[np.float64], a: float = -0.75) -> npt.NDArray[np.float64]:
    """The cubic convolution kernel of Keys (1981)."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def test_deformation_is_bicubic_between_3_x_3_points() -> None:
    """Section 3.1 of the paper. Independent interpolation from the values at the 9 points."""
    size, middle = 41, 20
    shifts = augmentation(elastic=2.0).grid(4, size).numpy() - regular(size)
    places = np.arange(size) / middle  # in units of the distance of two points
    weights = np.zeros((size, 3))
    for point in range(-2, 5):  # points beyond the border repeat the outermost
        weights[:, np.clip(point, 0, 2)] += keys_kernel(places - point)
    points = shifts[:, ::middle, ::middle]
    expected = np.einsum("ya,xb,nabi->nyxi", weights, weights, points)
    assert np.abs(shifts).max() > 1
    np.testing.assert_allclose(shifts, expected, atol=1e-4)


def test_displacements_have_the_standard_deviation_asked_for() -> None:
    """Measured on differences of two points, which the removal of the mean leaves alone."""
    size = 61
    shifts = augmentation(elastic=3.0).grid(600, size).numpy() - regular(size)
    corners = shifts[:, 0, 0] - shifts[:, -1, -1]
    assert corners.std() == pytest.approx(3.0 * math.sqrt(2), rel=0.08)
    assert abs(corners.mean()) < 0.5


def test_a_deformation_moves_no_crop_away_from_its_place() -> None:
    shifts = augmentation(elastic=4.0).grid(20, 48).numpy() - regular(48)
    np.testing.assert_allclose(shifts.mean(axis=(1, 2)), 0, atol=1e-4)


def test_a_small_crop_is_not_folded_over_itself() -> None:
    """The default of 10 px would tear a crop of 32 px apart."""
    grids = augmentation(elastic=10.0).grid(50, 32).numpy()
    down = np.diff(grids, axis=1)[:, :, :-1]
    right = np.diff(grids, axis=2)[:, :-1]
    area = down[..., 0] * right[..., 1] - down[..., 1] * right[..., 0]
    assert (area <= 0).mean() < 0.02
    assert (grids - regular(32)).std() < 32 / 12


def test_the_same_seed_draws_the_same_changes() -> None:
    def drawn(seed: int) -> tuple[Tensor, Tensor]:
        source = Augmentation(EVERYTHING, torch.Generator().manual_seed(seed))
        return source.grid(2, 16), source.intensities(torch.ones(2, 3, 16, 16) / 2)

    first, again, other = drawn(1), drawn(1), drawn(2)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b) and not torch.allclose(a, c)


def test_every_crop_of_a_batch_is_changed_differently() -> None:
    source = Augmentation(EVERYTHING, torch.Generator().manual_seed(0))
    for values in (
        source.grid(4, 16),
        source.intensities(torch.rand(1, 1, 16, 16).expand(4, 3, -1, -1)),
    ):
        for k in range(1, 4):
            assert not torch.allclose(values[0], values[k], atol=1e-3)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    source = Augmentation(EVERYTHING, torch.Generator().manual_seed(0))
    source.intensities(source.grid(2, 16).permute(0, 3, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)


# --- intensities -------------------------------------------------------------------------------


def ramps(count: int, channels: int = 1) -> Tensor:
    return torch.linspace(0, 1, 64).reshape(1, 1, 8, 8).expand(count, channels, 8, 8).clone()


def test_inversion_exchanges_bright_and_dark_as_often_as_asked() -> None:
    images = ramps(300)
    assert torch.equal(augmentation(inversion=1).intensities(images), 1 - images)
    result = augmentation(inversion=0.25).intensities(images)
    inverted = result[:, 0, 0, 0] > 0.5
    assert torch.equal(result[inverted], 1 - images[inverted])
    assert torch.equal(result[~inverted], images[~inverted])
    assert float(inverted.float().mean()) == pytest.approx(0.25, abs=0.08)


def test_gamma_bends_the_curve_between_its_ends() -> None:
    images = ramps(200)
    result = augmentation(gamma=0.5).intensities(images)
    exponents = torch.log(result[:, 0, 4, 0]) / torch.log(images[:, 0, 4, 0])
    assert math.exp(-0.5) - 1e-4 <= float(exponents.min()) < 0.68
    assert 1.5 < float(exponents.max()) <= math.exp(0.5) + 1e-4
    torch.testing.assert_close(result, images.clamp(min=1e-4) ** exponents[:, None, None, None])


def test_gamma_takes_values_beyond_the_usual_range() -> None:
    images = torch.tensor([-1.0, 0.0, 4.0]).reshape(1, 1, 1, 3)
    assert torch.isfinite(augmentation(gamma=1.0).intensities(images)).all()


def test_contrast_is_a_gain_and_an_offset_within_bounds() -> None:
    images = ramps(300)
    result = augmentation(contrast=0.2).intensities(images)
    offset = result[:, 0, 0, 0]
    gain = result[:, 0, -1, -1] - offset
    torch.testing.assert_close(
        result, images * gain[:, None, None, None] + offset[:, None, None, None]
    )
    assert 0.8 - 1e-5 <= float(gain.min()) < 0.83 and 1.17 < float(gain.max()) <= 1.2 + 1e-5
    assert -0.1 - 1e-5 <= float(offset.min()) < -0.08 and 0.08 < float(offset.max()) <= 0.1 + 1e-5
    assert abs(float(np.corrcoef(gain, offset)[0, 1])) < 0.2


def test_channels_change_together_with_a_part_of_their_own() -> None:
    result = augmentation(contrast=0.2).intensities(ramps(300, 3))
    gain = (result[:, :, -1, -1] - result[:, :, 0, 0]).numpy()
    assert 0.7 - 1e-5 <= gain.min() and gain.max() <= 1.3 + 1e-5
    together = np.corrcoef(gain.T)[0, 1]
    assert 0.6 < together < 0.95


def test_noise_has_at_most_the_deviation_asked_for() -> None:
    images = torch.zeros(200, 1, 40, 40)
    result = augmentation(noise=0.1).intensities(images)
    deviations = result.std(dim=(1, 2, 3))
    assert float(deviations.max()) < 0.105 and float(deviations.max()) > 0.08
    assert float(deviations.min()) < 0.01
    assert abs(float(result.mean())) < 1e-3


def test_blur_is_gaussian_blur_of_at_most_the_deviation_asked_for() -> None:
    point = torch.zeros(100, 1, 33, 33)
    point[:, :, 16, 16] = 1
    result = augmentation(blur=2.0).intensities(point)
    torch.testing.assert_close(result.sum(dim=(1, 2, 3)), torch.ones(100), atol=1e-4, rtol=0)
    place = torch.arange(33) - 16.0
    variance = (result.sum(dim=(1, 2)) * place**2).sum(dim=1)
    assert 1.8 < float(variance.max()) ** 0.5 <= 2.0 + 1e-3
    assert float(variance.min()) ** 0.5 < 0.5


def test_desaturation_mixes_the_channels_into_one_gray() -> None:
    images = torch.rand(50, 3, 8, 8)
    result = augmentation(desaturation=1).intensities(images)
    assert torch.equal(result[:, 0], result[:, 1]) and torch.equal(result[:, 0], result[:, 2])
    assert (result >= images.amin(1, keepdim=True) - 1e-6).all()
    assert (result <= images.amax(1, keepdim=True) + 1e-6).all()
    gray = images[:, :1]
    torch.testing.assert_close(augmentation(desaturation=1).intensities(gray), gray)


def test_some_colour_crops_stay_coloured() -> None:
    images = torch.rand(200, 3, 4, 4)
    result = augmentation(desaturation=0.3).intensities(images)
    kept = (result == images).all(dim=(1, 2, 3))
    assert float(kept.float().mean()) == pytest.approx(0.7, abs=0.1)


# --- blur --------------------------------------------------------------------------------------


def test_gaussian_blur_agrees_with_scipy() -> None:
    images = torch.rand(4, 2, 30, 23)
    deviations = [0.4, 1.0, 2.5, 0.0]
    result = gaussian_blur(images, torch.tensor(deviations))
    assert result.shape == images.shape
    for image, blurred, deviation in zip(images, result, deviations, strict=True):
        for before, after in zip(image.numpy(), blurred.numpy(), strict=True):
            expected = before
            if deviation:
                expected = ndimage.gaussian_filter(before, deviation, mode="mirror", radius=8)
            np.testing.assert_allclose(after, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3)])
def test_gaussian_blur_takes_images_smaller_than_its_kernel(shape: tuple[int, int]) -> None:
    images = torch.rand(2, 1, *shape)
    result = gaussian_blur(images, torch.tensor([3.0, 1.0]))
    assert result.shape == images.shape
    assert float(result.min()) >= float(images.min()) - 1e-6
    assert float(result.max()) <= float(images.max()) + 1e-6
