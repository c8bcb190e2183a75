"""Which shipped model to start from: the one that already segments the painted cells best.

On a handful of cells that is often decided by chance, and a specialist chosen by chance may find
nothing of other images. So the model that knows most looks is left only for a clear lead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_unet.core.device import choose_device
from napari_unet.core.errors import InputError
from napari_unet.core.events import Scores
from napari_unet.core.judging import judge, quality
from napari_unet.core.model import Model
from napari_unet.core.model_file import list_models, load_model
from napari_unet.core.pairs import AnnotatedPlane
from napari_unet.core.preparation import prepare, scale_factors
from napari_unet.core.settings import TileSettings, TrainSettings

logger = logging.getLogger(__name__)

#: Name that asks for the choice.
AUTOMATIC = "auto"
#: The shipped model that knows most looks, nuclei included.
GENERALIST = "cells"
#: One painted cell, found or missed, moves the quality by about this over the number of cells:
#: a lead of less is a coincidence.
_ONE_CELL = 0.8


@dataclass(frozen=True)
class ChosenBase:
    """A model to start from.

    Attributes
    ----------
    model
        The model.
    scores
        Its scores on all painted cells; None where it was not compared with another one.
    """

    model: Model
    scores: Scores | None = None


def choose_base(
    planes: Sequence[AnnotatedPlane],
    settings: TrainSettings,
    models: Sequence[Model] | None = None,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> ChosenBase | None:
    """Return the model that agrees best with what was painted.

    Another one than :data:`GENERALIST` has to be better by more than one painted cell.

    Parameters
    ----------
    planes
        Annotated planes.
    settings
        What the annotation means, and where to compute.
    models
        The candidates; by default every shipped model. Without the generalist among them the
        first takes its place.
    cancelled
        Asked while candidates are judged; once it returns True the generalist is taken.

    Returns
    -------
    ChosenBase or None
        None when no candidate takes such images.
    """
    if models is None:
        models = [load_model(name) for name in list_models()]
    usable = [model for model in models if _fits(model, planes)]
    if len(usable) < 2 or settings.annotation.task == "classes":
        return ChosenBase(usable[0]) if usable else None
    usable.sort(key=lambda model: model.name != GENERALIST)
    judged = []
    for model in usable:
        if cancelled and cancelled():
            return ChosenBase(usable[0])
        judged.append(_judged(model, planes, settings, cancelled))
    if cancelled and cancelled():  # the last one may not have been judged to the end
        return ChosenBase(usable[0])
    agreement = [quality(scores) for scores, _ in judged]
    cells = judged[0][1]
    best = int(np.argmax(agreement))
    if agreement[best] - agreement[0] <= _ONE_CELL / max(1, cells):
        best = 0
    logger.info(
        "Starting from the model %r: agreement with %d painted cells %s",
        usable[best].name,
        cells,
        ", ".join(f"{one.name} {a:.2f}" for one, a in zip(usable, agreement, strict=True)),
    )
    return ChosenBase(usable[best], judged[best][0])


def _fits(model: Model, planes: Sequence[AnnotatedPlane]) -> bool:
    try:
        model.check_channels(planes[0].plane.channels)
    except InputError:
        return False
    return True


def _judged(
    model: Model,
    planes: Sequence[AnnotatedPlane],
    settings: TrainSettings,
    cancelled: Callable[[], bool] | None,
) -> tuple[Scores, int]:
    """Judge a model, as it is, on all painted cells that are trained on, and count these."""
    everything = replace(settings, validation=0.0)
    factors, diameter = scale_factors(planes, everything, model)
    device = choose_device("cpu").device
    data = prepare(planes, factors, diameter, everything, model.normalization, device)
    found, _ = judge(model, data.painted, TileSettings(device=settings.device), cancelled)
    return found, data.objects
