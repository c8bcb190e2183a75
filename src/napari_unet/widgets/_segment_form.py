"""What to segment and how: the upper half of the Segment panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet.core.errors import AnnotationError
from napari_unet.core.settings import TileSettings
from napari_unet.jobs.instance_job import Link
from napari_unet.widgets._parts import Fold, row, small_button
from napari_unet.widgets._tips import explain
from napari_unet.widgets.channel_axis import ChannelAxis
from napari_unet.widgets.layer_chooser import LayerChooser
from napari_unet.widgets.model_chooser import ModelChooser
from napari_unet.widgets.session import Session
from napari_unet.widgets.settings_form import SettingsForm

if TYPE_CHECKING:
    from napari.layers import Image

VIEW, PLANE, EVERYTHING = "view", "plane", "everything"


class SegmentForm(QWidget):
    """Image, model, part and object size.

    Signals
    -------
    target_changed
        Another image, model or way to find the object size was chosen.
    measure_requested
        The object size is to be measured on what was painted.
    """

    target_changed = Signal()
    measure_requested = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.image = LayerChooser(
            session, ("image",), none_text="(choose an image)", follows="image"
        )
        self.channels = ChannelAxis()
        self.model = ModelChooser(session, take_new=True)
        self.model.describe("The network that finds the cells; a model you train is taken at once.")
        self.where = QComboBox()
        self.where.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        explain(self.where, "How much is segmented, always starting where you look.")
        self._size_line()
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Image", self.image)
        form.addRow(self.channels)
        form.addRow("Model", self.model)
        form.addRow("Part", self.where)
        form.addRow("Cell size", row(self.automatic, self.diameter, self.measure))
        self.image.layer_chosen.connect(self.refresh)
        session.image_changed.connect(self.refresh)
        self.channels.changed.connect(self._on_channels)
        self.model.model_chosen.connect(lambda _choice: self.target_changed.emit())
        self.refresh()

    def _size_line(self) -> None:
        self.automatic = QCheckBox("auto")
        self.automatic.setChecked(True)
        self.automatic.setToolTip("Let the network find how large the cells are in this image")
        self.diameter = QDoubleSpinBox()
        self.diameter.setRange(1, 5000)
        self.diameter.setDecimals(1)
        self.diameter.setValue(20)
        self.diameter.setSuffix(" px")
        self.diameter.setMinimumWidth(100)  # napari's style leaves no room for the unit
        self.diameter.setEnabled(False)
        self.diameter.setKeyboardTracking(False)
        self.diameter.setToolTip("Diameter of a typical cell in this image; your number wins")
        self.measure = small_button("Measure", "Measure the size of the cells you painted")
        self.automatic.toggled.connect(self._on_automatic)
        self.measure.clicked.connect(self.measure_requested)

    @property
    def part(self) -> Literal["view", "plane", "everything"]:
        """What is to be segmented."""
        chosen: Literal["view", "plane", "everything"] = self.where.currentData()
        return chosen

    def set_part(self, part: str) -> None:
        """Choose as the user would."""
        self.where.setCurrentIndex(self.where.findData(part))

    def cell_size(self) -> float | Literal["auto"]:
        """Return the user's diameter, which always wins, or ``"auto"``."""
        return "auto" if self.automatic.isChecked() else float(self.diameter.value())

    def set_cell_size(self, diameter: float | None) -> None:
        """Use this diameter from now on.

        Raises
        ------
        AnnotationError
            If there was nothing to measure.
        """
        if diameter is None:
            raise AnnotationError("There is nothing to measure yet; paint at least one cell.")
        self.automatic.setChecked(False)
        self.diameter.setValue(diameter)

    def show_estimate(self, diameter: float | None) -> None:
        """Show what was found automatically, without making it the user's number."""
        if self.automatic.isChecked() and diameter is not None:
            self.diameter.setValue(diameter)

    def refresh(self, _layer: object = None) -> None:
        """Follow the chosen image."""
        layer: Image | None = self.image.layer
        self.channels.show_layer(layer)
        self._fill_parts(layer)
        self.target_changed.emit()

    def _on_channels(self) -> None:
        """Let all panels know: the channels are a property of the image, not of this form."""
        self._session.image_changed.emit(self.image.layer)

    def _fill_parts(self, layer: Image | None) -> None:
        before = self.where.currentData()
        planes = 1
        if layer is not None:
            array = layer.data[0] if layer.multiscale else layer.data
            leading = array.shape[: -3 if layer.rgb else -2]
            for axis, size in enumerate(leading):
                planes *= 1 if axis == self.channels.axis else int(size)
        blocked = self.where.blockSignals(True)
        self.where.clear()
        self.where.addItem("what I see", VIEW)
        self.where.addItem("the whole image" if planes == 1 else "the plane I see", PLANE)
        if planes > 1:
            self.where.addItem(f"all {planes} planes", EVERYTHING)
        self.where.setCurrentIndex(max(0, self.where.findData(before or PLANE)))
        self.where.blockSignals(blocked)

    def _on_automatic(self, on: bool) -> None:
        self.diameter.setEnabled(not on)
        if on:
            self.target_changed.emit()


class SegmentOptions(QWidget):
    """Choices that most people leave alone, folded away."""

    def __init__(self) -> None:
        super().__init__()
        self.probabilities = QCheckBox("Also show the probability")
        self.probabilities.setToolTip("A layer that is bright where the network sees a cell")
        self.keep = QCheckBox("Keep earlier results")
        explain(
            self.keep,
            "Otherwise a new result takes the place of the last one, unless you corrected it",
        )
        self.link = QCheckBox("One number per object through the stack")
        explain(
            self.link,
            "Objects that overlap from plane to plane, or from time to time, share a number",
        )
        self.tiles = SettingsForm(
            TileSettings(),
            labels={"tile": "Tile size"},
            words={
                "device": {"auto": "automatic", "cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple"},
                "precision": {"float32": "full", "half": "half (CUDA)"},
                "views": {1: "one", 4: "mean of 4", 8: "mean of 8"},
            },
            starts={"tile": 512},
            fold=False,
        )
        fold = Fold("More options")
        for widget in (self.probabilities, self.keep, self.link, self.tiles):
            fold.body.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(fold)
        self.unfold = fold.unfold

    def link_of(self, shape: tuple[int, ...]) -> Link | None:
        """Return how a label array of this shape is linked, if that is wanted."""
        along = [axis for axis, length in enumerate(shape[:-2]) if length > 1]
        if not self.link.isChecked() or not along:
            return None
        # The last leading axis: depth of a stack, or time of a flat series.
        return Link(shape, axis=along[-1])
