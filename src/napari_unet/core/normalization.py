"""Intensity scaling, computed once per image and never per tile."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError
from napari_unet.core.planes import Plane

#: At most about this many pixels of an image are read to find its percentiles.
SAMPLE_PIXELS = 4_000_000
_BLOCK = 256
#: A smaller range of intensities counts as none: its inverse would not be a float32.
_SMALLEST_SPAN = 1e-37
#: Pixels are read as float32: what is beyond its range has become infinite on the way.
_NOT_FINITE = (
    "The image{} contains NaN or infinite values, or values beyond 3e38; replace them (for example "
    "by 0) first."
)
#: Single precision must tell at least so many intensities apart; with fewer, rounding errors look
#: like objects. No image of 16 bits comes near.
_FEWEST_STEPS = 16
_TOO_LARGE = (
    "The intensities of the image{} are so large that their differences are lost; subtract the "
    "smallest one from all of them first."
)


@dataclass(frozen=True)
class Normalization:
    """Percentiles that are mapped to 0 and 1.

    Attributes
    ----------
    low, high
        Percentiles (0 to 100) of each channel.
    """

    low: float = 1.0
    high: float = 99.8

    def __post_init__(self) -> None:
        both = (self.low, self.high)
        if not (
            all(isinstance(each, numbers.Real) for each in both) and 0 <= both[0] <= both[1] <= 100
        ):
            raise InputError(
                f"The percentiles must lie between 0 and 100, the lower one first, not {both}."
            )

    def measure(self, plane: Plane) -> IntensityScale:
        """Read a plane (or a sample of a huge one) and return its intensity scale.

        Raises
        ------
        InputError
            If the image holds NaN or infinite values, or values too large for their differences.
        """
        sample = sample_pixels(plane)
        name = f" {plane.name!r}" if plane.name else ""
        if not np.isfinite(sample).all():
            raise InputError(_NOT_FINITE.format(name))
        low, high = np.percentile(sample, [self.low, self.high], axis=1)
        # A constant channel becomes 0 everywhere instead of dividing by nothing. A few bright
        # pixels on an otherwise constant channel still deserve a range: fall back to the maximum.
        flat = high <= low
        high = np.where(flat, sample.max(axis=1), high)
        span = np.where(high - low > _SMALLEST_SPAN, high - low, 1.0)
        lost = _FEWEST_STEPS * np.spacing(np.maximum(abs(low), abs(high)).astype(np.float32)) > span
        if (lost & (high > low)).any() or (lost.any() and not _fits_float32(plane.array.dtype)):
            raise InputError(_TOO_LARGE.format(name))
        gain = np.where(lost, 0, 1 / span)  # constant all the same when it is resampled
        return IntensityScale(offset=low.astype(np.float32), gain=gain.astype(np.float32))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a model file."""
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class IntensityScale:
    """One offset and gain per channel, in the image's own intensity unit."""

    offset: npt.NDArray[np.float32]
    gain: npt.NDArray[np.float32]

    def apply(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Scale ``(C, y, x)`` pixels; the result is float32 and clipped to -1..4.

        The clip keeps single hot pixels from dominating; it is far outside the usual range.

        Raises
        ------
        InputError
            If the pixels hold NaN or infinite values.
        """
        offset = self.offset[:, None, None]
        values: npt.NDArray[np.float32] = np.subtract(pixels, offset, dtype=np.float32)
        values *= self.gain[:, None, None]
        # Lowest and highest show NaN and infinity as isfinite does, without an array of answers.
        if values.size and not np.isfinite([values.min(), values.max()]).all():
            raise InputError(_NOT_FINITE.format(""))
        np.clip(values, -1, 4, out=values)
        return values


def _fits_float32(dtype: Any) -> bool:
    return np.can_cast(np.dtype(dtype), np.float32)


def sample_pixels(plane: Plane) -> npt.NDArray[np.float32]:
    """Return ``(C, n)`` pixels of a plane: all, or blocks on a regular grid of a huge one."""
    height, width = plane.shape
    if height * width <= SAMPLE_PIXELS:
        return plane.read(0, height, 0, width).reshape(plane.channels, -1)
    rows, columns = _block_corners(height, width)
    blocks = [
        plane.read(y, min(y + _BLOCK, height), x, min(x + _BLOCK, width)).reshape(
            plane.channels, -1
        )
        for y in rows
        for x in columns
    ]
    return np.concatenate(blocks, axis=1)


def _block_corners(height: int, width: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Place blocks at equal distances, in the proportions of the plane."""
    tall, wide = min(height, _BLOCK), min(width, _BLOCK)
    affordable = max(1, SAMPLE_PIXELS // (tall * wide))
    most_rows, most_columns = height // tall, width // wide
    down = min(most_rows, affordable, max(1, math.isqrt(affordable * most_rows // most_columns)))
    across = min(most_columns, affordable // down)
    return _middles(height, tall, down), _middles(width, wide, across)


def _middles(length: int, block: int, count: int) -> npt.NDArray[np.intp]:
    """Put one block into the middle of each of ``count`` equal parts of an axis."""
    return np.rint((np.arange(count) + 0.5) * length / count - block / 2).astype(np.intp)
