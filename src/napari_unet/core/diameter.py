"""Object size: measured on labels, or estimated by the network itself on an unlabelled image."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from napari_unet.core.device import choose_device, fast_bfloat16
from napari_unet.core.model import Model
from napari_unet.core.normalization import IntensityScale
from napari_unet.core.planes import Plane
from napari_unet.core.prediction import NetworkInput, network_input
from napari_unet.core.sampling import match_channels
from napari_unet.core.settings import TileSettings
from napari_unet.core.unet import UNet, class_probabilities

#: Diameters (image pixels) that are tried: each is sqrt(2) larger than the one before.
CANDIDATES = tuple(float(d) for d in np.round(7.0 * 2 ** (np.arange(10) / 2), 1))
#: Side of the window that is looked at per candidate, in network pixels.
_WINDOW = 256
#: Of a larger plane only the middle is considered, so that the cost does not grow.
_LARGEST_SIDE = 2048
#: Contrast is measured on a coarse copy of about this side.
_DETAIL_SIDE = 256
#: Objects this many times larger or smaller than the model's (as a logarithm) count 0.6 as much.
_TOLERANCE = 0.35
_SMALLEST_OBJECT = 5.0


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


@dataclass(frozen=True)
class SizeEvidence:
    """What the network finds when it is shown the image as if objects had one diameter.

    Attributes
    ----------
    candidate
        The diameter that was assumed, in image pixels.
    score
        Share of the window covered by objects that are confident and of the model's size.
    measured
        Diameter in image pixels that the objects found then have; None without objects.
    """

    candidate: float
    score: float
    measured: float | None


def estimate_diameter(
    model: Model,
    plane: Plane,
    *,
    settings: TileSettings | None = None,
    scale: IntensityScale | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> float | None:
    """Estimate the median object diameter of an image by trying several.

    The image is shown to the network at one scale per candidate; the candidate whose objects are
    most confident and have the size the model was trained at wins, and the size measured there
    is returned.

    Parameters
    ----------
    model
        A model for objects with a training diameter.
    plane
        The image.
    scale
        Its intensity scale when measured before.
    cancelled
        Asked before each candidate; the best so far is used.

    Returns
    -------
    float or None
        Diameter in image pixels; None when the model does not match sizes or finds nothing.
    """
    found = list(size_evidence(model, plane, settings=settings, scale=scale, cancelled=cancelled))
    weighed = [
        (support, each.score, each.measured)
        for each, support in zip(found, _supported(found), strict=True)
        if each.measured is not None
    ]
    return max(weighed, key=lambda each: each[:2])[2] if weighed else None


def _supported(evidence: Sequence[SizeEvidence]) -> list[float]:
    """Return the scores, each limited to what its two neighbours reach together.

    Objects that are there are found at neighbouring scales as well. What a single one sees, most
    often one blob in an image shrunk to a stamp, is a coincidence.
    """
    scores = [0.0, *(each.score for each in evidence), 0.0]
    return [
        min(score, before + after)
        for before, score, after in zip(scores, scores[1:], scores[2:], strict=False)
    ]


def size_evidence(
    model: Model,
    plane: Plane,
    *,
    settings: TileSettings | None = None,
    scale: IntensityScale | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[SizeEvidence]:
    """Yield the evidence for each candidate; parameters as for :func:`estimate_diameter`."""
    if model.diameter is None or model.task != "objects":
        return
    device = choose_device((settings or TileSettings()).device).device
    net = model.net
    if next(net.parameters()).device != device:
        net = copy.deepcopy(net).to(device)  # another thread may be using the model
    middle = _middle(plane)
    scale = scale or model.normalization.measure(plane)
    detail = _Detail.of(middle, scale)
    for candidate in CANDIDATES:
        if cancelled is not None and cancelled():
            return
        factor = model.diameter / candidate
        view = network_input(model, middle, factor, scale)
        foreground = _foreground(net, view, middle.shape, factor, detail, device)
        yield _weigh(foreground, candidate, factor, model.diameter)


def _middle(plane: Plane) -> Plane:
    """Return the plane, or the middle of a large one, in memory."""
    height, width = plane.shape
    top, left = max(0, (height - _LARGEST_SIDE) // 2), max(0, (width - _LARGEST_SIDE) // 2)
    pixels = plane.read(
        top, min(height, top + _LARGEST_SIDE), left, min(width, left + _LARGEST_SIDE)
    )
    return Plane(pixels, 0, tuple(range(len(pixels))))


@dataclass(frozen=True)
class _Detail:
    """Local contrast of an image as a summed-area table: windows go where there is something.

    Attributes
    ----------
    table
        ``(Y + 1, X + 1)`` sums of everything above and to the left, in steps of ``step`` pixels.
    step
        Image pixels per entry.
    """

    table: npt.NDArray[np.float64]
    step: int

    @classmethod
    def of(cls, plane: Plane, scale: IntensityScale) -> _Detail:
        """Measure a plane."""
        height, width = plane.shape
        gray = np.clip(scale.apply(plane.read(0, height, 0, width)), 0, 1).mean(axis=0)
        step = max(1, min(height, width) // _DETAIL_SIDE)
        rows, columns = height // step, width // step
        cells = gray[: rows * step, : columns * step].reshape(rows, step, columns, step)
        coarse = cells.mean(axis=(1, 3))
        contrast = ndimage.gaussian_gradient_magnitude(coarse, 2.0 / min(step, 2))
        return cls(np.pad(contrast.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1), step)

    def window_start(self, sides: list[float]) -> tuple[int, int]:
        """Return the corner of the window (sides and corner in image pixels) that holds most."""
        shape = [n - 1 for n in self.table.shape]
        height, width = (
            min(n, max(1, round(side / self.step))) for n, side in zip(shape, sides, strict=True)
        )
        rows = np.unique(np.linspace(0, shape[0] - height, 9).astype(int))
        columns = np.unique(np.linspace(0, shape[1] - width, 9).astype(int))
        y, x = np.meshgrid(rows, columns, indexing="ij")
        table = self.table
        held = table[y + height, x + width] - table[y, x + width] - table[y + height, x]
        best = int((held + table[y, x]).argmax())
        return int(y.ravel()[best]) * self.step, int(x.ravel()[best]) * self.step


def _foreground(
    net: UNet,
    view: NetworkInput,
    shape: tuple[int, int],
    factor: float,
    detail: _Detail,
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """Return object probabilities of the most detailed window at one scale."""
    sides = [min(_WINDOW, max(1, round(n * factor))) for n in shape]
    starts = detail.window_start([side / factor for side in sides])
    before = net.size_loss // 2  # a valid network answers for the middle of what it sees
    rows, columns = (
        (round(start * factor) - before, round(start * factor) - before + net.input_size(side))
        for start, side in zip(starts, sides, strict=True)
    )
    pixels = torch.from_numpy(np.ascontiguousarray(view(*rows, *columns)))[None].to(device)
    pixels = match_channels(pixels, net.in_channels)
    half = torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device))
    with torch.inference_mode(), half:  # a size needs no more precision
        probabilities = class_probabilities(net(pixels).float())[0, 1]
    result: npt.NDArray[np.float32] = probabilities.cpu().numpy()[: sides[0], : sides[1]]
    return result


def _weigh(
    foreground: npt.NDArray[np.float32], candidate: float, factor: float, expected: float
) -> SizeEvidence:
    """Judge the objects found at one scale."""
    labels, count = ndimage.label(foreground > 0.5)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    sums = np.bincount(labels.ravel(), foreground.ravel(), minlength=count + 1)[1:]
    diameters = 2 * np.sqrt(areas / np.pi)
    keep = diameters > _SMALLEST_OBJECT
    if not keep.any():
        return SizeEvidence(candidate, 0.0, None)
    areas, diameters = areas[keep], diameters[keep]
    confidence = np.clip(2 * sums[keep] / areas - 1, 0, 1) ** 2
    size_match = np.exp(-0.5 * (np.log(diameters / expected) / _TOLERANCE) ** 2)
    score = float((areas * confidence * size_match).sum() / foreground.size)
    order = np.argsort(diameters)
    mass = np.cumsum(confidence[order])
    middle = order[int(np.searchsorted(mass, mass[-1] / 2))]
    return SizeEvidence(candidate, score, float(diameters[middle] / factor))
