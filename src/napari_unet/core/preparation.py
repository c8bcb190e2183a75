"""From annotated planes to what training draws from and what it is judged on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from napari_unet.core.annotation import TrainingTarget, check_trainable, training_target
from napari_unet.core.diameter import object_diameters
from napari_unet.core.errors import AnnotationError
from napari_unet.core.labels import Window, bounding_window, shifted
from napari_unet.core.model import Model
from napari_unet.core.normalization import IntensityScale, Normalization
from napari_unet.core.pairs import AnnotatedPlane, relative_spacing
from napari_unet.core.planes import Plane
from napari_unet.core.resampling import resample_plane
from napari_unet.core.sampling import TrainingImage, training_image
from napari_unet.core.settings import TrainSettings
from napari_unet.core.size_match import COMFORTABLE_DIAMETERS, SizeMatch
from napari_unet.core.validation_split import held_back, objects_to_hold_back

#: A plane with more pixels than this, at the network's scale, is cut to its annotated window.
_LARGEST_PLANE = 4_000_000
#: Cells of such a plane that are further apart than this (px, about) are judged in windows of their
#: own: what lies between them would be predicted for nothing.
_APART = 128


@dataclass(frozen=True)
class JudgedRegion:
    """Where predictions are compared with what was painted.

    Attributes
    ----------
    plane
        The image.
    window
        Part of the image that is predicted.
    scale
        Intensity scale of the whole image.
    factor
        Network pixels per image pixel.
    labels, target, weight
        Annotation inside the window; the weight is 0 where nothing is compared.
    """

    plane: Plane
    window: Window
    scale: IntensityScale = field(repr=False)
    factor: float
    labels: npt.NDArray[np.int32] = field(repr=False)
    target: npt.NDArray[np.integer[Any]] = field(repr=False)
    weight: npt.NDArray[np.float32] = field(repr=False)

    @property
    def cost(self) -> float:
        """Pixels the network has to compute."""
        return self.target.size * self.factor**2


@dataclass(frozen=True)
class PreparedData:
    """Everything training needs, made once.

    Attributes
    ----------
    images
        Where crops are drawn; validation cells have weight 0 there.
    validation
        Regions with the objects held back; empty when there were too few.
    painted
        Regions with all that was painted.
    diameter
        Median object diameter at the network's scale; None in task ``classes``.
    channels
        Channels of the images.
    n_classes
        Classes of the targets.
    """

    images: tuple[TrainingImage, ...]
    validation: tuple[JudgedRegion, ...]
    painted: tuple[JudgedRegion, ...]
    objects: int
    validation_objects: int
    trained_pixels: int
    diameter: float | None
    channels: int
    n_classes: int
    warnings: tuple[str, ...]

    @property
    def object_diameter(self) -> float | None:
        """Diameter of the objects of the typical image in its own pixels; None as above."""
        if self.diameter is None:
            return None
        return self.diameter / float(np.median([region.factor for region in self.painted]))


def scale_factors(
    planes: Sequence[AnnotatedPlane], settings: TrainSettings, base: Model | None
) -> tuple[list[float], float | None]:
    """Choose network pixels per image pixel for each plane.

    Parameters
    ----------
    base
        Its training diameter is matched. A network that starts from scratch sees objects at
        their own size, within the range that a small U-Net covers well.

    Returns
    -------
    factors, diameter
        One factor per plane, and the object diameter at the network's scale.
    """
    if settings.annotation.task == "classes" or (base is not None and base.diameter is None):
        return [1.0] * len(planes), None
    measured = [object_diameters(plane.labels) for plane in planes]
    everything = np.concatenate(measured)
    if everything.size == 0:
        raise AnnotationError("No object is painted, only background; paint at least one object.")
    common = float(np.median(everything))
    own = [
        settings.diameter or (float(np.median(found)) if len(found) else common)
        for found in measured
    ]
    known = base.diameter if base else None
    sizes = COMFORTABLE_DIAMETERS if known is None else (known, known)
    network_diameter = SizeMatch(*sizes).network_diameter(settings.diameter or common)
    match = SizeMatch(network_diameter, network_diameter)
    return [match.scale(diameter) for diameter in own], network_diameter


def prepare(
    planes: Sequence[AnnotatedPlane],
    factors: Sequence[float],
    diameter: float | None,
    settings: TrainSettings,
    normalization: Normalization,
    device: torch.device,
) -> PreparedData:
    """Build targets, split off validation cells, bring images to the network's scale."""
    targets = [
        training_target(
            source.labels,
            settings=settings.annotation,
            weights=settings.weights,
            boxes=source.boxes,
            spacing=relative_spacing(source.spacing),
            scale=factor,
        )
        for source, factor in zip(planes, factors, strict=True)
    ]
    check_trainable(targets)
    shares = objects_to_hold_back([target.counts for target in targets], settings)
    parts = [
        _prepare_plane(source, factor, target, share, settings, normalization, device, number)
        for number, (source, factor, target, share) in enumerate(
            zip(planes, factors, targets, shares, strict=True)
        )
        if target.counts.trained
    ]
    trained = [target for target in targets if target.counts.trained]
    return PreparedData(
        images=tuple(part.image for part in parts if part.image is not None),
        validation=tuple(region for part in parts for region in part.validation),
        painted=tuple(region for part in parts for region in part.painted),
        objects=sum(target.counts.objects for target in trained),
        validation_objects=sum(part.held_objects for part in parts),
        trained_pixels=sum(target.counts.trained for target in trained),
        diameter=diameter,
        channels=planes[0].plane.channels,
        n_classes=max(2, *(target.n_classes for target in trained)),
        warnings=_warnings(planes, targets),
    )


def _warnings(
    planes: Sequence[AnnotatedPlane], targets: Sequence[TrainingTarget]
) -> tuple[str, ...]:
    """Return what is said of any plane, but not that a plane of background has no object."""
    together = zip(planes, targets, strict=True)
    told = [target.warnings for source, target in together if (source.labels > 0).any()]
    return tuple(dict.fromkeys(text for warnings in told for text in warnings))


@dataclass(frozen=True)
class _PreparedPlane:
    """What one annotated plane contributes to :class:`PreparedData`.

    A plane of which everything is held back has no image to draw crops from.
    """

    image: TrainingImage | None
    painted: tuple[JudgedRegion, ...]
    validation: tuple[JudgedRegion, ...]
    held_objects: int


def _prepare_plane(
    source: AnnotatedPlane,
    factor: float,
    target: TrainingTarget,
    share: int,
    settings: TrainSettings,
    normalization: Normalization,
    device: torch.device,
    number: int,
) -> _PreparedPlane:
    """Split off ``share`` validation cells and bring one image to the network's scale."""
    seed = settings.seed + number
    held = held_back(source.labels, target.weight, share, settings, seed)
    intensities = normalization.measure(source.plane)
    trained_weight = np.where(held.mask, np.float32(0), target.weight)
    image = None
    if trained_weight.any():
        window = _window(target.weight > 0, factor, 1.5 * settings.crop)
        scaled = resample_plane(_cut(source.plane, window), factor)
        image = training_image(
            intensities.apply(scaled.read(0, scaled.shape[0], 0, scaled.shape[1])),
            target.target[window],
            trained_weight[window],
            source.labels[window],
            factor=factor,
            seed=seed,
            device=device,
        )
    validation: tuple[JudgedRegion, ...] = ()
    if held.objects:
        held_weight = np.where(held.mask, target.weight, np.float32(0))
        validation = _judged(source, intensities, factor, target.target, held_weight)
    painted = _judged(source, intensities, factor, target.target, target.weight)
    return _PreparedPlane(image, painted, validation, held.objects)


def _cut(plane: Plane, window: Window) -> Plane:
    """Read a window of a plane into memory."""
    rows, columns = window
    pixels = plane.read(rows.start, rows.stop, columns.start, columns.stop)
    return Plane(pixels, 0, tuple(range(len(pixels))))


def _window(trained: npt.NDArray[np.bool_], factor: float, context: float) -> Window:
    """Return the whole plane, or of a large one the trained window with context around it."""
    height, width = trained.shape
    if height * width * factor**2 <= _LARGEST_PLANE:
        return slice(0, height), slice(0, width)
    rows, columns = bounding_window(trained)
    margin = int(np.ceil(context / factor))
    return (
        slice(max(0, rows.start - margin), min(height, rows.stop + margin)),
        slice(max(0, columns.start - margin), min(width, columns.stop + margin)),
    )


def _judged(
    source: AnnotatedPlane,
    scale: IntensityScale,
    factor: float,
    target: npt.NDArray[np.integer[Any]],
    weight: npt.NDArray[np.float32],
) -> tuple[JudgedRegion, ...]:
    return tuple(
        JudgedRegion(
            plane=source.plane,
            window=window,
            scale=scale,
            factor=factor,
            labels=_renumbered(source.labels[window]),
            target=target[window],
            weight=compared,
        )
        for window, compared in _compared_parts(weight, factor)
    )


def _compared_parts(
    weight: npt.NDArray[np.float32], factor: float
) -> Iterator[tuple[Window, npt.NDArray[np.float32]]]:
    """Yield the window of the compared pixels, or of a large plane one per group of cells."""
    window = bounding_window(weight > 0)
    inside = weight[window]
    if inside.size * factor**2 <= _LARGEST_PLANE:
        yield window, inside
        return
    side = max(1, round(_APART / factor))
    starts = [np.arange(0, length, side) for length in inside.shape]
    blocks = np.logical_or.reduceat(inside > 0, starts[0], axis=0)
    blocks = np.logical_or.reduceat(blocks, starts[1], axis=1)
    groups = ndimage.label(blocks, structure=np.ones((3, 3)))[0]
    for number, where in enumerate(ndimage.find_objects(groups), start=1):
        top, left = (window[k].start + where[k].start * side for k in (0, 1))
        rows, columns = (slice(part.start * side, part.stop * side) for part in where)
        part = inside[rows, columns]
        own = (groups[where] == number).repeat(side, axis=0).repeat(side, axis=1)
        part = np.where(own[: part.shape[0], : part.shape[1]], part, np.float32(0))
        tight = bounding_window(part > 0)
        yield shifted(tight, top, left), part[tight]


def _renumbered(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    """Give the objects the numbers 1 to n: ids can be huge, and tables follow the largest."""
    objects = labels > 0
    ids = np.unique(labels[objects])
    return np.where(objects, np.searchsorted(ids, labels) + 1, 0).astype(np.int32)
