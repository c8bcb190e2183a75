"""Two sample images that need no download, and "painting" a few cells of one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError
from napari_unet.core.simulation import simulate_nuclei


@dataclass(frozen=True)
class Sample:
    """An image to try things on.

    Attributes
    ----------
    name
        Name of the layer.
    image
        ``(Y, X)`` uint16 or ``(Y, X, 3)`` uint8.
    labels
        Exact labels ``(Y, X)`` int32, or None where nobody knows them.
    source
        Where the image comes from, in one sentence.
    """

    name: str
    image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] = field(repr=False)
    labels: npt.NDArray[np.int32] | None = field(repr=False)
    source: str

    @property
    def rgb(self) -> bool:
        """Whether the last axis holds red, green and blue."""
        return self.image.ndim == 3


def simulated_sample(shape: tuple[int, int] = (512, 512), seed: int = 0) -> Sample:
    """Return simulated fluorescence nuclei with their exact labels."""
    image, labels = simulate_nuclei(shape, diameter=26, touching=0.5, seed=seed)
    return Sample(
        "simulated nuclei", image, labels, "Simulated fluorescence nuclei; the labels are exact."
    )


def histology_sample() -> Sample:
    """Return a real stained tissue section, which comes inside scikit-image."""
    from skimage import data

    return Sample(
        "histology",
        np.asarray(data.immunohistochemistry(), dtype=np.uint8),  # type: ignore[no-untyped-call]
        None,
        "Colonic glands, nuclei stained with hematoxylin, FHL2 with DAB; from scikit-image, "
        "acquired at the Center for Microscopy and Molecular Imaging.",
    )


def paint_cells(
    labels: npt.NDArray[np.int32], count: int, near: tuple[float, float] | None = None
) -> npt.NDArray[np.int32]:
    """Keep only some neighbouring objects, as a person would paint them; the rest is unlabelled.

    Parameters
    ----------
    labels
        Labels ``(Y, X)`` of all objects.
    count
        Number of objects to keep.
    near
        ``(y, x)`` around which the nearest objects are taken; by default the middle.

    Raises
    ------
    InputError
        If there are fewer objects.
    """
    numbers, first = np.unique(labels, return_inverse=True)
    index = first.reshape(labels.shape)
    area = np.bincount(index.ravel())
    y = np.bincount(index.ravel(), np.repeat(np.arange(labels.shape[0]), labels.shape[1])) / area
    x = np.bincount(index.ravel(), np.tile(np.arange(labels.shape[1]), labels.shape[0])) / area
    objects = np.flatnonzero(numbers > 0)
    if count > len(objects):
        raise InputError(f"There are {len(objects)} objects to paint, not {count}.")
    middle = near if near is not None else (labels.shape[0] / 2, labels.shape[1] / 2)
    distance = np.hypot(y - middle[0], x - middle[1])[objects]
    chosen = numbers[objects[np.argsort(distance, kind="stable")[:count]]]
    return np.where(np.isin(labels, chosen), labels, 0).astype(np.int32)
