"""Images drawn from real label maps in random looks: what a network cannot learn from few fields.

The shapes and the crowding are those of annotated images; brightness, texture, sharpness, colour,
background and noise are drawn at random, far wider than any one microscope would give. A network
that has seen them relies on shape more than on the looks of the fields it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from training.base_data import AnnotatedImage

Array = npt.NDArray[np.float32]

#: Largest side (px) of a label map that is rendered.
_SIDE = 420


def rendered(
    items: Sequence[AnnotatedImage], count: int, seed: int | Sequence[int]
) -> list[AnnotatedImage]:
    """Draw ``count`` images in random looks from the label maps of ``items``.

    They have the kind ``simulated``; each label map belongs to the group of its image.
    """
    random = np.random.default_rng(seed)
    found: list[AnnotatedImage] = []
    while len(found) < count:
        item = items[int(random.integers(len(items)))]
        labels = _window(item.labels, random)
        if np.unique(labels).size < 3:
            continue
        image = _render(labels, item.diameter, random)
        found.append(
            replace(
                item,
                identifier=f"{item.identifier} rendered",
                kind="simulated",
                image=np.round(image * 60000).astype(np.uint16),
                labels=labels,
            )
        )
    return found


def dimmed(item: AnnotatedImage, random: np.random.Generator) -> AnnotatedImage:
    """Return a fluorescence image with each object's own light scaled by 0.15 to 1.

    Faint objects beside bright ones are annotated by people and rare in most fields.
    """
    image = item.image.astype(np.float32)
    background = ndimage.gaussian_filter(
        ndimage.minimum_filter(image, max(3, int(2 * item.diameter))), item.diameter
    )
    scale = np.exp(random.uniform(np.log(0.15), 0, int(item.labels.max()) + 1))
    # The glow around an object is its own light too.
    far, (rows, columns) = ndimage.distance_transform_edt(item.labels == 0, return_indices=True)
    own = scale[item.labels[rows, columns]]
    factor = np.where(far < 0.3 * item.diameter, own, 1).astype(np.float32)
    factor = ndimage.gaussian_filter(factor, 1.0)
    dim = np.minimum(background, image) + np.maximum(image - background, 0) * factor
    return replace(item, identifier=f"{item.identifier} dimmed", image=dim.astype(item.image.dtype))


def off_scale(items: Sequence[AnnotatedImage], seed: int) -> list[AnnotatedImage]:
    """Return images as if their objects had quite another size, of the kind ``off scale``.

    The size of unknown objects is estimated by showing an image at several scales. Whole cells
    then look like nuclei, and grains of a nucleus too: the network has to have seen that they
    are not.
    """
    random = np.random.default_rng(seed)
    found = []
    for item in items:
        views = 2 if item.kind == "brightfield" else int(random.random() < 0.25)
        for _ in range(views):
            octaves = (
                random.uniform(0.8, 2.5) if random.random() < 0.6 else random.uniform(-1.5, -0.8)
            )
            found.append(
                replace(
                    item,
                    identifier=f"{item.identifier} off scale",
                    kind="off scale",
                    diameter=item.diameter * 2**octaves,
                )
            )
    return found


def _window(labels: npt.NDArray[np.int32], random: np.random.Generator) -> npt.NDArray[np.int32]:
    """Cut a window, mirrored at random."""
    height, width = (min(n, _SIDE) for n in labels.shape)
    top = int(random.integers(labels.shape[0] - height + 1))
    left = int(random.integers(labels.shape[1] - width + 1))
    window = labels[top : top + height, left : left + width]
    return np.ascontiguousarray(window[:: random.choice([-1, 1]), :: random.choice([-1, 1])])


def _render(
    labels: npt.NDArray[np.int32], diameter: float, random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return ``(Y, X)`` or ``(Y, X, 3)`` intensities from 0 to 1."""
    objects = _object_light(labels, diameter, random)
    inside = ndimage.gaussian_filter((labels > 0).astype(np.float32), random.uniform(0.3, 1.2))
    surrounding = _surrounding(labels.shape, diameter, random)
    if random.random() < 0.35:  # stained tissue, in colour
        shades = random.uniform(0.05, 0.95, (2, 3)).astype(np.float32)
        if np.abs(shades[0] - shades[1]).max() < 0.25:
            shades[0] = 1 - shades[1]
        planes = [
            (b + 0.4 * (surrounding - 0.5)) * (1 - inside) + (f * (0.6 + 0.4 * objects)) * inside
            for f, b in shades.T
        ]
        return np.clip(np.stack([_imaged(p, diameter, random) for p in planes], axis=-1), 0, 1)
    level = random.uniform(0.0, 0.35)
    plane = level + random.uniform(0.02, 0.25) * surrounding + (1 - level) * objects * inside
    return _imaged(plane.astype(np.float32), diameter, random)


def _object_light(
    labels: npt.NDArray[np.int32], diameter: float, random: np.random.Generator
) -> Array:
    """Return the light of each object by itself: brightness, profile, texture, rim."""
    count = int(labels.max())
    brightness = np.exp(random.uniform(np.log(random.uniform(0.15, 0.9)), 0, count + 1))
    distance = ndimage.distance_transform_edt(_parted(labels))
    depth = np.clip(distance / (0.35 * diameter), 0, 1) ** random.uniform(0, 0.7)
    light = brightness[labels] * depth * (labels > 0)
    light *= 1 + random.uniform(0, 0.5) * _noise(
        labels.shape, diameter / random.uniform(3, 9), random
    )
    rim = np.exp(-0.5 * ((distance - 1) / random.uniform(0.8, 2)) ** 2) * (labels > 0)
    light += random.choice([0, 0, 1]) * random.uniform(-0.5, 0.6) * rim
    if random.random() < 0.4:  # some objects out of focus
        soft = ndimage.gaussian_filter(light, random.uniform(0.05, 0.12) * diameter)
        blurred = (random.random(count + 1) < 0.3)[labels]
        light = np.where(blurred, soft, light)
    return np.asarray(light, np.float32)


def _parted(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Return the pixels of objects that do not touch another object."""
    highest = ndimage.maximum_filter(labels, 3)
    lowest = ndimage.minimum_filter(np.where(labels > 0, labels, labels.max() + 1), 3)
    return (labels > 0) & (highest == lowest)


def _surrounding(shape: tuple[int, ...], diameter: float, random: np.random.Generator) -> Array:
    """Return what lies around the objects, about 0 to 1: haze, structure, an uneven field."""
    coarse = _noise(shape, diameter * random.uniform(0.8, 4), random)
    fine = _noise(shape, diameter * random.uniform(0.05, 0.5), random)
    share = random.uniform(0, 1)
    return np.asarray(np.clip(0.5 + 0.25 * ((1 - share) * coarse + share * fine), 0, 1), np.float32)


def _imaged(plane: Array, diameter: float, random: np.random.Generator) -> Array:
    """Add scattered light and uneven illumination, blur, and add the camera's noise."""
    plane = plane + random.uniform(0, 0.35) * ndimage.gaussian_filter(plane, 0.6 * diameter)
    plane = plane * (1 + random.uniform(0, 0.4) * _noise(plane.shape, 6 * diameter, random))
    plane = ndimage.gaussian_filter(plane, random.uniform(0.3, 0.06 * diameter + 0.5))
    photons = np.exp(random.uniform(np.log(20), np.log(3000)))
    plane = random.poisson(np.clip(plane, 0, None) * photons) / photons
    high = max(float(np.percentile(plane, 99.9)), 1e-3)
    return np.asarray(np.clip(plane / high, 0, 1), np.float32)


def _noise(shape: tuple[int, ...], size: float, random: np.random.Generator) -> Array:
    """Return smooth noise of unit variance with structures of about ``size`` pixels."""
    step = max(1.0, size / 3)
    coarse = random.normal(size=[int(np.ceil(n / step)) + 3 for n in shape])
    coarse = ndimage.gaussian_filter(coarse, 1.2)
    fine = ndimage.zoom(coarse, step, order=1)[tuple(slice(n) for n in shape)]
    return np.asarray(fine / max(float(fine.std()), 1e-6), np.float32)
