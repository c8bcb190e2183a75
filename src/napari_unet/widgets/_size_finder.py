"""Finds the size of the cells in the shown image before anybody asks for a segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.settings import TileSettings
from napari_unet.jobs.size_job import SizeFound, size_job
from napari_unet.widgets._source import shown_index, source_of

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_unet.core.model import Model
    from napari_unet.widgets._segment_form import SegmentForm
    from napari_unet.widgets._workshop import Workshop
    from napari_unet.widgets.session import Session

#: Array, channel axis, and key and source of the model.
_Subject = tuple[Any, int | None, str, Any]

KEY = "size"
#: The user may still be choosing; milliseconds.
PAUSE_MS = 500


class SizeFinder(QObject):
    """Estimates the object size of the chosen plane in the background and remembers it.

    The estimate needs several predictions; done beforehand, the first tile of a segmentation
    comes at once. It is the same number that segmenting with ``"auto"`` finds.

    Signals
    -------
    found
        The diameter of the plane in image pixels, or None.
    """

    found = Signal(object)

    def __init__(
        self, session: Session, form: SegmentForm, workshop: Workshop, panel: QWidget
    ) -> None:
        super().__init__(panel)
        self._session = session
        self._form = form
        self._workshop = workshop
        self._panel = panel
        self._known: dict[tuple[int, ...], float | None] = {}
        self._about: _Subject | None = None
        self._paused = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PAUSE_MS)
        self._timer.timeout.connect(self._look)
        form.target_changed.connect(self.ask)
        workshop.device_found.connect(self.ask)

    @property
    def busy(self) -> bool:
        """Whether a size is being looked for."""
        return self._timer.isActive() or self._session.jobs.running(KEY) is not None

    def known(self) -> dict[tuple[int, ...], float | None]:
        """Return the sizes found for the planes of the chosen image with the chosen model."""
        return dict(self._known) if _same(self._about, self._subject()) else {}

    def ask(self, _cause: object = None) -> None:
        """Look for the size soon, if it is wanted and not known."""
        if not _same(self._about, self._subject()):
            self._about, self._known = None, {}  # keep no image alive that is not chosen any more
        if not self._paused:
            self._timer.start()

    def pause(self) -> None:
        """Leave the processor to a segmentation."""
        self._paused = True
        self._timer.stop()
        self._session.jobs.cancel(KEY)

    def resume(self) -> None:
        """Look again."""
        self._paused = False

    def _subject(self) -> _Subject | None:
        """Return what a size belongs to: the pixels and the model themselves, not their names."""
        layer, choice = self._form.image.layer, self._form.model.choice
        if layer is None or choice is None or choice.source is None:
            return None
        array = layer.data[0] if layer.multiscale else layer.data
        return (array, self._form.channels.axis, choice.key, choice.source)

    def _look(self) -> None:
        subject = self._subject()
        busy = self._session.jobs.busy
        if subject is None or self._paused or not self._panel.isVisible():
            return
        if self._form.cell_size() != "auto" or self._workshop.device is None:
            return
        layer, choice = self._form.image.layer, self._form.model.choice
        index = shown_index(self._session.viewer, layer, self._form.channels.axis)
        if _same(self._about, subject) and index in self._known:
            return
        if busy:
            self._timer.start()
            return
        model: str | Model = self._workshop.ready_model(choice.source)  # type: ignore[union-attr,assignment]
        plane, channel_axis = source_of(layer, self._form.channels.axis).plane(index)

        def remember(event: SizeFound) -> None:
            if not _same(self._subject(), subject):
                return
            if not _same(self._about, subject):
                self._about, self._known = subject, {}
            self._known[event.index] = event.diameter
            self.found.emit(event.diameter)

        self._session.jobs.start(
            KEY,
            "Measuring the cells",
            size_job,
            model,
            plane,
            channel_axis,
            index,
            TileSettings(),
            on_event=remember,
        )


def _same(a: _Subject | None, b: _Subject | None) -> bool:
    """Compare by identity: arrays have no other, and a number as ``id`` is soon given again."""
    if a is None or b is None:
        return a is b
    return a[0] is b[0] and a[1:3] == b[1:3] and a[3] is b[3]
