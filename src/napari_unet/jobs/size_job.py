"""Questions about a model on an image that are answered in the background."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.core.settings import TileSettings
from napari_unet.jobs.image_source import Region

if TYPE_CHECKING:
    from napari_unet.core.model import Model
    from napari_unet.core.prediction import SeamReport


@dataclass(frozen=True)
class SizeFound:
    """The object diameter of a plane in image pixels; None when nothing was found."""

    index: tuple[int, ...]
    diameter: float | None


def size_job(
    model: str | Model,
    image: Any,
    channel_axis: int | None,
    index: tuple[int, ...],
    settings: TileSettings,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[SizeFound, None, None]:
    """Estimate the object size of one plane, as segmenting it with ``"auto"`` would.

    Parameters
    ----------
    model
        A model, or the name or path of one.
    image, channel_axis
        The plane.
    index
        Handed back.
    settings
        For the device.
    """
    from napari_unet.core.diameter import estimate_diameter
    from napari_unet.core.model_file import load_model
    from napari_unet.core.planes import as_plane, in_memory

    loaded = load_model(model) if isinstance(model, str) else model
    if loaded.diameter is None:
        yield SizeFound(index, None)
        return
    plane = as_plane(image, channel_axis)
    loaded.check_channels(plane.channels)
    plane = in_memory(plane)
    diameter = estimate_diameter(loaded, plane, settings=settings, cancelled=cancelled)
    if not (cancelled is not None and cancelled()):
        yield SizeFound(index, diameter)


def seams_job(
    model: str | Model,
    image: Any,
    channel_axis: int | None,
    region: Region,
    diameter: float | None,
    settings: TileSettings,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[SeamReport, None, None]:
    """Predict a region in one piece and in tiles, and compare.

    Parameters
    ----------
    model
        A model, or the name or path of one.
    image, channel_axis, region
        The plane and the part of it.
    diameter
        Object size in image pixels, or None to take the image as it is.
    settings
        For the device.
    """
    from napari_unet.core.model_file import load_model
    from napari_unet.core.prediction import check_seams

    loaded = load_model(model) if isinstance(model, str) else model
    report = check_seams(
        loaded,
        image,
        region,
        channel_axis=channel_axis,
        settings=settings,
        diameter=diameter,
        cancelled=cancelled,
    )
    if not (cancelled is not None and cancelled()):
        yield report
