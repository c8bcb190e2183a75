"""Images at another scale, sampled lazily: every pixel is a pure function of its coordinates.

With ``factor`` network pixels per image pixel, the centre of network pixel ``j`` lies at the
image coordinate ``(j + 0.5) / factor - 0.5`` (the half-pixel convention). The image is mirrored
without end beyond its borders before it is sampled, so the scaled image has no border either and
a window of it can be computed alone, with exactly the values it has inside a larger one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from napari_unet.core.errors import InputError
from napari_unet.core.planes import Plane

Kernel = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

#: Scale factors beyond this are a mistake in a diameter, not an image.
LARGEST_FACTOR = 64.0


class PixelSource(Protocol):
    """What :class:`Plane` and :class:`ResampledPlane` have in common."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    @property
    def channels(self) -> int:
        """Number of channels that are read."""
        ...

    def read_mirrored(
        self, top: int, bottom: int, left: int, right: int
    ) -> npt.NDArray[np.float32]:
        """Return a window ``(C, y, x)`` of the image mirrored without end."""
        ...


def cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return Keys' cubic convolution kernel (1981, a = -1/2), zero from distance 2 on."""
    d = np.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.asarray(np.where(d < 1, near, np.where(d < 2, far, 0.0)), dtype=np.float64)


def linear(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the triangle kernel, zero from distance 1 on."""
    return np.asarray(np.maximum(0.0, 1 - np.abs(distance)), dtype=np.float64)


@dataclass(frozen=True)
class AxisSampling:
    """How samples along one axis are mixed from source pixels ``[start, stop)``.

    ``matrix`` has one row per sample and one column per source pixel; each row sums to 1.
    """

    start: int
    stop: int
    matrix: sparse.csr_array


def axis_sampling(
    positions: npt.NDArray[np.floating[Any]], kernel: Kernel, support: float, spread: float = 1.0
) -> AxisSampling:
    """Weigh source pixels for samples at given source coordinates.

    Parameters
    ----------
    positions
        Source coordinates of the samples, ascending.
    kernel, support
        Interpolation kernel and the distance beyond which it is zero, in units of ``spread``.
    spread
        Source pixels per sample when shrinking (widens the kernel: anti-aliasing), else 1.
    """
    reach = support * spread
    taps = math.ceil(2 * reach) + 1
    first = np.ceil(positions - reach).astype(np.int64)
    sources = first[:, None] + np.arange(taps)
    weights = kernel((sources - positions[:, None]) / spread)
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights != 0
    start, stop = int(sources[used].min()), int(sources[used].max()) + 1
    counts = np.concatenate(([0], np.cumsum(used.sum(axis=1))))
    matrix = sparse.csr_array(
        (weights[used].astype(np.float32), sources[used] - start, counts),
        shape=(len(positions), stop - start),
    )
    return AxisSampling(start, stop, matrix)


def sample_rows_columns(
    pixels: npt.NDArray[np.float32], rows: AxisSampling, columns: AxisSampling
) -> npt.NDArray[np.float32]:
    """Apply one sampling per axis to ``(C, y, x)`` pixels of ``[rows.start:stop, ...]``."""
    channels = len(pixels)
    # Row by row first: the sparse product runs over contiguous lines of the other axis.
    shrunk = [rows.matrix @ channel for channel in pixels]
    out = np.empty((channels, rows.matrix.shape[0], columns.matrix.shape[0]), np.float32)
    for channel, values in enumerate(shrunk):
        out[channel] = (columns.matrix @ np.ascontiguousarray(values.T)).T
    return out


@dataclass(frozen=True)
class ResampledPlane:
    """A plane seen at another scale; nothing is read before :meth:`read_mirrored`.

    Shrinking is anti-aliased, enlarging smooth (Keys' cubic kernel, widened by the reduction).

    Attributes
    ----------
    plane
        The image.
    factor
        Pixels of the result per pixel of the image.
    """

    plane: Plane
    factor: float

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the scaled image in its own pixels (rounded, at least 1)."""
        height, width = self.plane.shape
        return max(1, round(height * self.factor)), max(1, round(width * self.factor))

    @property
    def channels(self) -> int:
        """Number of channels that are read."""
        return self.plane.channels

    def read(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.float32]:
        """Return the window ``[top:bottom, left:right]`` as ``(C, y, x)`` float32."""
        return self.read_mirrored(top, bottom, left, right)

    def read_mirrored(
        self, top: int, bottom: int, left: int, right: int
    ) -> npt.NDArray[np.float32]:
        """Return a window of the mirrored image without end, at the other scale."""
        rows, columns = self._sampling(top, bottom), self._sampling(left, right)
        pixels = self.plane.read_mirrored(rows.start, rows.stop, columns.start, columns.stop)
        return sample_rows_columns(pixels, rows, columns)

    def _sampling(self, start: int, stop: int) -> AxisSampling:
        positions = (np.arange(start, stop) + 0.5) / self.factor - 0.5
        return axis_sampling(positions, cubic, 2.0, max(1.0, 1 / self.factor))


def check_factor(factor: float) -> float:
    """Return a usable scale factor.

    Raises
    ------
    InputError
        If it is not positive or far from anything an object size can ask for.
    """
    if not (1 / LARGEST_FACTOR <= factor <= LARGEST_FACTOR):
        raise InputError(
            f"The image would have to be scaled by {factor:.3g} to match the model's object size; "
            "check the object diameter."
        )
    return float(factor)


def resample_plane(plane: Plane, factor: float) -> Plane:
    """Return a plane in memory, brought to another scale (the plane itself for factor 1).

    Pixel ``j`` of the result shows the image at ``(j + 0.5) / factor - 0.5``.
    """
    if check_factor(factor) == 1.0:
        return plane
    view = ResampledPlane(plane, factor)
    height, width = view.shape
    pixels: Any = view.read(0, height, 0, width)
    return Plane(pixels, 0, tuple(range(view.channels)))


def scaled_interval(start: int, stop: int, factor: float) -> tuple[int, int]:
    """Return the scaled pixels that image pixels ``[start, stop)`` are interpolated from."""
    if factor == 1.0:
        return start, stop
    first = (start + 0.5) * factor - 0.5
    last = (stop - 0.5) * factor - 0.5
    return math.floor(first), math.floor(last) + 2


def bring_back(
    values: npt.NDArray[np.float32],
    rows: tuple[int, int],
    columns: tuple[int, int],
    box: tuple[int, int, int, int],
    factor: float,
) -> npt.NDArray[np.float32]:
    """Interpolate scaled values bilinearly on the image grid.

    Parameters
    ----------
    values
        ``(K, y, x)`` on the scaled pixels ``rows`` x ``columns`` (half-open intervals, at least
        those of :func:`scaled_interval`).
    box
        ``top, bottom, left, right`` in image pixels.
    factor
        Scaled pixels per image pixel.
    """
    top, bottom, left, right = box
    along_y = _bilinear(top, bottom, rows, factor)
    along_x = _bilinear(left, right, columns, factor)
    return sample_rows_columns(values, along_y, along_x)


def _bilinear(start: int, stop: int, held: tuple[int, int], factor: float) -> AxisSampling:
    positions = (np.arange(start, stop) + 0.5) * factor - 0.5
    sampling = axis_sampling(positions, linear, 1.0)
    matrix = sampling.matrix
    shifted = sparse.csr_array(
        (matrix.data, matrix.indices + (sampling.start - held[0]), matrix.indptr),
        shape=(matrix.shape[0], held[1] - held[0]),
    )
    return AxisSampling(held[0], held[1], shifted)
