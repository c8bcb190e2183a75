"""Which shipped model to start from: the one that already segments the painted cells best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from napari_unet.core.device import choose_device
from napari_unet.core.errors import InputError
from napari_unet.core.judging import judge, quality
from napari_unet.core.model import Model
from napari_unet.core.model_file import list_models, load_model
from napari_unet.core.pairs import AnnotatedPlane
from napari_unet.core.preparation import prepare, scale_factors
from napari_unet.core.settings import TileSettings, TrainSettings

logger = logging.getLogger(__name__)

#: Name that asks for the choice.
AUTOMATIC = "auto"


def choose_base(
    planes: Sequence[AnnotatedPlane],
    settings: TrainSettings,
    models: Sequence[Model] | None = None,
) -> Model | None:
    """Return the model that agrees best with what was painted.

    Parameters
    ----------
    planes
        Annotated planes.
    settings
        What the annotation means, and where to compute.
    models
        The candidates; by default every shipped model.

    Returns
    -------
    Model or None
        None when no candidate takes such images.
    """
    if models is None:
        models = [load_model(name) for name in list_models()]
    usable = [model for model in models if _fits(model, planes)]
    if len(usable) < 2 or settings.annotation.task == "classes":
        return usable[0] if usable else None
    judged = [(_agreement(model, planes, settings), model) for model in usable]
    best = max(judged, key=lambda pair: pair[0])[1]
    logger.info("Starting from the model %r: it fits the painted cells best", best.name)
    return best


def _fits(model: Model, planes: Sequence[AnnotatedPlane]) -> bool:
    try:
        model.check_channels(planes[0].plane.channels)
    except InputError:
        return False
    return True


def _agreement(model: Model, planes: Sequence[AnnotatedPlane], settings: TrainSettings) -> float:
    """Judge a model, as it is, on all painted cells."""
    everything = replace(settings, validation=0.0)
    factors, diameter = scale_factors(planes, everything, model)
    device = choose_device("cpu").device
    data = prepare(planes, factors, diameter, everything, model.normalization, device)
    return quality(judge(model, data.painted, TileSettings(device=settings.device))[0])
