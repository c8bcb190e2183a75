"""What is held back from training to judge it: neighbouring cells, or a strip of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet.core.annotation_checks import StateCounts
from napari_unet.core.labels import bounding_window
from napari_unet.core.settings import TrainSettings

#: With fewer objects than this none is held back: each one matters more for learning.
FEWEST_TO_HOLD_BACK = 5


@dataclass(frozen=True)
class HeldBack:
    """Pixels held back for validation and the number of objects among them."""

    mask: npt.NDArray[np.bool_]
    objects: int


def objects_to_hold_back(counts: Sequence[StateCounts], settings: TrainSettings) -> list[int]:
    """Return how many objects of each plane are held back, about ``settings.validation`` of all.

    Planes with few objects each, but enough together, give theirs from one end of the list on:
    neighbours in a stack or a film show the same cells. Nothing is held back where none of the
    background, or no object, would be left to learn.

    Parameters
    ----------
    counts
        What is painted in each plane.
    """
    if settings.validation == 0 or settings.annotation.task == "classes":
        return [0] * len(counts)
    objects = [count.objects for count in counts]
    own = [_share(count, settings.validation) for count in objects]
    few = [number for number, share in enumerate(own) if share == 0]
    wanted = _share(sum(objects[number] for number in few), settings.validation)
    if np.random.default_rng(settings.seed).random() < 0.5:
        few.reverse()
    shares = list(own)
    for number in few:
        shares[number] = min(wanted, objects[number])
        wanted -= shares[number]
    kept = [n for n, share in enumerate(shares) if share < objects[n] or objects[n] == 0]
    teaches = any(counts[n].classes[0] for n in kept) and any(objects[n] for n in kept)
    return shares if teaches else own


def _share(objects: int, fraction: float) -> int:
    return max(1, round(fraction * objects)) if objects >= FEWEST_TO_HOLD_BACK else 0


def held_back(
    labels: npt.NDArray[np.integer[Any]],
    weight: npt.NDArray[np.float32],
    share: int,
    settings: TrainSettings,
    seed: int,
) -> HeldBack:
    """Choose neighbouring objects at one side of the annotation, with the pixels nearest to them.

    A contiguous group keeps the two parts apart in space: apart from the seam, no held-back
    pixel has a trained neighbour. In task ``classes`` a strip of trained pixels is held back.
    """
    random = np.random.default_rng(seed)
    if settings.annotation.task == "classes" and settings.validation:
        return _held_back_strip(labels, weight, settings.validation, random)
    mask = np.zeros(labels.shape, bool)
    if share == 0:
        return HeldBack(mask, 0)
    # Of a large plane with a few cells only the annotated part is looked at.
    window = bounding_window(weight > 0)
    trained_objects = np.where(weight[window] > 0, labels[window], 0)
    ids = np.unique(trained_objects[trained_objects > 0])
    centres = np.array(ndimage.center_of_mass(trained_objects > 0, trained_objects, ids))
    spread = np.ptp(centres, axis=0)
    along = centres[:, int(np.argmax(spread))] * (1 if random.random() < 0.5 else -1)
    chosen = ids[np.argsort(along, kind="stable")[:share]]
    nearest = ndimage.distance_transform_edt(
        trained_objects <= 0, return_distances=False, return_indices=True
    )
    owner = trained_objects[nearest[0], nearest[1]]
    mask[window] = np.isin(owner, chosen)
    return HeldBack(mask, len(chosen))


def _held_back_strip(
    labels: npt.NDArray[np.integer[Any]],
    weight: npt.NDArray[np.float32],
    fraction: float,
    random: np.random.Generator,
) -> HeldBack:
    rows, columns = np.nonzero(weight > 0)
    along = rows if np.ptp(rows) > np.ptp(columns) else columns
    low_side = random.random() < 0.5
    limit = np.quantile(along, fraction if low_side else 1 - fraction)
    position = np.arange(labels.shape[0])[:, None] if along is rows else np.arange(labels.shape[1])
    mask = np.broadcast_to(position <= limit if low_side else position >= limit, labels.shape)
    classes = np.maximum(labels, 0)  # painted or not, background is one class
    kept = np.unique(classes[(weight > 0) & ~mask])
    held = np.unique(classes[(weight > 0) & mask])
    # On background alone a network that finds nothing would be perfect.
    if not np.isin(held, kept).all() or not (held > 0).any():
        return HeldBack(np.zeros(labels.shape, bool), 0)
    return HeldBack(mask.copy(), int((held > 0).sum()))
