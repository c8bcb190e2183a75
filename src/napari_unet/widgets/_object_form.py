"""From probabilities to objects: the sliders of the Segment panel."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.core.settings import InstanceSettings
from napari_unet.widgets._parts import small_button
from napari_unet.widgets.settings_form import SettingsForm


class ObjectForm(QWidget):
    """Thresholds, smallest size and holes; the model's own until the user moves something.

    Signals
    -------
    changed
        The user moved something: :class:`~napari_unet.core.settings.InstanceSettings`, or None
        for the model's own.
    """

    changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._model_settings = InstanceSettings()
        self._touched = False
        self.form = SettingsForm(
            self._model_settings,
            labels={
                "seed_threshold": "Detection threshold",
                "mask_threshold": "Outline threshold",
                "min_size": "Smallest cell",
                "fill_holes": "Fill holes",
            },
            sliders={"seed_threshold": (0, 1), "mask_threshold": (0, 1)},
            tips={
                "seed_threshold": "How sure the network must be that a cell is there: to the "
                "right, fewer cells are found and touching ones come apart",
                "mask_threshold": "How far each cell reaches: to the right, cells get smaller",
            },
        )
        self.form.changed.connect(self._on_changed)
        self.reset = small_button("Back to the model's own", "Use what fits the model best")
        self.reset.clicked.connect(self.back_to_model)
        self.reset.setEnabled(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.form)
        layout.addWidget(self.reset)

    def settings(self) -> InstanceSettings:
        """Return what is shown."""
        return self.form.settings()

    def chosen(self) -> InstanceSettings | None:
        """Return the user's settings, or None while they are the model's own."""
        return self.settings() if self._touched else None

    def set_settings(self, settings: InstanceSettings) -> None:
        """Show settings as if the user had moved the sliders."""
        self.form.set_settings(settings)
        self._on_changed()

    def show_model(self, settings: InstanceSettings) -> None:
        """Take in the thresholds of the model, in pixels of the image at hand."""
        self._model_settings = settings
        if not self._touched:
            self.form.set_settings(settings)

    def back_to_model(self) -> None:
        """Forget what the user moved."""
        self._touched = False
        self.reset.setEnabled(False)
        self.form.set_settings(self._model_settings)
        self.changed.emit(None)

    def _on_changed(self) -> None:
        self._touched = True
        self.reset.setEnabled(True)
        self.changed.emit(self.settings())
