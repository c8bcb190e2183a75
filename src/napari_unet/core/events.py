"""What long work reports: small frozen dataclasses, the same for a panel, a test and a script."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_unet.core.model import Model
    from napari_unet.core.training_state import TrainingState


@dataclass(frozen=True)
class Scores:
    """Quality on painted cells: average precision TP / (TP + FP + FN), F1 at IoU 0.5, overlap.

    ``overlap`` is the mean, over the painted objects, of the largest IoU with a predicted one.
    ``nan`` where there is nothing to compare with. In task ``classes`` ``ap50``, ``ap75`` and
    ``overlap`` are nan and ``f1`` is the mean class IoU.
    """

    ap50: float
    ap75: float
    f1: float
    overlap: float
    loss: float


@dataclass(frozen=True)
class TrainingStarted:
    """Data, split and device are ready. ``diameter`` of the objects is in pixels of the image.

    ``warnings`` are sentences about what may spoil training, worst first.
    """

    device: str
    objects: int
    validation_objects: int
    trained_pixels: int
    diameter: float | None
    first_step: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingStep:
    """One optimiser step is done. ``fraction`` of the budget is used up."""

    step: int
    seconds: float
    loss: float
    learning_rate: float
    fraction: float


@dataclass(frozen=True)
class Validation:
    """The network was judged as prediction would use it. ``model`` is usable at once."""

    step: int
    seconds: float
    scores: Scores
    best: bool
    model: Model = field(repr=False, compare=False)


@dataclass(frozen=True)
class TrainingFinished:
    """The end of a run: the model to use and why it was chosen.

    ``before`` are the scores of the base on the validation cells (None from scratch), ``after``
    those of ``model``. ``decision`` explains in one sentence which weights were kept. ``state``
    resumes the run, from the same ``base``: for ``"auto"`` the model that was chosen.
    """

    model: Model = field(repr=False, compare=False)
    before: Scores | None
    after: Scores
    decision: str
    reason: Literal["finished", "stopped"]
    steps: int
    seconds: float
    state: TrainingState = field(repr=False, compare=False)
    base: Model | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class TileDone:
    """Class probabilities of one tile: ``(K, y, x)`` float32 for ``[slices]`` of the plane.

    ``done`` of ``total`` pixels of the plane (or region) are finished. ``index`` is the plane's
    position in a stack.
    """

    slices: tuple[slice, slice]
    probabilities: npt.NDArray[np.float32] = field(repr=False, compare=False)
    done: int
    total: int
    index: tuple[int, ...] = ()


@dataclass(frozen=True)
class DiameterChosen:
    """The object size one plane is segmented at, in image pixels.

    ``factor`` is the scale from image to network pixels. ``diameter`` is None when the model does
    not match object sizes; ``source`` says where the number comes from.
    """

    index: tuple[int, ...]
    diameter: float | None
    factor: float
    source: Literal["given", "estimated", "none"]


@dataclass(frozen=True)
class LabelsChanged:
    """New values for ``[slices]`` of plane ``index``; provisional until :class:`PlaneDone`."""

    slices: tuple[slice, slice]
    labels: npt.NDArray[np.int32] = field(repr=False, compare=False)
    index: tuple[int, ...] = ()


@dataclass(frozen=True)
class PlaneDone:
    """The labels of plane ``index`` are final."""

    index: tuple[int, ...]
    objects: int
    done: int
    total: int


@dataclass(frozen=True)
class SegmentationDone:
    """The end: the labels of the whole image, ``complete`` unless it was cancelled."""

    labels: npt.NDArray[np.int32] = field(repr=False, compare=False)
    complete: bool


@dataclass(frozen=True)
class BlocksDone:
    """``done`` of ``total`` blocks of one stage of a plane too large for memory."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class LargeSegmentationDone:
    """The end of a plane too large for memory: where the labels are, unless it was cancelled."""

    path: Path
    objects: int
    complete: bool
