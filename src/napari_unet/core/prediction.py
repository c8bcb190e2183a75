"""Class probabilities of an image, tile by tile.

The prediction of an image is the network applied to the image mirrored without end beyond its
borders (and brought to the model's scale), read on the image domain. Tiles only compute it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.device import Device, choose_device
from napari_unet.core.errors import DeviceMemoryError, InputError
from napari_unet.core.events import TileDone
from napari_unet.core.inference import InferenceNetwork
from napari_unet.core.labels import relative
from napari_unet.core.model import Model
from napari_unet.core.normalization import IntensityScale
from napari_unet.core.planes import Plane, as_plane
from napari_unet.core.resampling import PixelSource, ResampledPlane, check_factor
from napari_unet.core.settings import TileSettings
from napari_unet.core.tile_run import Focus, TileRun
from napari_unet.core.tiling import Box
from napari_unet.core.views import AveragedNetwork

logger = logging.getLogger(__name__)

Region = tuple[slice, slice]

#: Tiled and untiled prediction differ at most by this (different summation order).
SEAM_TOLERANCE = 1e-5
#: In half precision it is what the rounding of the network allows; no eye sees it.
HALF_SEAM_TOLERANCE = 1e-2


class Predictor:
    """A model ready to predict: weights prepared once, device chosen.

    Pass it instead of the model to predict many images without preparing again.
    """

    def __init__(self, model: Model, settings: TileSettings | None = None) -> None:
        settings = settings or TileSettings()
        self.model = model
        self.settings = settings
        self.device: Device = choose_device(settings.device)
        device, half = self.device.device, settings.precision == "half"
        self.network: InferenceNetwork
        if settings.views == 1:
            self.network = InferenceNetwork(model.net, device, half)
        else:
            self.network = AveragedNetwork(model.net, device, half, views=settings.views)


@dataclass(frozen=True)
class NetworkInput:
    """What the network sees of a plane: mirrored, at its scale, normalised."""

    source: PixelSource
    scale: IntensityScale

    def __call__(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.float32]:
        """Return a window ``(C, y, x)`` on the network's grid, with the channels of the plane."""
        return self.scale.apply(self.source.read_mirrored(top, bottom, left, right))


def network_input(
    model: Model, plane: Plane, factor: float = 1.0, scale: IntensityScale | None = None
) -> NetworkInput:
    """Return the view of a plane that a model is applied to.

    Parameters
    ----------
    model
        Decides channels and normalisation.
    plane
        The image.
    factor
        Network pixels per image pixel.
    scale
        Intensity scale when it has been measured before; otherwise it is measured here.

    Raises
    ------
    InputError
        If the image has other channels than the model takes, or holds NaN or infinite values.
    """
    model.check_channels(plane.channels)
    scale = scale or model.normalization.measure(plane)
    source: PixelSource = plane if factor == 1.0 else ResampledPlane(plane, factor)
    return NetworkInput(source, scale)


def scale_factor(model: Model, diameter: float | None) -> float:
    """Return network pixels per image pixel for objects of ``diameter`` image pixels.

    1 when no diameter is given or the model does not match object sizes.

    Raises
    ------
    InputError
        If the diameter is not a positive number or far from the model's.
    """
    if diameter is None or model.diameter is None:
        return 1.0
    if not (np.isfinite(diameter) and diameter > 0):
        raise InputError(f"The object diameter must be a positive number, not {diameter}.")
    return check_factor(model.diameter / diameter)


def check_region(region: Region | None, shape: tuple[int, int]) -> Box:
    """Return a region (or the whole plane) as a box.

    Raises
    ------
    InputError
        If nothing of the region lies inside the image.
    """
    if region is None:
        return Box(0, shape[0], 0, shape[1])
    top, bottom, _ = region[0].indices(shape[0])
    left, right, _ = region[1].indices(shape[1])
    if bottom <= top or right <= left:
        raise InputError("The region to predict lies outside the image; choose another one.")
    return Box(top, bottom, left, right)


def iter_tiles(
    model: Model | Predictor,
    image: Any,
    *,
    channel_axis: int | None = None,
    settings: TileSettings | None = None,
    diameter: float | None = None,
    focus: Focus | None = None,
    region: Region | None = None,
    cancelled: Callable[[], bool] | None = None,
    scale: IntensityScale | None = None,
) -> Iterator[TileDone]:
    """Predict a plane tile by tile.

    Parameters
    ----------
    model
        The model, or a :class:`Predictor` (whose settings then hold).
    image
        ``(Y, X)``, ``(Y, X, 3 | 4)`` or with ``channel_axis``; numpy, zarr, dask, memory map. Only
        what a tile needs is read.
    diameter
        Object diameter in image pixels; the image is brought to the model's scale. None: as it is.
    focus
        Returns the (y, x) image position to start from and go outwards, or None for reading
        order. It is asked before every tile. Tiles are smaller while somebody watches.
    region
        Predict only this part.
    cancelled
        Asked before every layer; tiles that are done stay valid.
    scale
        Intensity scale of the image when it was measured before.

    Yields
    ------
    TileDone
        Every pixel of the region exactly once, in image coordinates.

    Raises
    ------
    InputError
        If the image does not fit the model or cannot be read.
    DeviceMemoryError
        If not even the smallest tile fits into memory.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model, settings)
    plane = as_plane(image, channel_axis)
    box = check_region(region, plane.shape)
    factor = scale_factor(predictor.model, diameter)
    read = network_input(predictor.model, plane, factor, scale)
    run = TileRun(
        predictor.network,
        read,
        box,
        factor=factor,
        device=predictor.device.device,
        tile=predictor.settings.tile,
        focus=focus,
        cancelled=cancelled,
    )
    return iter(run)


def predict(
    model: Model | Predictor,
    image: Any,
    *,
    channel_axis: int | None = None,
    settings: TileSettings | None = None,
    diameter: float | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the class probabilities of a plane, ``(K, Y, X)`` float32.

    Class 0 is the background; a network with a single output yields two classes. Pixels that
    were not reached before ``cancelled`` are NaN. Parameters and errors as in :func:`iter_tiles`.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model, settings)
    plane = as_plane(image, channel_axis)
    result = np.empty((predictor.network.outputs, *plane.shape), np.float32)
    if cancelled is not None:
        result.fill(np.nan)
    for tile in iter_tiles(predictor, plane, diameter=diameter, cancelled=cancelled):
        result[:, *tile.slices] = tile.probabilities
    return result


@dataclass(frozen=True)
class SeamReport:
    """Tiled against untiled prediction of a region.

    Attributes
    ----------
    largest_difference
        Largest absolute difference of any class probability.
    position
        (y, x) of that difference in the image.
    tile
        Side of the tiles that were compared, in image pixels.
    seam_free
        Whether the difference is within :data:`SEAM_TOLERANCE`, in half precision
        :data:`HALF_SEAM_TOLERANCE`.
    """

    largest_difference: float
    position: tuple[int, int]
    tile: int
    seam_free: bool

    def sentence(self) -> str:
        """Say the result in words."""
        verdict = "no seams" if self.seam_free else "the tiles leave visible seams"
        return (
            f"Tiles of {self.tile} px against no tiles: largest difference of a probability "
            f"{self.largest_difference:.1e}; {verdict}."
        )


def check_seams(
    model: Model | Predictor,
    image: Any,
    region: Region | None = None,
    *,
    channel_axis: int | None = None,
    settings: TileSettings | None = None,
    diameter: float | None = None,
    tile: int | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> SeamReport:
    """Predict a region in one piece and in tiles, and compare.

    Parameters
    ----------
    tile
        Side of the tiles; by default a third of the region, so that seams exist.

    Raises
    ------
    DeviceMemoryError
        If the region does not fit into memory in one piece.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model, settings)
    plane = as_plane(image, channel_axis)
    box = check_region(region, plane.shape)
    factor = scale_factor(predictor.model, diameter)
    read = network_input(predictor.model, plane, factor)
    side = tile or max(8, -(-max(box.shape) // 3))
    results: list[npt.NDArray[np.float32]] = []
    # A region that begins between two lines of the tiles' grid needs room up to the next line.
    for size in (max(box.shape) + predictor.network.stride, side):
        whole = np.full((predictor.network.outputs, *box.shape), np.nan, np.float32)
        device = predictor.device.device
        run = TileRun(
            predictor.network,
            read,
            box,
            factor=factor,
            device=device,
            tile=size,
            cancelled=cancelled,
        )
        for done in run:
            if not results and done.probabilities[0].shape != box.shape:
                raise DeviceMemoryError(
                    "This part of the image does not fit into memory in one piece, so there is "
                    "nothing to compare tiles with; check a smaller part."
                )
            whole[:, *relative(done.slices, box.slices)] = done.probabilities
        results.append(whole)
    difference = np.nan_to_num(np.abs(results[0] - results[1]).max(axis=0))
    y, x = np.unravel_index(int(difference.argmax()), difference.shape)
    largest = float(difference[y, x])
    position = (int(y) + box.top, int(x) + box.left)
    tolerance = HALF_SEAM_TOLERANCE if predictor.network.half else SEAM_TOLERANCE
    return SeamReport(largest, position, side, largest <= tolerance)
