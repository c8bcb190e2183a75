"""Planes: windows of any array, mirrored beyond the border, reading no more than needed."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.errors import InputError
from napari_unet.core.planes import Plane, as_plane, mirrored_indices


class CountingArray:
    """An array that remembers which of its pixels were asked for."""

    def __init__(self, pixels: npt.NDArray[Any]) -> None:
        self._pixels = pixels
        self.shape, self.dtype, self.ndim = pixels.shape, pixels.dtype, pixels.ndim
        self.read = np.zeros(pixels.shape, int)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        self.read[key] += 1
        return self._pixels[key]


@given(st.integers(1, 12), st.integers(-60, 60), st.integers(0, 60))
def test_mirrored_indices_are_those_of_reflect_padding(size: int, start: int, length: int) -> None:
    before, after = max(0, -start), max(0, start + length - size)
    # numpy reflects as often as the padding needs; one pixel has nothing to reflect but itself.
    mode: Any = "reflect" if size > 1 else "edge"
    padded = np.pad(np.arange(size), (before, after), mode=mode)
    expected = padded[start + before : start + before + length]
    np.testing.assert_array_equal(mirrored_indices(start, start + length, size), expected)


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_a_mirrored_window_is_a_window_of_the_padded_image(
    shape: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    image = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    padded = image
    for axis in (0, 1):
        width = [(0, 0), (0, 0)]
        width[axis] = (60, 60)
        mode: Any = "reflect" if shape[axis] > 1 else "edge"
        padded = np.pad(padded, width, mode=mode)
    (top, left), (height, width_) = corner, size
    expected = padded[top + 60 : top + 60 + height, left + 60 : left + 60 + width_]
    window = as_plane(image).read_mirrored(top, top + height, left, left + width_)
    assert window.dtype == np.float32
    np.testing.assert_array_equal(window[0], expected)


@given(
    st.tuples(st.integers(-20, 30), st.integers(-20, 30)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_only_the_pixels_that_are_needed_are_read(
    corner: tuple[int, int], size: tuple[int, int]
) -> None:
    array = CountingArray(np.random.default_rng(0).random((17, 13)))
    (top, left), (height, width) = corner, size
    as_plane(array).read_mirrored(top, top + height, left, left + width)
    rows = np.unique(mirrored_indices(top, top + height, 17))
    columns = np.unique(mirrored_indices(left, left + width, 13))
    needed = np.zeros(array.shape, int)
    needed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
    np.testing.assert_array_equal(array.read, needed)
    # Mirrored coordinates are contiguous, so the window holds nothing that is not shown.
    assert needed.sum() == rows.size * columns.size


def test_wrapping_reads_nothing() -> None:
    array = CountingArray(np.zeros((5, 6, 3)))
    plane = as_plane(array)
    assert (plane.shape, plane.channels) == ((5, 6), 3)
    assert array.read.sum() == 0


def in_numpy(image: npt.NDArray[Any], _folder: Path) -> Any:
    return image


def in_a_memory_map(image: npt.NDArray[Any], folder: Path) -> Any:
    mapped = np.memmap(folder / "image.raw", dtype=image.dtype, mode="w+", shape=image.shape)
    mapped[:] = image
    return mapped


def in_zarr(image: npt.NDArray[Any], folder: Path) -> Any:
    return zarr.create_array(str(folder / "image.zarr"), data=image, chunks=(4,) * image.ndim)


def in_dask(image: npt.NDArray[Any], _folder: Path) -> Any:
    return da.from_array(image, chunks=3)


@pytest.mark.parametrize("held", [in_numpy, in_a_memory_map, in_zarr, in_dask])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("channel_axis", [None, 0, 1, 2, -1, -3])
def test_every_kind_of_array_gives_the_same_window(
    held: Any, dtype: str, channel_axis: int | None, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 2, (2, 11, 9)).astype(dtype)
    if dtype not in ("bool", "uint8"):
        image[:, 4, 4] = 5000
    if channel_axis is None:
        image = image[:1]
    expected = image.astype(np.float32)
    stored = image[0] if channel_axis is None else np.moveaxis(image, 0, channel_axis)
    plane = as_plane(held(np.ascontiguousarray(stored), tmp_path), channel_axis)
    assert (plane.shape, plane.channels) == ((11, 9), len(expected))
    window = plane.read(2, 8, 3, 9)
    assert window.dtype == np.float32
    np.testing.assert_array_equal(window, expected[:, 2:8, 3:9])
    mirrored = plane.read_mirrored(-2, 13, -1, 4)
    padded = np.pad(expected, ((0, 0), (2, 2), (1, 1)), mode="reflect")
    np.testing.assert_array_equal(mirrored, padded[:, :, :5])


@pytest.mark.parametrize("last", [3, 4])
def test_rgb_is_recognised_and_its_alpha_channel_left_out(last: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (5, 6, last), dtype=np.uint8)
    plane = as_plane(image)
    assert plane.channels == 3
    np.testing.assert_array_equal(plane.read(0, 5, 0, 6), np.moveaxis(image[..., :3], -1, 0))


def test_four_named_channels_are_all_used() -> None:
    image = np.random.default_rng(0).random((5, 6, 4), dtype=np.float32)
    assert as_plane(image, channel_axis=-1).channels == 4


def test_lists_and_planes_are_taken() -> None:
    plane = as_plane([[1, 2], [3, 4]])
    assert isinstance(plane, Plane)
    assert as_plane(plane) is plane
    np.testing.assert_array_equal(plane.read(0, 2, 0, 1), [[[1], [3]]])


@pytest.mark.parametrize(
    ("image", "channel_axis", "words"),
    [
        (np.zeros((3, 4), complex), None, "real numbers"),
        (np.array([["a"]]), None, "real numbers"),
        (np.zeros((0, 4)), None, "empty"),
        (np.zeros(4), None, "One plane has 2 axes"),
        (np.zeros((2, 3, 4, 5)), None, "one plane at a time"),
        (np.zeros((7, 8, 9)), None, "which axis holds the channels"),
        (np.zeros((7, 8)), 0, "no channel axis"),
        (np.zeros((7, 8, 2)), 3, "channel axis 3"),
        (np.zeros((7, 8, 2)), -4, "channel axis -4"),
    ],
)
def test_what_is_not_one_plane_is_refused_in_one_sentence(
    image: Any, channel_axis: int | None, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        as_plane(image, channel_axis)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        RuntimeError("error during blosc decompression: -1\nmore"),
        EOFError("Compressed file ended"),
        zlib.error("Error -5 while decompressing data"),
    ],
)
@pytest.mark.parametrize("name", ["", "plate 3"])
def test_an_array_that_cannot_be_read_is_one_sentence(error: Exception, name: str) -> None:
    class Broken(CountingArray):
        def __getitem__(self, key: Any) -> npt.NDArray[Any]:
            raise error

    plane = Plane(Broken(np.zeros((9, 9))), name=name)
    with pytest.raises(InputError, match=r"^The image.* could not be read \(.*\)\.$") as raised:
        plane.read(0, 4, 0, 4)
    assert repr(name) in str(raised.value) or not name
    assert "more" not in str(raised.value)
