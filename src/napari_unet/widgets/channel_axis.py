"""Which axis of an image holds channels: asked only where there is a doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSizePolicy, QWidget

from napari_unet.widgets._annotation_layer import channel_axis_of, set_channel_axis
from napari_unet.widgets._tips import explain

if TYPE_CHECKING:
    from napari.layers import Layer

#: An axis longer than this is not offered as channels, unless it is labelled so.
MOST_CHANNELS = 16


class ChannelAxis(QWidget):
    """A hidden line that appears for images with more than two axes."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._choice = QComboBox()
        self._choice.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._choice.setMinimumContentsLength(8)
        self._choice.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        explain(
            self._choice,
            "Planes of a stack or time series are segmented one by one; channels of one picture "
            "are shown to the network together.",
        )
        self._choice.currentIndexChanged.connect(self._on_chosen)
        self._layer: Layer | None = None
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Channels"))
        layout.addWidget(self._choice, 1)
        self.hide()

    @property
    def axis(self) -> int | None:
        """The chosen axis of the array, or None for planes of one channel (or RGB)."""
        return self._choice.currentData()  # type: ignore[no-any-return]

    def set_axis(self, axis: int | None) -> None:
        """Choose as the user would."""
        self._choice.setCurrentIndex(self._choice.findData(axis))

    def show_layer(self, layer: Layer | None) -> None:
        """Offer the leading axes of an image layer; what was chosen for it before is shown."""
        self._layer = layer
        blocked = self._choice.blockSignals(True)
        self._choice.clear()
        self._choice.addItem("none: planes one by one", None)
        chosen = None if layer is None else channel_axis_of(layer)
        for axis, size, name in _leading(layer):
            if 1 < size <= MOST_CHANNELS or axis == chosen:
                self._choice.addItem(f"{size} along axis {name}", axis)
        self._choice.setCurrentIndex(max(0, self._choice.findData(chosen)))
        self._choice.blockSignals(blocked)
        self.setVisible(self._choice.count() > 1)

    def _on_chosen(self, _index: int) -> None:
        if self._layer is not None:
            set_channel_axis(self._layer, self.axis)
        self.changed.emit()


def _leading(layer: Layer | None) -> list[tuple[int, int, str]]:
    """Return axis, size and name of the leading axes."""
    if layer is None or layer.rgb:
        return []
    array = layer.data[0] if layer.multiscale else layer.data
    sizes, names = array.shape[:-2], layer.axis_labels[:-2]
    return [(axis, int(size), str(names[axis])) for axis, size in enumerate(sizes)]
