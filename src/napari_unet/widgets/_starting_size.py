"""The object size of the model that training starts from, without loading its weights."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from napari_unet.core.errors import UNetError

if TYPE_CHECKING:
    from napari_unet.core.model import Model

logger = logging.getLogger(__name__)


def starting_diameter(source: str | Model | None) -> float | None:
    """Return the object diameter that images are brought to before training, in pixels.

    Parameters
    ----------
    source
        A model, the name or path of one, ``"auto"`` for the shipped one that fits (the one that is
        left only for a clear lead speaks for them), or None for training from scratch.

    Returns
    -------
    float or None
        None also while PyTorch is not loaded yet: a preview is not worth waiting seconds for it.
    """
    if source is None:
        return None
    if not isinstance(source, str):
        return source.diameter
    if "torch" not in sys.modules:
        return None
    from napari_unet.core.base_choice import AUTOMATIC, GENERALIST
    from napari_unet.core.model_file import model_info

    try:
        diameter = model_info(GENERALIST if source == AUTOMATIC else source)["diameter"]
    except UNetError as error:
        logger.info("the object size of %s is not known: %s", source, error)
        return None
    return None if diameter is None else float(diameter)
