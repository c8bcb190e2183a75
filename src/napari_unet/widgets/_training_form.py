"""All settings of a training that most people never touch, folded away."""

from __future__ import annotations

import dataclasses

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.core.settings import AugmentationSettings, NetworkSettings, TrainSettings
from napari_unet.widgets._parts import Fold, heading
from napari_unet.widgets.panel import note
from napari_unet.widgets.session import Session
from napari_unet.widgets.settings_form import SettingsForm


class TrainingForm(QWidget):
    """Expert settings: training, augmentation and, from scratch, the network.

    The time budget is the panel's; what labels mean and the weight map are the session's.
    """

    diameter_changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._defaults = TrainSettings()
        self._fold = Fold("Expert settings")
        self._training = SettingsForm(
            self._defaults,
            without=("seconds",),
            labels={
                "diameter": "Cell diameter",
                "steps": "Steps",
                "batch": "Crops per step",
                "crop": "Crop size",
                "validation": "Held back",
                "anchor": "Keep the base's skill",
            },
            words={
                "device": {"auto": "automatic", "cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple"},
                "optimizer": {"adamw": "AdamW", "sgd": "SGD, momentum 0.99"},
                "steps": {None: "until time is up"},
            },
            starts={"steps": 500, "diameter": 20},
            fold=False,
        )
        self._training.fields["diameter"].changed.connect(self.diameter_changed)
        self._augmentation = SettingsForm(self._defaults.augmentation, fold=False)
        self._network = SettingsForm(
            self._defaults.network, labels={"norm": "Normalisation"}, fold=False
        )
        self._network_part = QWidget()
        column = QVBoxLayout(self._network_part)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(heading("New network"))
        column.addWidget(self._network)
        body = self._fold.body
        body.addWidget(note("The defaults are good; nothing here needs to be changed."))
        body.addWidget(self._training)
        body.addWidget(heading("Random changes of the crops"))
        body.addWidget(self._augmentation)
        body.addWidget(self._network_part)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._fold)

    def show_network(self, visible: bool) -> None:
        """Offer the network's size, which matters only when training starts from scratch."""
        self._network_part.setVisible(visible)

    def unfold(self) -> None:
        """Open the expert settings."""
        self._fold.unfold()

    @property
    def diameter(self) -> float | None:
        """The cell diameter that the user gives, if any."""
        diameter: float | None = self._training.fields["diameter"].value()
        return diameter

    def settings(self, seconds: float) -> TrainSettings:
        """Return everything together.

        Raises
        ------
        SettingsError
            If values do not go together.
        """
        session = self._session
        network: NetworkSettings = self._network.settings()
        augmentation: AugmentationSettings = self._augmentation.settings()
        return dataclasses.replace(
            self._training.settings(),
            seconds=seconds,
            annotation=session.annotation_settings,
            weights=session.weight_settings,
            network=network,
            augmentation=augmentation,
        )

    def set_settings(self, settings: TrainSettings) -> None:
        """Show other settings."""
        self._training.set_settings(settings)
        self.diameter_changed.emit()
        self._augmentation.set_settings(settings.augmentation)
        self._network.set_settings(settings.network)
