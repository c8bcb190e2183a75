"""Which images are learned from, each with its annotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QToolButton, QVBoxLayout, QWidget

from napari_unet.core.errors import AnnotationError, InputError
from napari_unet.io.grid import common_pixel_size
from napari_unet.widgets._annotation_layer import is_annotation_candidate
from napari_unet.widgets._exported import grid_of
from napari_unet.widgets._label_plane import boxes_on_plane, counts_blank
from napari_unet.widgets._source import pixel_size, source_of
from napari_unet.widgets._streaming_layer import allocate
from napari_unet.widgets.channel_axis import ChannelAxis
from napari_unet.widgets.layer_chooser import LayerChooser
from napari_unet.widgets.session import Session, same_layer

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_unet.core.pairs import TrainingPair


class PairRow(QWidget):
    """One image and the layer that was painted on it.

    The first row follows the session and cannot be removed.
    """

    removed = Signal(object)
    changed = Signal()

    def __init__(self, session: Session, *, first: bool) -> None:
        super().__init__()
        self._session = session
        # Only the first row is the session's; further ones are chosen freely.
        follows = {name: name for name in ("image", "annotation", "boxes")} if first else {}
        self.image = LayerChooser(
            session, ("image",), none_text="(choose an image)", follows=follows.get("image")
        )
        self.annotation = LayerChooser(
            session,
            ("labels",),
            accepts=is_annotation_candidate(session),
            none_text="(choose what you painted)",
            follows=follows.get("annotation"),
        )
        self.boxes = LayerChooser(
            session, ("shapes",), none_text="(choose the boxes)", follows=follows.get("boxes")
        )
        self.channels = ChannelAxis()
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(2)
        self._boxes_label = QLabel("Boxes")
        lines = (
            (QLabel("Image"), self.image),
            (QLabel("Painted"), self.annotation),
            (self._boxes_label, self.boxes),
        )
        for line, (label, chooser) in enumerate(lines):
            layout.addWidget(label, line, 0)
            layout.addWidget(chooser, line, 1)
            chooser.layer_chosen.connect(self._on_changed)
        self.channels.changed.connect(self._on_channels)
        if first:
            session.image_changed.connect(self._on_changed)
        layout.addWidget(self.channels, 3, 0, 1, 2)
        layout.setColumnStretch(1, 1)
        if not first:
            remove = QToolButton()
            remove.setText("✕")
            remove.setToolTip("Do not learn from this image")
            remove.clicked.connect(lambda: self.removed.emit(self))
            layout.addWidget(remove, 0, 2)
        self._on_changed()

    def show_boxes(self, visible: bool) -> None:
        """Show the choice of boxes (annotated area "boxes")."""
        self.boxes.setVisible(visible)
        self._boxes_label.setVisible(visible)

    @property
    def channel_axis(self) -> int | None:
        """The axis that the user says holds channels."""
        return self.channels.axis

    def pairs(self, *, with_boxes: bool) -> list[TrainingPair]:
        """Return a snapshot: painting goes on, training sees what is there now.

        Boxes belong to single planes, so with them each plane that is painted or has boxes of its
        own is a pair of its own.

        Raises
        ------
        InputError, AnnotationError
            If a layer is missing.
        """
        from napari_unet.core.pairs import TrainingPair

        image: Image | None = self.image.layer
        annotation: Labels | None = self.annotation.layer
        if image is None:
            raise InputError("Choose the image to learn from.")
        if annotation is None:
            raise AnnotationError(
                "Choose the layer you painted cells in; the Annotate tab makes a new one."
            )
        source = source_of(image, self.channel_axis)
        labels = _snapshot(annotation.data[0] if annotation.multiscale else annotation.data)
        common: dict[str, Any] = {"spacing": pixel_size(image), "name": image.name}
        if not with_boxes:
            labels = source.without_held_axis(labels)
            return [TrainingPair(source.array, labels, channel_axis=source.channel_axis, **common)]
        if self.boxes.layer is None:
            raise AnnotationError(
                "Choose the layer with the boxes, or another annotated area in the Annotate tab."
            )
        if source.label_shape != labels.shape:
            raise InputError(
                f"The painted layer {annotation.name!r} does not have the size of the image "
                f"{image.name!r}; choose an annotation made on this image."
            )
        pairs = []
        blank_too = counts_blank(self.boxes.layer, annotation)
        for index in source.indices:
            boxes = boxes_on_plane(self.boxes.layer, annotation, index)
            if labels[index].any() or (blank_too and len(boxes)):
                plane, channel_axis = source.plane(index)
                pairs.append(
                    TrainingPair(
                        plane, labels[index], channel_axis=channel_axis, boxes=boxes, **common
                    )
                )
        return pairs

    def _on_channels(self) -> None:
        """Let other panels know: the channels are a property of the image, not of this row."""
        if same_layer(self.image.layer, self._session.image):
            self._session.image_changed.emit(self.image.layer)

    def _on_changed(self, _layer: Any = None) -> None:
        self.channels.show_layer(self.image.layer)
        self.changed.emit()


def _snapshot(labels: Any) -> npt.NDArray[Any]:
    """Copy labels; planes without paint take no memory, and a large stack lies in a file."""
    copy = allocate(labels.shape, labels.dtype)
    for index in np.ndindex(*labels.shape[:-2]):
        plane = np.asarray(labels[index])
        if plane.any():
            copy[index] = plane
    return copy


class PairsTable(QWidget):
    """Rows of images with their annotation."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.rows: list[PairRow] = []
        self._column = QVBoxLayout()
        self._column.setSpacing(6)
        self._add = QPushButton("Learn from one more image")
        self._add.setToolTip("Another image of the same kind with cells painted on it")
        self._add.clicked.connect(self.add_row)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._column)
        layout.addWidget(self._add)
        self.add_row()

    def add_row(self) -> PairRow:
        """Append a row and return it."""
        row = PairRow(self._session, first=not self.rows)
        row.removed.connect(self.remove_row)
        row.changed.connect(self.changed)
        self.rows.append(row)
        self._column.addWidget(row)
        self.update_area()
        return row

    def remove_row(self, row: PairRow) -> None:
        """Take a row away."""
        self.rows.remove(row)
        self._column.removeWidget(row)
        row.deleteLater()
        self.changed.emit()

    def update_area(self) -> None:
        """Show the choice of boxes only where they mean something."""
        boxes = self._session.annotation_settings.area == "boxes"
        for row in self.rows:
            row.show_boxes(boxes)

    def pixel_size(self) -> tuple[float, str] | None:
        """Return the side of a pixel and its unit; None when unknown, or not the same for all."""
        images = [row.image.layer for row in self.rows if row.image.layer is not None]
        return common_pixel_size(
            grid_of(image.ndim, {"scale": image.scale, "units": image.units}) for image in images
        )

    def pairs(self) -> list[TrainingPair]:
        """Return snapshots of all rows.

        Raises
        ------
        UNetError
            If something is missing.
        """
        boxes = self._session.annotation_settings.area == "boxes"
        pairs = [pair for row in self.rows for pair in row.pairs(with_boxes=boxes)]
        if not pairs:
            raise AnnotationError("Nothing is painted yet; paint at least one object, then train.")
        return pairs
