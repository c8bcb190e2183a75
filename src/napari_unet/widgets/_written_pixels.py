"""Pixels of a Labels layer written through its edit history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import AnnotationError

if TYPE_CHECKING:
    from napari.layers import Labels

#: What to do about an array that cannot be written pixel by pixel.
_LAZY = (
    "{name!r} is computed on demand and cannot be corrected in place: press Copy to work on a "
    "copy of it."
)


def write_pixels(
    layer: Labels, places: tuple[npt.NDArray[np.intp], ...], values: npt.NDArray[np.integer]
) -> None:
    """Write pixels of any planes as one step of undo, and show the layer.

    Parameters
    ----------
    layer
        A single-scale layer.
    places
        Coordinates of different pixels, one array per axis.
    values
        One per pixel; they must fit the layer's type.

    Raises
    ------
    AnnotationError
        If the array is computed on demand and cannot be written pixel by pixel.
    """
    # napari also writes into the picture it shows, and has none of the plane while it is hidden.
    if not layer.visible:  # showing a layer gives it its last tool back, also one that is visible
        layer.visible = True
    numbers = values.astype(layer.data.dtype)
    try:
        layer.data_setitem(places, numbers)
    except NotImplementedError as error:
        raise AnnotationError(_LAZY.format(name=layer.name)) from error
    except IndexError:
        if not np.array_equal(layer.data[places], numbers):
            raise
        layer.refresh()  # of a stack that is turned out of its planes, napari shows another one
