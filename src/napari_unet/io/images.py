"""Read images and label images: TIFF, PNG, JPEG, NumPy and Zarr, with pixel size and unit."""

from __future__ import annotations

import functools
import logging
import struct
import weakref
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError
from napari_unet.io.grid import FILE_AXES, Grid, named_axes

logger = logging.getLogger(__name__)

#: Larger TIFF files are not read as a whole: they are memory-mapped or read chunk by chunk.
LAZY_BYTES = 1_000_000_000
TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".lsm")
#: TIFF's numbers for channels that are no colours (white or black is zero), and for alpha.
_GRAYS, _ALPHA = (0, 1), {1, 2}
#: Pillow's modes that are no plain gray or RGB(A) values, and what they become.
_PLAIN_MODES = {"P": "RGB", "PA": "RGBA", "LA": "L", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}
#: What decoders raise for files that are truncated or not what their name says.
_DECODER_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    SyntaxError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class ImageFile:
    """An image or label image from a file.

    Attributes
    ----------
    data
        Array; large ones are read only where they are indexed.
    grid
        Axes, pixel size, position and units, one entry per axis of ``data``.
    channel_axis
        Axis of the channels, or None. A last axis of 3 or 4 of an RGB(A) image is one too.
    rgb
        Whether the channels are colours.
    name
        File name without its suffix.
    """

    data: Any
    grid: Grid
    channel_axis: int | None
    rgb: bool
    name: str

    @property
    def axes(self) -> str:
        """Axis letters of ``data``."""
        return self.grid.axes

    @property
    def colours_apart(self) -> bool:
        """Whether each colour is a plane of its own, which planes of a stack may be as well."""
        return self.rgb and self.channel_axis != len(self.data.shape) - 1

    @property
    def plane_grid(self) -> Grid:
        """Grid of the labels of this image: without the channel axis."""
        return self.grid.without(self.channel_axis)


def read_image(path: str | Path) -> ImageFile:
    """Read an image.

    Parameters
    ----------
    path
        TIFF (plain, ImageJ, OME), PNG, JPEG and whatever else Pillow reads, ``.npy``, or a Zarr
        folder (an array or OME-Zarr, of which the full resolution is taken).

    Returns
    -------
    ImageFile
        Axes of length 1 other than Y and X are dropped.

    Raises
    ------
    InputError
        If the file is missing, not an image or damaged.
    """
    return _read(Path(path), as_labels=False)


def _read(path: Path, *, as_labels: bool) -> ImageFile:
    """Read a file; of an image with a palette, labels are the palette's positions."""
    if not path.exists():
        raise InputError(f"There is no file {str(path)!r}; check the path.")
    try:
        image = _reader(path, as_labels)(path)
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(
            f"You are not allowed to read {str(path)!r}; close programs that use it, or ask its "
            "owner."
        ) from error
    except _DECODER_ERRORS as error:
        raise InputError(
            f"{path.name!r} is not an image that can be read, or it is damaged; open it in "
            "another program and save it as TIFF."
        ) from error
    if np.dtype(image.data.dtype).kind not in "buif":
        raise InputError(f"{path.name!r} must hold real numbers, not {image.data.dtype}.")
    if len(image.data.shape) < 2 or 0 in image.data.shape:
        raise InputError(f"{path.name!r} holds no image (its shape is {image.data.shape}).")
    return _without_single_axes(image)


def _without_single_axes(image: ImageFile) -> ImageFile:
    """Drop axes of length 1 other than Y and X; many Zarr images have all five axes."""
    shape, grid, channel = image.data.shape, image.grid, image.channel_axis
    single = [i for i, axis in enumerate(grid.axes) if shape[i] == 1 and axis not in "YX"]
    if not single:
        return image
    for axis in reversed(single):
        grid = grid.without(axis)
    if channel is not None:
        channel = None if channel in single else channel - sum(axis < channel for axis in single)
    where = tuple(0 if axis in single else slice(None) for axis in range(len(shape)))
    return replace(image, data=lazily(image.data)[where], grid=grid, channel_axis=channel)


def lazily(data: Any) -> Any:
    """Wrap arrays that would be read as a whole when they are indexed."""
    if isinstance(data, np.ndarray) or hasattr(data, "dask"):
        return data
    import dask.array

    chunks = getattr(data, "chunks", "auto")
    return dask.array.from_array(data, chunks=chunks)  # type: ignore[no-untyped-call]


def read_labels(path: str | Path) -> ImageFile:
    """Read a label image: whole numbers, one per pixel, in any of the image formats.

    Float images are taken when all values are whole numbers (ImageJ saves labels beyond 65,535
    like that). Of a picture with a palette the labels are the positions in the palette, not the
    colours they are shown in.

    Raises
    ------
    InputError
        If the file is missing, not an image, damaged, coloured, or holds other numbers. Planes
        that only the file calls colours are a stack.
    """
    image = _read(Path(path), as_labels=True)
    name = Path(path).name
    if image.colours_apart:
        image = as_stack(image)
    if image.rgb:
        raise InputError(
            f"{name!r} is a colour image, not a label image; give one whose pixel values are the "
            "numbers of the objects."
        )
    data = image.data
    kind = np.dtype(data.dtype).kind
    if kind == "f":
        values = np.asarray(data)
        whole = np.isfinite(values).all() and (values == np.rint(values)).all()
        if not whole or np.abs(values).max(initial=0) > 2**31 - 1:
            raise InputError(
                f"{name!r} is not a label image: its pixels must be whole numbers, one per object."
            )
        data = values.astype(np.int32)
    elif kind == "b":
        data = np.asarray(data).astype(np.uint8)
    return replace(image, data=data)


def as_stack(image: ImageFile) -> ImageFile:
    """Take the colours of an image for the planes of a stack.

    tifffile calls the planes of an array colours when there are 3 or 4 and nobody says otherwise.
    """
    axes = named_axes(image.axes, known=FILE_AXES)
    return replace(image, grid=replace(image.grid, axes=axes), channel_axis=None, rgb=False)


def file_name_stem(path: str | Path) -> str:
    """Return a file name without its suffix, and without both of ``.ome.tif`` or ``.ome.zarr``."""
    name = Path(path).name
    stem = Path(name).stem
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def _reader(path: Path, as_labels: bool) -> Callable[[Path], ImageFile]:
    if path.is_dir():
        return _read_zarr
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _read_npy
    with path.open("rb") as file:
        start = file.read(4)
    tiff = start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    if tiff or suffix in TIFF_SUFFIXES:
        return _read_tiff
    return functools.partial(_read_picture, positions=as_labels)


def _read_npy(path: Path) -> ImageFile:
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    if data.ndim < 2:
        raise InputError(f"{path.name!r} holds no image (its shape is {data.shape}).")
    return _without_axis_names(data, path.stem)


def _without_axis_names(data: Any, name: str) -> ImageFile:
    """Take a last axis of 3 or 4 for colours, as prediction and training do."""
    rgb = 3 <= data.ndim <= 5 and data.shape[-1] in (3, 4)
    axes = "TZYX"[1 - data.ndim :] + "S" if rgb else None
    channel = data.ndim - 1 if rgb else None
    return ImageFile(data, Grid.of(data.ndim, axes=axes), channel, rgb, name)


def _read_picture(path: Path, positions: bool = False) -> ImageFile:
    """Read a picture; ``positions`` takes those in a palette instead of its colours."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise InputError(
                    f"{path.name!r} is an animation, not an image; save it as a TIFF stack."
                )
            keep = picture.mode not in _PLAIN_MODES or (positions and picture.mode == "P")
            if picture.mode in ("RGB", "RGBA") and _has_16_bits(picture):
                data = _read_deep_png(path)
            else:
                data = np.asarray(picture if keep else picture.convert(_plain_mode(picture)))
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path.name!r} is too large for its format; save it as TIFF or OME-Zarr."
        ) from error
    rgb = data.ndim == 3
    grid = Grid.of(data.ndim, axes="YXS" if rgb else "YX")
    return ImageFile(data, grid, 2 if rgb else None, rgb, path.stem)


def _has_16_bits(picture: Any) -> bool:
    """Tell whether Pillow would cut the values of a picture in colour down to 8 bits."""
    return any(str(tile[-1]).endswith(";16B") for tile in picture.tile)


def _read_deep_png(path: Path) -> npt.NDArray[Any]:
    """Read colours of 16 bits; gray with alpha is gray."""
    import imagecodecs

    data: npt.NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
    return data[..., 0] if data.shape[-1] == 2 else data


def _plain_mode(picture: Any) -> str:
    """Return what a picture is converted to: gray when its palette holds nothing but grays."""
    if picture.mode == "P":
        colours = np.asarray(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        if (colours == colours[:, :1]).all():
            return "L"
    return _PLAIN_MODES[picture.mode]


def _read_zarr(path: Path) -> ImageFile:
    from napari_unet.io.ome_zarr import open_image

    data, grid = open_image(path)
    if grid == Grid.of(data.ndim):
        return _without_axis_names(data, file_name_stem(path))
    axis = grid.axes.find("C")
    return ImageFile(data, grid, axis if axis >= 0 else None, False, file_name_stem(path))


def _read_tiff(path: Path) -> ImageFile:
    import tifffile

    from napari_unet.io.tiff_calibration import calibration

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        _say_what_is_left_out(path, tiff.series)
        axes = str(series.axes).upper()
        data = _tiff_pixels(path, series)
        page = series.keyframe
        known = calibration(tiff)
    keep = [i for i, size in enumerate(data.shape) if size > 1 or i >= len(data.shape) - 2]
    if axes.endswith("S"):
        keep = [i for i, n in enumerate(data.shape) if n > 1 or i >= len(data.shape) - 3]
    if len(keep) < len(data.shape):
        data = lazily(data)[tuple(slice(None) if i in keep else 0 for i in range(data.ndim))]
        axes = "".join(axes[i] for i in keep)
    samples = axes.find("S")
    if samples >= 0 and data.shape[samples] == 2 and _ALPHA & set(page.extrasamples):
        data, axes = lazily(data)[(*(slice(None),) * samples, 0)], axes.replace("S", "")
    letters = named_axes(axes, known="TCZYXS")
    grid = Grid.of(
        len(letters),
        axes=letters,
        scale=[known.scale.get(letter, 1.0) for letter in letters],
        translate=[known.translate.get(letter, 0.0) for letter in letters],
        units=[known.units.get(letter, "") for letter in letters],
    )
    channel = grid.axes.find("S") if "S" in grid.axes else grid.axes.find("C")
    rgb = "S" in grid.axes and data.shape[channel] in (3, 4) and page.photometric not in _GRAYS
    return ImageFile(data, grid, channel if channel >= 0 else None, rgb, file_name_stem(path))


def _say_what_is_left_out(path: Path, series: Sequence[Any]) -> None:
    """Tell that a file holds further images; much smaller ones are thumbnails."""
    others = [each for each in series[1:] if 4 * each.size >= series[0].size]
    if others:
        logger.warning(
            "%r holds %d images (positions of a microscope?); only the first is read: save the "
            "others as files of their own.",
            path.name,
            1 + len(others),
        )


def _tiff_pixels(path: Path, series: Any) -> Any:
    """Return the pixels of a TIFF series, in memory when they are not too many."""
    import tifffile

    if series.nbytes <= LAZY_BYTES:
        return series.asarray()
    if series.dataoffset is not None:
        return tifffile.memmap(path, mode="r", series=0)
    import zarr

    store = tifffile.imread(path, aszarr=True, series=0, level=0)
    opened = zarr.open(store, mode="r")
    array = opened if isinstance(opened, zarr.Array) else opened["0"]
    # The store keeps the file open for as long as the array is used, and no longer.
    weakref.finalize(array, store.close)
    return array
