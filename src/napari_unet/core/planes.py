"""One image plane behind any array: numpy, memory map, zarr or dask, read window by window."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError, first_line

#: Planes up to this size are held in memory where they are read again and again.
HELD_BYTES = 2**27
#: What libraries raise when a file is gone, cut short or damaged.
_READING_ERRORS = (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, zlib.error)


@dataclass(frozen=True)
class Plane:
    """A 2-D image with one or more channels; nothing is read before :meth:`read`.

    Attributes
    ----------
    array
        The array that holds the pixels, 2-D, or 3-D with a channel axis.
    channel_axis
        Axis of the channels in ``array`` (not negative), or None for a 2-D array.
    picked
        Channels that are used, in order.
    name
        For messages; empty when there is only one image.
    """

    array: Any
    channel_axis: int | None = None
    picked: tuple[int, ...] = field(default=(0,))
    name: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        sizes = [int(n) for axis, n in enumerate(self.array.shape) if axis != self.channel_axis]
        return sizes[0], sizes[1]

    @property
    def channels(self) -> int:
        """Number of channels that are read."""
        return len(self.picked)

    def read(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.float32]:
        """Return the window ``[top:bottom, left:right]`` as ``(C, y, x)`` float32.

        Raises
        ------
        InputError
            If the array cannot be read.
        """
        window: list[Any] = [slice(top, bottom), slice(left, right)]
        if self.channel_axis is None:
            pixels = self._held(tuple(window))[None]
        else:
            window.insert(self.channel_axis, slice(None))
            pixels = np.moveaxis(self._held(tuple(window)), self.channel_axis, 0)
            pixels = pixels[list(self.picked)]
        # What single precision cannot hold becomes infinite, which normalisation refuses.
        with np.errstate(over="ignore"):
            return pixels.astype(np.float32)

    def _held(self, window: tuple[slice, ...]) -> npt.NDArray[Any]:
        return read_window(self.array, window, f"image {self.name!r}" if self.name else "image")

    def read_mirrored(
        self, top: int, bottom: int, left: int, right: int
    ) -> npt.NDArray[np.float32]:
        """Return a window of the image mirrored without end beyond its borders.

        The mirror stands on the border pixel (numpy's ``reflect``), so its period along an axis
        of ``n`` pixels is ``2 (n - 1)``; an axis of one pixel is repeated. Only the pixels that
        are needed are read.
        """
        height, width = self.shape
        inside = (max(top, 0), min(bottom, height), max(left, 0), min(right, width))
        margins = ((inside[0] - top, bottom - inside[1]), (inside[2] - left, right - inside[3]))
        held = (inside[1] - inside[0], inside[3] - inside[2])
        if all(max(margin) < size for margin, size in zip(margins, held, strict=True)):
            pixels = self.read(*inside)
            return pixels if not np.any(margins) else np.pad(pixels, ((0, 0), *margins), "reflect")
        # The margin shows more of the image than lies in the window, or shows it several times.
        rows = mirrored_indices(top, bottom, height)
        columns = mirrored_indices(left, right, width)
        first_row, first_column = int(rows.min()), int(columns.min())
        pixels = self.read(first_row, int(rows.max()) + 1, first_column, int(columns.max()) + 1)
        return pixels[:, (rows - first_row)[:, None], (columns - first_column)[None, :]]


def in_memory(plane: Plane, largest: int = HELD_BYTES) -> Plane:
    """Read a plane that lies elsewhere once, instead of again for each tile.

    Libraries read whole chunks, and many files are one chunk per plane.

    Parameters
    ----------
    plane
        The plane; one in memory or in a memory map stays as it is, and one that cannot be read as
        a whole: some of its tiles may be read all the same.
    largest
        Planes of more bytes stay where they are.
    """
    shape, array = plane.array.shape, plane.array
    size = math.prod(int(n) for n in shape) * np.dtype(array.dtype).itemsize
    if isinstance(array, np.ndarray) or size > largest:
        return plane
    try:
        return replace(plane, array=plane._held((slice(None),) * len(shape)))
    except InputError:
        return plane


def read_window(array: Any, window: tuple[Any, ...], what: str) -> npt.NDArray[Any]:
    """Read ``array[window]`` of an array that may lie on a disk or behind a network.

    Raises
    ------
    InputError
        If it cannot be read; ``what`` says what was to be read.
    """
    try:
        return np.asarray(array[window] if window else array)
    except _READING_ERRORS as error:
        raise InputError(f"The {what} could not be read ({first_line(error)}).") from error


def mirrored_indices(start: int, stop: int, size: int) -> npt.NDArray[np.intp]:
    """Return the indices inside ``0..size-1`` that mirrored coordinates ``start..stop-1`` show."""
    coordinates = np.arange(start, stop)
    if size == 1:
        return np.zeros_like(coordinates)
    period = 2 * (size - 1)
    folded = np.mod(coordinates, period)
    return np.asarray(np.minimum(folded, period - folded))


def as_plane(image: Any, channel_axis: int | None = None) -> Plane:
    """Wrap a 2-D, RGB(A) or multi-channel array.

    Parameters
    ----------
    image
        ``(Y, X)``, ``(Y, X, 3)`` or ``(Y, X, 4)``, or any position of ``channel_axis``. An alpha
        channel of an RGB image is not used.
    channel_axis
        Axis of the channels; without it a last axis of 3 or 4 is taken as RGB(A).

    Raises
    ------
    InputError
        If the array is not one plane, empty, or not made of real numbers.
    """
    if isinstance(image, Plane):
        return image
    if not hasattr(image, "shape") or not hasattr(image, "dtype"):
        image = np.asarray(image)
    kind = np.dtype(image.dtype).kind
    if kind not in "buif":
        raise InputError(f"The image must hold real numbers, not {image.dtype}.")
    if 0 in image.shape:
        raise InputError(f"The image is empty (its shape is {tuple(image.shape)}).")
    if image.ndim == 2 and channel_axis is None:
        return Plane(image)
    if channel_axis is not None and not -image.ndim <= channel_axis < image.ndim:
        raise InputError(
            f"An array with {image.ndim} axes has no channel axis {channel_axis}; "
            "count the axes from 0."
        )
    if image.ndim == 2:
        raise InputError("An array with 2 axes has no channel axis; leave the channel axis out.")
    if image.ndim != 3:
        raise InputError(
            f"One plane has 2 axes (or 3 with channels), this array has {image.ndim}; "
            "give one plane at a time."
        )
    rgb = channel_axis is None and image.shape[-1] in (3, 4)
    if channel_axis is None and not rgb:
        raise InputError(
            f"An array of shape {tuple(image.shape)} is a stack or has channels; give one plane "
            "at a time or say which axis holds the channels."
        )
    axis = 2 if channel_axis is None else int(channel_axis) % 3
    count = int(image.shape[axis])
    picked = tuple(range(3 if rgb else count))
    return Plane(image, axis, picked)


@dataclass(frozen=True)
class LazyView:
    """A part of an array that would be read as a whole when indexed (zarr, hdf5)."""

    array: Any
    window: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes that are left."""
        return tuple(
            int(n)
            for n, part in zip(self.array.shape, self.window, strict=True)
            if isinstance(part, slice)
        )

    @property
    def ndim(self) -> int:
        """Number of axes that are left."""
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """Type of the pixels."""
        return self.array.dtype

    def __getitem__(self, key: tuple[Any, ...]) -> Any:
        """Read what the slices ``key``, one per axis that is left, ask for."""
        remaining = iter(key)
        return self.array[
            tuple(next(remaining) if isinstance(part, slice) else part for part in self.window)
        ]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Read everything."""
        return np.array(self[(slice(None),) * self.ndim], dtype=dtype)


def lazy_part(array: Any, window: tuple[Any, ...]) -> Any:
    """Return a part of an array of any kind without reading it.

    Parameters
    ----------
    array
        numpy, zarr, dask, memory map.
    window
        For each axis a position, or ``slice(None)``.
    """
    # Zarr and HDF5 would read the whole part when indexed; a view reads what is asked for.
    if isinstance(array, np.ndarray) or hasattr(array, "dask"):
        return array[window]
    return LazyView(array, window)
