"""The size that training brings painted objects to, without loading a model's weights."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from napari_unet.core.errors import UNetError
from napari_unet.core.size_match import COMFORTABLE_DIAMETERS, SizeMatch

if TYPE_CHECKING:
    from napari_unet.core.model import Model

logger = logging.getLogger(__name__)


def size_match(source: str | Model | None, given: float | None = None) -> SizeMatch | None:
    """Return how training resamples images when it starts from a model.

    Parameters
    ----------
    source
        A model, the name or path of one, ``"auto"`` for the shipped one that fits (the one that is
        left only for a clear lead speaks for them), or None for training from scratch.
    given
        Object diameter in the image, where the user gives one.

    Returns
    -------
    SizeMatch or None
        None without resampling, and also while PyTorch is not loaded yet: a preview is not worth
        waiting seconds for it.
    """
    if source is not None and not isinstance(source, str):
        return _of_model(source.diameter, given)
    if "torch" not in sys.modules:
        return None
    from napari_unet.core.base_choice import AUTOMATIC, GENERALIST
    from napari_unet.core.model_file import model_info

    if source is None:
        return SizeMatch(*COMFORTABLE_DIAMETERS, given)
    try:
        diameter = model_info(GENERALIST if source == AUTOMATIC else source)["diameter"]
    except UNetError as error:
        logger.info("the object size of %s is not known: %s", source, error)
        return None
    return _of_model(diameter, given)


def _of_model(diameter: float | None, given: float | None) -> SizeMatch | None:
    return None if diameter is None else SizeMatch(float(diameter), float(diameter), given)
