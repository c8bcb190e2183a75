"""Simulated fluorescence nuclei with exact ground truth, for samples, tests and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet.core.errors import InputError

_Array = npt.NDArray[np.float32]
_Labels = npt.NDArray[np.int32]

_PLACES = 60  #: tries to find room for one nucleus before the image counts as full
_DIRECTIONS = 12  #: tries to dock a touching nucleus before it is placed apart
_GAP = 2  #: background pixels kept around a nucleus that shall not touch another
_MOST_OVERLAP = 0.12  #: share of its area that a docking nucleus may lose to its neighbour
_COVERAGE = 0.15  #: share of the image that nuclei cover when no number is given
_CAMERA_OFFSET = 100.0


@dataclass(frozen=True)
class _Shape:
    """One nucleus on its own patch: which pixels, and how thick it is there (0 to 1)."""

    mask: npt.NDArray[np.bool_]
    thickness: _Array

    @property
    def reach(self) -> int:
        return int(self.mask.shape[0]) // 2


def simulate_nuclei(
    shape: tuple[int, int] = (256, 256),
    n: int | None = None,
    *,
    diameter: float = 24.0,
    touching: float = 0.3,
    seed: int = 0,
    size_spread: float = 0.15,
    irregularity: float = 0.08,
    texture: float = 0.25,
    blur: float = 1.2,
    photons: float = 150.0,
    read_noise: float = 4.0,
    illumination: float = 0.3,
    haze: float = 0.2,
) -> tuple[npt.NDArray[np.uint16], _Labels]:
    """Simulate a wide-field image of stained nuclei together with its exact labels.

    Nuclei are ellipses with a smoothly irregular outline. The image is their textured thickness,
    plus out-of-focus light, times an uneven illumination, blurred by a Gaussian point spread
    function, with photon (Poisson) and read-out (normal) noise. The labels are drawn before the
    blur, so they are exact.

    Parameters
    ----------
    shape
        Height and width in pixels.
    n
        Number of nuclei; by default as many as cover 15 % of the image (at least one).
    diameter
        Median equivalent diameter of a whole nucleus, in pixels.
    touching
        Fraction (0 to 1) of the nuclei that are placed in contact with an earlier one.
    seed
        The same seed gives the same image and labels.
    size_spread
        Relative standard deviation of the diameter.
    irregularity
        Relative amplitude of the outline's deviation from an ellipse.
    texture
        Relative standard deviation of the intensity inside a nucleus.
    blur
        Standard deviation of the point spread function, in pixels.
    photons
        Mean number of photons per pixel in the middle of a nucleus; fewer is noisier.
    read_noise
        Standard deviation of the camera's read-out noise, in photons.
    illumination
        Relative loss of light from the brightest to the darkest place (0 to 1).
    haze
        Out-of-focus light, relative to a nucleus' own.

    Returns
    -------
    image : uint16 array (Y, X)
    labels : int32 array (Y, X)
        0 is background, nuclei are numbered 1 to ``n``. Nuclei may be cut by the image border.

    Raises
    ------
    InputError
        If so many nuclei do not fit into the image, or a parameter makes no sense.
    """
    height, width = (int(size) for size in shape)
    if n is None:
        n = max(1, round(_COVERAGE * height * width / (np.pi * diameter**2 / 4)))
    _check(height, width, n, diameter, touching, photons)
    rng = np.random.default_rng(seed)
    labels, thickness = _place(height, width, n, rng, diameter, touching, size_spread, irregularity)
    light = thickness * _texture(height, width, rng, texture, diameter)
    light = ndimage.gaussian_filter(light, blur, mode="nearest")
    light += haze * _haze(light, diameter)
    # Even an empty place of a real image is not dark: medium and scattered light.
    expected = photons * (0.05 + light) * _illumination(height, width, rng, illumination)
    counts = rng.poisson(expected) + rng.normal(0, read_noise, (height, width))
    image = np.clip(np.round(counts + _CAMERA_OFFSET), 0, 65535).astype(np.uint16)
    return image, labels


def _check(
    height: int, width: int, n: int, diameter: float, touching: float, photons: float
) -> None:
    if min(height, width) < 1:
        raise InputError(f"The image needs at least 1 x 1 px, not {height} x {width}.")
    if n < 0:
        raise InputError(f"The number of nuclei must be at least 0, not {n}.")
    if not diameter >= 3:
        raise InputError(f"The diameter must be at least 3 px, not {diameter}.")
    if not 0 <= touching <= 1:
        raise InputError(f"The touching fraction must be between 0 and 1, not {touching}.")
    if not photons > 0:
        raise InputError(f"The number of photons must be above 0, not {photons}.")


def _place(
    height: int,
    width: int,
    n: int,
    rng: np.random.Generator,
    diameter: float,
    touching: float,
    size_spread: float,
    irregularity: float,
) -> tuple[_Labels, _Array]:
    """Draw ``n`` nuclei; return their labels and their brightness before any blur."""
    # A border as wide as the largest reach saves clipping: every patch lies inside the canvas.
    border = int(np.ceil(diameter * (1 + 4 * size_spread) * (1 + 4 * irregularity))) + 2 * _GAP
    canvas = np.zeros((height + 2 * border, width + 2 * border), dtype=np.int32)
    inside = (slice(border, border + height), slice(border, border + width))
    brightness = np.zeros(canvas.shape, dtype=np.float32)
    centres: list[tuple[int, int]] = []
    reaches: list[int] = []
    for number in range(1, n + 1):
        # A nucleus that no longer fits may be replaced by one of another form.
        for _ in range(3):
            nucleus = _nucleus(rng, diameter, size_spread, irregularity, border)
            where = None
            if centres and rng.random() < touching:
                where = _dock(canvas, inside, nucleus, centres, reaches, rng)
            if where is None:
                where = _apart(canvas, inside, nucleus, rng)
            if where is not None:
                break
        if where is None:
            raise InputError(
                f"{n} nuclei of {diameter:g} px do not fit into {height} x {width} px; "
                "ask for fewer or smaller ones."
            )
        centre, mask = where
        patch = _patch(centre, nucleus.reach)
        canvas[patch][mask] = number
        brightness[patch][mask] = (rng.lognormal(0, 0.25) * nucleus.thickness)[mask]
        centres.append(centre)
        reaches.append(nucleus.reach)
    return np.ascontiguousarray(canvas[inside]), np.ascontiguousarray(brightness[inside])


def _nucleus(
    rng: np.random.Generator, diameter: float, spread: float, irregularity: float, most: int
) -> _Shape:
    """Draw one outline ``r(angle)``: an ellipse times a few harmonics."""
    size = np.clip(rng.normal(1, spread), 1 - 2.5 * spread, 1 + 2.5 * spread)
    radius = max(1.0, 0.5 * diameter * size)
    aspect = rng.uniform(0.7, 1.0)
    reach = min(int(np.ceil(radius / np.sqrt(aspect) * (1 + 4 * irregularity))) + 1, most)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    angle = np.arctan2(y, x) - np.float32(rng.uniform(0, np.pi))
    # An ellipse of half axes a, b with a * b = radius^2: the area does not depend on the aspect.
    half_a, half_b = radius / np.sqrt(aspect), radius * np.sqrt(aspect)
    outline = half_a * half_b / np.hypot(half_b * np.cos(angle), half_a * np.sin(angle))
    for harmonic in (2, 3, 4, 5):
        amplitude = irregularity * rng.normal() / harmonic
        outline *= 1 + amplitude * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    fraction = np.hypot(y, x) / np.maximum(outline, 0.5)
    mask = fraction <= 1
    thickness = 0.45 + 0.55 * np.sqrt(np.clip(1 - fraction**2, 0, 1))
    return _Shape(mask, thickness.astype(np.float32))


def _patch(centre: tuple[int, int], reach: int) -> tuple[slice, slice]:
    y, x = centre
    return slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1)


def _random_centre(inside: tuple[slice, slice], rng: np.random.Generator) -> tuple[int, int]:
    rows, columns = inside
    return int(rng.integers(rows.start, rows.stop)), int(rng.integers(columns.start, columns.stop))


def _is_inside(centre: tuple[int, int], inside: tuple[slice, slice]) -> bool:
    return all(axis.start <= at < axis.stop for at, axis in zip(centre, inside, strict=True))


def _apart(
    canvas: _Labels, inside: tuple[slice, slice], nucleus: _Shape, rng: np.random.Generator
) -> tuple[tuple[int, int], npt.NDArray[np.bool_]] | None:
    """Find a place with a gap of background all around."""
    reach = nucleus.reach + _GAP
    grown = ndimage.binary_dilation(np.pad(nucleus.mask, _GAP), iterations=_GAP)
    for _ in range(_PLACES):
        centre = _random_centre(inside, rng)
        rows, columns = _patch(centre, reach)
        window = canvas[max(0, rows.start) : rows.stop, max(0, columns.start) : columns.stop]
        if window.shape == grown.shape and not window[grown].any():
            return centre, nucleus.mask
    return None


def _dock(
    canvas: _Labels,
    inside: tuple[slice, slice],
    nucleus: _Shape,
    centres: list[tuple[int, int]],
    reaches: list[int],
    rng: np.random.Generator,
) -> tuple[tuple[int, int], npt.NDArray[np.bool_]] | None:
    """Slide the nucleus towards an earlier one until they press against each other."""
    for _ in range(_DIRECTIONS):
        host = int(rng.integers(len(centres)))
        direction = rng.uniform(0, 2 * np.pi)
        step = np.array([np.sin(direction), np.cos(direction)])
        start = np.array(centres[host])
        for distance in range(reaches[host] + nucleus.reach, 0, -1):
            y, x = np.round(start + distance * step).astype(int)
            centre = (int(y), int(x))
            if not _is_inside(centre, inside):
                continue
            window = canvas[_patch(centre, nucleus.reach)]
            taken = nucleus.mask & (window > 0)
            if not taken.any():
                continue
            mask = nucleus.mask & ~taken
            if _fits(nucleus.mask, mask, window, host + 1):
                return centre, mask
            break
    return None


def _fits(
    whole: npt.NDArray[np.bool_],
    left: npt.NDArray[np.bool_],
    window: _Labels,
    host: int,
) -> bool:
    """Tell whether what is left is one piece, nearly whole, and touches only its host."""
    if left.sum() < (1 - _MOST_OVERLAP) * whole.sum():
        return False
    around = window[ndimage.binary_dilation(whole)]
    if (around[around > 0] != host).any():
        return False
    return int(ndimage.label(left)[1]) == 1


def _texture(
    height: int, width: int, rng: np.random.Generator, strength: float, diameter: float
) -> _Array:
    """Return chromatin-like texture: a smooth random field of mean 1, never below 0.1."""
    field: _Array = rng.standard_normal((height, width), dtype=np.float32)
    sigma = diameter / 12
    ndimage.gaussian_filter(field, sigma, mode="wrap", output=field)
    # White noise of variance 1 has variance 1 / (4 pi sigma^2) after a Gaussian filter.
    field *= np.float32(strength * max(1.0, 2 * np.sqrt(np.pi) * sigma))
    textured: _Array = np.maximum(field + 1, np.float32(0.1))
    return textured


def _haze(light: _Array, diameter: float) -> _Array:
    """Return light from other focal planes: the image itself, blurred over two diameters.

    Done on a coarse grid, as nothing finer than the blur is left in it.
    """
    factor = max(1, int(diameter / 2))
    height, width = light.shape
    padded = np.pad(light, ((0, -height % factor), (0, -width % factor)), mode="edge")
    rows, columns = padded.shape[0] // factor, padded.shape[1] // factor
    coarse = padded.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
    coarse = ndimage.gaussian_filter(coarse, 2 * diameter / factor, mode="nearest")
    y = (np.arange(height) + 0.5) / factor - 0.5
    x = (np.arange(width) + 0.5) / factor - 0.5
    # Separable linear interpolation: two small matrix products instead of a gather per pixel.
    fine: _Array = _interpolation(y, rows) @ coarse @ _interpolation(x, columns).T
    return fine


def _interpolation(at: npt.NDArray[np.float64], count: int) -> _Array:
    """Return the matrix that interpolates ``count`` samples linearly at the given positions."""
    inside = np.clip(at, 0, count - 1)
    hats = 1 - np.abs(inside[:, None] - np.arange(count))
    return np.asarray(np.clip(hats, 0, 1), dtype=np.float32)


def _illumination(height: int, width: int, rng: np.random.Generator, strength: float) -> _Array:
    """Return a smooth bright spot somewhere near the middle, between ``1 - strength`` and 1."""
    middle = rng.uniform(0.3, 0.7, size=2)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None] - np.float32(middle[0])
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :] - np.float32(middle[1])
    distance = y**2 + x**2
    farthest = max(float(distance.max()), 1e-6)
    return np.float32(1) - np.float32(strength) * distance / np.float32(farthest)
