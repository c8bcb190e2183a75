"""Object size: measured on labels, or estimated by the network itself on an unlabelled image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def object_diameters(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """Return the diameter of each positive label, ``2 sqrt(area / pi)``, in pixels.

    Objects cut by the border of the array are left out as long as a complete one remains.
    """
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    if ids.size == 0:
        return np.zeros(0)
    border = np.concatenate([labels[..., 0, :].ravel(), labels[..., -1, :].ravel()])
    border = np.concatenate([border, labels[..., :, 0].ravel(), labels[..., :, -1].ravel()])
    complete = ~np.isin(ids, border)
    if complete.any():
        areas = areas[complete]
    return np.asarray(2 * np.sqrt(areas / np.pi))


def median_diameter(labels: npt.NDArray[np.integer[Any]]) -> float | None:
    """Return the median object diameter in pixels, or None when no object is painted."""
    diameters = object_diameters(labels)
    return float(np.median(diameters)) if diameters.size else None
