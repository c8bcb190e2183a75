"""Two sample images that need no download, and "painting" a few cells of one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError
from napari_unet.core.simulation import simulate_nuclei

#: Objects closer than this many pixels are in each other's way.
_NEAR = 10.0


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
        ``(y, x)`` around which the nearest objects are taken; by default where the fewest other
        objects are close by, as these would have to be painted too.

    Raises
    ------
    InputError
        If there are fewer objects.
    """
    numbers, centres, radii = _measure(labels)
    if not 0 < count <= len(numbers):
        raise InputError(f"There are {len(numbers)} objects to paint, not {count}.")
    if near is not None:
        chosen = _nearest(centres, np.asarray(near), count)
    else:
        distance = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
        crowding = np.clip(_NEAR - (distance - radii[:, None] - radii[None]), 0, None)
        groups = [_nearest(centres, centre, count) for centre in centres]
        chosen = min(groups, key=lambda group: _crowding_outside(crowding, group))
    return np.where(np.isin(labels, numbers[chosen]), labels, 0).astype(np.int32)


def _measure(
    labels: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return number, centre ``(n, 2)`` and equivalent radius of each object."""
    y, x = np.nonzero(labels > 0)
    numbers, index = np.unique(labels[y, x], return_inverse=True)
    area = np.bincount(index)
    centres = np.stack([np.bincount(index, y) / area, np.bincount(index, x) / area], axis=1)
    return numbers, centres, np.sqrt(area / np.pi)


def _nearest(
    centres: npt.NDArray[np.float64], point: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.intp]:
    distance = np.hypot(*(centres - point).T)
    return np.asarray(np.argsort(distance, kind="stable")[:count])


def _crowding_outside(crowding: npt.NDArray[np.float64], group: npt.NDArray[np.intp]) -> float:
    """Return how much the objects that are left out press on the group."""
    return float(crowding[group].sum() - crowding[np.ix_(group, group)].sum())
