"""From painted labels to what the network is trained on: target, weight and state of a pixel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_unet.core.annotation_checks import (
    StateCounts,
    Tally,
    annotation_warnings,
    scattered_objects,
)
from napari_unet.core.annotation_rules import Rules, State, interpret
from napari_unet.core.errors import AnnotationError, InputError
from napari_unet.core.labels import Labels, as_label_array, parts, plane_indices, read_labels
from napari_unet.core.settings import AnnotationSettings, WeightMapSettings
from napari_unet.core.weight_map import class_weights

__all__ = [
    "Convention",
    "State",
    "StateCounts",
    "TrainingTarget",
    "check_trainable",
    "read_convention",
    "training_target",
]

Target = npt.NDArray[np.uint8 | np.uint16]
Convention = Literal["napari-unet", "stardist", "nnunet"]


@dataclass(frozen=True)
class TrainingTarget:
    """What the network will be trained on, on the grid of the labels.

    Attributes
    ----------
    target
        Class index of each pixel, uint8 (uint16 beyond 256 classes); 0 where ignored.
    weight
        float32, eq. 2 of Ronneberger et al. 2015; 0 exactly where ignored.
    state
        uint8, a :class:`State` for each pixel.
    counts
        Pixels per state and number of objects.
    warnings
        Sentences about what may spoil training; empty when all is well.
    """

    target: Target = field(repr=False)
    weight: npt.NDArray[np.float32] = field(repr=False)
    state: npt.NDArray[np.uint8] = field(repr=False)
    counts: StateCounts
    warnings: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        """Classes that a network needs for this target: 2 in task ``objects``."""
        return len(self.counts.classes)


def training_target(
    labels: Any,
    *,
    settings: AnnotationSettings | None = None,
    weights: WeightMapSettings | None = None,
    boxes: Any = None,
    spacing: Sequence[float] | None = None,
    scale: float = 1.0,
) -> TrainingTarget:
    """Say for each pixel whether it is trained, as which class, and with which weight.

    Parameters
    ----------
    labels
        ``(..., Y, X)`` whole numbers of any type: 0 unlabelled, -1 painted background, ``k > 0``
        object ``k`` (task ``objects``) or class ``k`` (task ``classes``). Leading axes are
        independent planes, each with its own class balance.
    settings
        What unlabelled pixels mean. With area ``boxes`` everything outside the boxes is ignored,
        painted or not; inside, objects are as painted, also those that a box cuts, and what is
        not an object is background. In task ``classes`` an unlabelled pixel is background only
        with area ``all`` or inside boxes.
    weights
        The weight map. Its boundary term and the ridge between touching objects exist only in
        task ``objects``; distances are measured to the objects as they are after the ridge.
    boxes
        ``(n, 4)`` rectangles ``y0, x0, y1, x1``, half open, for area ``boxes`` (unused with
        another area); the same for each plane.
    spacing
        Pixel size along y and x. Given, ``sigma`` and ``margin`` are in its unit.
    scale
        Network pixels per image pixel: ``sigma``, ``margin`` and ``ridge`` are lengths that the
        network sees and are divided by it (a ridge stays at least 1 px wide).

    Notes
    -----
    No edge is made up where an object is cut by a box or by the border of the image: distances
    and ridges follow the painted object, whose part outside a box still counts as a neighbour,
    and nothing is painted beyond the border.

    Raises
    ------
    InputError
        If labels or boxes cannot be read. An annotation that cannot be trained on is no error
        here but a warning; see :func:`check_trainable`.
    """
    labels = as_label_array(labels)
    shape = tuple(labels.shape)
    settings, weights = settings or AnnotationSettings(), weights or WeightMapSettings()
    rules = Rules.of(settings, weights, boxes, spacing, scale)
    target: Target = np.empty(shape, target_dtype(labels, rules))
    state = np.empty(shape, np.uint8)
    weight = np.empty(shape, np.float32)
    total = Tally.empty()
    for index in plane_indices(shape):
        plane = labels[index] if index else labels
        arrays = target[index], state[index], weight[index]
        tally = interpret_plane(plane, rules, *arrays)
        per_class = class_weights(tally.classes(rules), weights.class_balance)
        for window in parts(*shape[-2:]):
            here = [array[window] for array in arrays]
            compose(here[0], here[1], here[2], weights.w0, per_class)
        total.append(tally)
    counts = total.counts(rules, weights.w0)
    return TrainingTarget(target, weight, state, counts, annotation_warnings(total, rules))


def target_dtype(labels: Any, rules: Rules) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest type for the class indices of a stack of planes."""
    if rules.task == "objects":
        return np.uint8
    highest = max(
        int(read_labels(labels, (*index, *window)).max())
        for index in plane_indices(labels.shape)
        for window in parts(*labels.shape[-2:])
    )
    return np.uint8 if highest < 256 else np.uint16


def interpret_plane(
    labels: Any,
    rules: Rules,
    target: Target,
    state: npt.NDArray[np.uint8],
    term: npt.NDArray[np.float32],
) -> Tally:
    """Fill the arrays of a whole plane part by part, and count.

    Parameters
    ----------
    labels
        ``(Y, X)``.
    rules
        What the labels mean.
    target, state, term
        ``(Y, X)`` arrays to fill; ``term`` gets the boundary term.
    """
    tally = Tally.empty()
    for window in parts(*state.shape):
        part = interpret(labels, window, rules)
        target[window], state[window], term[window] = part.target, part.state, part.term
        tally.add(part, window)
    tally.scattered = scattered_objects(labels, tally.objects, rules)
    return tally


def compose(
    target: Target,
    state: npt.NDArray[np.uint8],
    term: npt.NDArray[np.float32],
    w0: float,
    per_class: npt.NDArray[np.float32],
) -> None:
    """Turn a boundary term into weights, in place; without ``w0`` nothing is emphasised.

    Parameters
    ----------
    target, state
        Of the same pixels; ``state`` is changed where ``w0`` is 0.
    term
        The boundary term, replaced by ``m (wc + w0 term)``.
    w0
        Weight of the term.
    per_class
        ``wc`` of each class.
    """
    if w0 == 0:
        state[state == State.EMPHASISED] = State.BACKGROUND
    term *= np.float32(w0)
    term += np.take(per_class, target)
    np.copyto(term, np.float32(0), where=state == State.IGNORED)


def check_trainable(targets: TrainingTarget | Iterable[TrainingTarget]) -> None:
    """Raise when a network cannot be trained on these targets together.

    Raises
    ------
    AnnotationError
        If no pixel is trained, or all trained pixels are of one class; the sentence says what to
        paint.
    """
    several = [targets] if isinstance(targets, TrainingTarget) else list(targets)
    background = sum(target.counts.classes[0] for target in several)
    painted = sum(target.counts.object_pixels for target in several)
    if background and painted:
        return
    classes = {k for one in several for k, n in enumerate(one.counts.classes) if n and k}
    if painted and len(classes) > 1:
        return
    for target in several:
        if target.warnings:
            raise AnnotationError(target.warnings[0])
    raise AnnotationError("There is nothing to train on: paint at least one object.")


def read_convention(
    labels: Any,
    convention: Convention = "napari-unet",
    ignore_mask: Any = None,
    ignore_label: int | None = None,
) -> Labels:
    """Translate the labels of another tool: unlabelled 0, background -1, objects above 0.

    What another tool leaves out is unlabelled here and everything else is stated, so train on
    the result with area ``painted``. Nothing is guessed: the caller names the convention.

    Parameters
    ----------
    labels
        ``(..., Y, X)`` whole numbers.
    convention
        ``"napari-unet"``: labels as they are. ``"stardist"``: 0 is background and -1 is ignored.
        ``"nnunet"``: 0 is background and the highest label is ignored.
    ignore_mask
        Same shape, True where a pixel is ignored; everything outside is annotated, so 0 there
        is background.
    ignore_label
        For ``"nnunet"``: the ignored label, for an image in which it may not occur (default:
        the highest label of this array).

    Raises
    ------
    InputError
        If the convention is unknown, labels are not whole numbers, shapes differ, or the ignored
        label of nnU-Net cannot be told.
    """
    translated = read_labels(as_label_array(labels)).copy()
    empty = translated == 0
    if convention == "stardist":
        translated[translated == -1] = 0
        translated[empty] = -1
    elif convention == "nnunet":
        ignored = int(translated.max()) if ignore_label is None else int(ignore_label)
        if ignored < 1:
            raise InputError(
                "These labels hold no label above 0, so none can be nnU-Net's ignore label; "
                "say which one it is."
            )
        translated[translated == ignored] = 0
        translated[empty] = -1
    elif convention != "napari-unet":
        raise InputError(
            f"The label convention must be napari-unet, stardist or nnunet, not {convention!r}."
        )
    if ignore_mask is None:
        return translated
    ignored_pixels = np.asarray(ignore_mask).astype(bool)
    if ignored_pixels.shape != translated.shape:
        raise InputError(
            f"The ignore mask must have the shape of the labels, {translated.shape}, "
            f"not {ignored_pixels.shape}."
        )
    translated[empty] = -1
    translated[ignored_pixels] = 0
    return translated
