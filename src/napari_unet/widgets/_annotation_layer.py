"""New annotation layers and what they look like."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import AnnotationError
from napari_unet.core.labels import read_labels
from napari_unet.widgets._source import label_placement, source_of
from napari_unet.widgets._streaming_layer import allocate
from napari_unet.widgets.session import METADATA_KEY, Session, image_name, kind_of, same_layer

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Shapes
    from napari.utils.colormaps import CyclicLabelColormap

#: Colour of painted background, in the annotation and in the state map.
BACKGROUND_COLOR = (0.34, 0.63, 0.91, 1.0)
#: Colours of objects before they repeat; 254 still fit napari's one-byte textures.
N_COLORS = 254
#: Number of painted background.
BACKGROUND = -1
#: Hues that look like painted background.
_BLUES = (0.52, 0.66)
_GOLDEN = (5**0.5 - 1) / 2
_BOX_COLOR = "#f0a030"


def annotation_colormap() -> CyclicLabelColormap:
    """Return a colour map of bright colours in which -1 has one of its own.

    Hues follow the golden angle, so neighbouring numbers differ much, and leave out the blues
    around that of painted background. napari's label colours repeat; -1 stands at the end of the
    row and shares its place with the numbers ``253, 507, ...``, which :func:`next_free` skips.
    """
    from napari.utils.colormaps import CyclicLabelColormap

    colors = _bright_colors()
    colors[N_COLORS - 1] = BACKGROUND_COLOR
    return CyclicLabelColormap(colors=colors, background_value=0)


def result_colormap() -> CyclicLabelColormap:
    """Return the colours of :func:`annotation_colormap` for labels that have no background.

    A class has one colour wherever it is shown; napari's own colours have some as dark as the
    background of a fluorescence image, where an object would seem not to be found.
    """
    from napari.utils.colormaps import CyclicLabelColormap

    return CyclicLabelColormap(colors=_bright_colors(), background_value=0)


def _bright_colors() -> npt.NDArray[np.float32]:
    colors = np.ones((N_COLORS + 1, 4), np.float32)
    colors[0] = 0
    for number in range(1, N_COLORS + 1):
        around = (number * _GOLDEN) % 1.0
        hue = (_BLUES[1] + around * (1 - (_BLUES[1] - _BLUES[0]))) % 1.0
        colors[number, :3] = hsv_to_rgb(hue, 0.55 + 0.15 * (number % 4), 1 - 0.1 * (number % 3))
    return colors


def next_free(highest: int) -> int:
    """Return the number after ``highest`` that does not look like painted background."""
    number = max(highest, 0) + 1
    return number + 1 if number % N_COLORS == N_COLORS - 1 else number


def channel_axis_of(image: Image) -> int | None:
    """Return the leading axis of an image layer that holds channels.

    It is what the user chose (kept in the layer's metadata), or else an axis that is labelled
    ``c``, ``ch`` or ``channel``. Nothing is guessed from sizes; a single channel is a stack of one
    plane, as labels that lie on it have the axis as well.
    """
    if image.rgb or image.ndim < 3:
        return None
    chosen = image.metadata.get(METADATA_KEY, {})
    if isinstance(chosen, dict) and "channel_axis" in chosen:
        axis = chosen["channel_axis"]
        return axis if axis is not None and axis < image.ndim - 2 else None
    shape = (image.data[0] if image.multiscale else image.data).shape
    for axis, label in enumerate(image.axis_labels[:-2]):
        if str(label).lower() in ("c", "ch", "channel", "channels") and shape[axis] > 1:
            return axis
    return None


def set_channel_axis(image: Image, axis: int | None) -> None:
    """Remember which axis of an image holds channels."""
    known = image.metadata.get(METADATA_KEY)
    image.metadata[METADATA_KEY] = {**(known or {}), "channel_axis": axis}


def new_annotation(session: Session, image: Image) -> Labels:
    """Add an empty annotation layer that lies exactly on an image, and choose it.

    Returns
    -------
    Labels
        int32, with the image's leading axes (without channels), scale, translation and units.
        A stack larger than a quarter of the free memory is kept in a temporary file.
    """
    axis = channel_axis_of(image)
    shape = source_of(image, axis).label_shape
    layer = session.viewer.add_labels(
        allocate(shape, np.int32),
        name=f"{image.name} annotation",
        metadata={METADATA_KEY: {"role": "annotation", "image": image.name}},
        **label_placement(image, axis),
    )
    layer.colormap = annotation_colormap()
    layer.opacity = 0.6
    layer.brush_size = 10
    layer.selected_label = 1
    session.annotation = layer
    session.viewer.layers.selection.active = layer
    layer.mode = "paint"
    return layer


def copy_of_annotation(session: Session, labels: Labels) -> Labels:
    """Add a copy of labels in memory that can be painted, choose it, and hide the original.

    Labels without an axis for the channels of the session's image are laid over it.

    Raises
    ------
    InputError
        If they cannot be read, or are not whole numbers.
    """
    array = np.array(read_labels(labels.data[0] if labels.multiscale else labels.data))
    placement, image = _placement_of(labels), session.image
    if image is not None:
        axis = channel_axis_of(image)
        source = source_of(image, axis)
        if source.held_axis is not None and array.shape == source.stack_shape:
            array = array.reshape(source.label_shape)
            placement = label_placement(image, axis)
    layer = session.viewer.add_labels(
        array,
        name=f"{labels.name} copy",
        metadata={METADATA_KEY: {"role": "annotation", "copied_from": labels.name}},
        **placement,
    )
    layer.colormap = annotation_colormap()
    session.annotation = layer
    labels.visible = False
    return layer


def _placement_of(labels: Labels) -> dict[str, Any]:
    return {
        "scale": labels.scale,
        "translate": labels.translate,
        "rotate": labels.rotate,
        "shear": labels.shear,
        "affine": labels.affine.affine_matrix,
        "units": labels.units,
        "axis_labels": labels.axis_labels,
    }


def new_boxes(session: Session, labels: Labels) -> Shapes:
    """Add a Shapes layer for annotated areas over an annotation, and choose it."""
    layer = session.viewer.add_shapes(
        ndim=labels.ndim,
        name=f"{labels.name} boxes",
        edge_color=_BOX_COLOR,
        face_color="transparent",
        edge_width=2,
        metadata={METADATA_KEY: {"role": "areas", "image": image_name(labels)}},
        **_placement_of(labels),
    )
    session.boxes = layer
    return layer


def check_fits(labels: Labels, image: Image) -> None:
    """Raise when an annotation does not lie on an image pixel by pixel.

    Raises
    ------
    AnnotationError
        With the two shapes and what to do.
    """
    source = source_of(image, channel_axis_of(image))
    expected = source.label_shape
    array = labels.data[0] if labels.multiscale else labels.data
    if source.held_axis is not None and tuple(array.shape) == source.stack_shape:
        raise AnnotationError(
            f"The planes of {labels.name!r} follow the slider of the channels: press Copy to lay "
            f"them over {image.name!r}."
        )
    if tuple(array.shape) != expected:
        raise AnnotationError(
            f"The annotation {labels.name!r} has the shape {tuple(array.shape)} but the image "
            f"{image.name!r} needs {expected}: choose the image it was painted on, or press New."
        )


def paintable(labels: Labels, number: int) -> None:
    """Raise when ``number`` cannot be painted into a layer.

    Raises
    ------
    AnnotationError
        If the layer is multiscale or its data type is too small.
    """
    if labels.multiscale:
        raise AnnotationError(
            f"{labels.name!r} is a multiscale layer, which napari cannot paint: press Copy to work "
            "on a copy of it, or New for an empty layer."
        )
    info = np.iinfo(labels.data.dtype)
    if info.min <= number <= info.max:
        return
    thing = "painted background (-1)" if number < 0 else f"the object number {number}"
    raise AnnotationError(
        f"{labels.name!r} is of type {labels.data.dtype} and cannot hold {thing}: right-click it "
        "in the layer list and choose Convert data type > int32."
    )


def is_annotation_candidate(session: Session) -> Any:
    """Return a test for layers that may be offered as annotation: labels that are no preview."""

    def accepts(layer: Any) -> bool:
        if kind_of(layer) != "labels":
            return False
        known = layer.metadata.get(METADATA_KEY)
        role = known.get("role") if isinstance(known, dict) else None
        return role != "preview" or same_layer(layer, session.annotation)

    return accepts
