"""Loaded models and the device of one viewer, made ready in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, Signal

from napari_unet.jobs.warm_up import DeviceFound, ModelLoaded, warm_up_job
from napari_unet.widgets.model_chooser import shipped_names

if TYPE_CHECKING:
    from napari_unet.core.model import Model
    from napari_unet.widgets.session import Session

_NAME = "napari_unet.workshop"


def workshop_of(session: Session) -> Workshop:
    """Return the workshop of a session; it is made on the first call."""
    found = session.findChild(Workshop, _NAME, Qt.FindChildOption.FindDirectChildrenOnly)
    return found if found is not None else Workshop(session)


class Workshop(QObject):
    """Keeps what is slow to get: PyTorch's device and models read from files."""

    device_found = Signal(object)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.setObjectName(_NAME)
        self._session = session
        self._asked = False
        self._models: dict[str, Model] = {}
        self.device: DeviceFound | None = None
        session.closing.connect(self._models.clear)

    def prepare(self) -> None:
        """Start once, in the background, to make the first click quick."""
        if self._asked or self._session.closed:
            return
        self._asked = True
        shipped = shipped_names()
        self._session.jobs.start(
            "warm-up",
            "Getting ready",
            warm_up_job,
            shipped[0] if shipped else None,
            on_event=self._on_event,
        )

    def ready_model(self, source: str | Model | None) -> str | Model | None:
        """Return the loaded model in place of a shipped name, where there is one."""
        return self._models.get(source, source) if isinstance(source, str) else source

    def note_device(self, found: DeviceFound) -> None:
        """Remember and announce where the network runs."""
        self.device = found
        self.device_found.emit(found)

    def _on_event(self, event: DeviceFound | ModelLoaded) -> None:
        if isinstance(event, DeviceFound):
            self.note_device(event)
        else:
            self._models[event.source] = event.model
