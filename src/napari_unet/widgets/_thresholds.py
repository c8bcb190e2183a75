"""Sliders that change objects at once where the user looks, and everywhere soon after."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.events import LabelsChanged
from napari_unet.core.settings import InstanceSettings
from napari_unet.jobs.events import JobFailed, JobFinished
from napari_unet.jobs.image_source import Region
from napari_unet.jobs.instance_job import KeptProbabilities, PlanesLinked, instance_job

if TYPE_CHECKING:
    from napari_unet.widgets._segmentation_run import SegmentationRun
    from napari_unet.widgets.session import Session

#: Settings, or the model's own, which are those of each plane.
Wanted = InstanceSettings | Literal["own"]
VIEW_KEY, ALL_KEY = "objects in view", "objects everywhere"
TITLE = "The new thresholds"
#: Pause after the last movement of a slider before everything is done again, in milliseconds.
REST_MS = 400
#: Objects cut by the border of the view need some surroundings, in pixels.
MARGIN = 64


class LiveThresholds(QObject):
    """Runs the instance step again on kept probabilities; nothing is predicted again.

    Signals
    -------
    settled
        The result shows these thresholds everywhere:
        :class:`~napari_unet.jobs.instance_job.ObjectsFound`.
    failed
        One sentence.
    """

    settled = Signal(object)
    failed = Signal(str)

    def __init__(
        self,
        session: Session,
        look: Callable[[SegmentationRun], tuple[tuple[int, ...], Region]],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._look = look
        self._run: SegmentationRun | None = None
        self._wanted: Wanted | None = None
        self._shown_in_view: Wanted | None = None
        self._shown_everywhere: Wanted | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REST_MS)
        self._timer.timeout.connect(self._everywhere)
        session.closing.connect(self.forget)

    @property
    def busy(self) -> bool:
        """True until the last slider position is shown everywhere."""
        running = self._session.jobs.running
        return (
            self._timer.isActive() or running(VIEW_KEY) is not None or running(ALL_KEY) is not None
        )

    def use(self, run: SegmentationRun | None) -> None:
        """Work on the probabilities of this run from now on."""
        self.forget()
        self._run = run

    def forget(self) -> None:
        """Drop what is under way; a result that was locked for it can be edited again."""
        self._timer.stop()
        run = self._run
        if run is not None and run.stream.streaming and not self._session.closed:
            run.stream.finish()
        if self._wanted is not None:  # else the jobs are another panel's
            self._session.jobs.cancel(VIEW_KEY)
            self._session.jobs.cancel(ALL_KEY)
        self._wanted = self._shown_in_view = self._shown_everywhere = None
        self._run = None

    def apply(self, settings: Wanted) -> bool:
        """Show other thresholds; False when there is nothing kept to apply them to."""
        run = self._run
        if run is None or not len(run.store) or not run.alive or self._session.closed:
            return False
        if run.stream.edited:
            run.fork()
        run.stream.lock()
        self._wanted = settings
        self._timer.start()
        self._session.jobs.cancel(ALL_KEY)
        self._in_view()
        return True

    def _in_view(self) -> None:
        run = self._run
        if run is None or self._session.jobs.running(VIEW_KEY) is not None:
            return
        if self._wanted is None or self._wanted == self._shown_in_view:
            return
        index, (rows, columns) = self._look(run)
        grown = (
            slice(max(0, rows.start - MARGIN), rows.stop + MARGIN),
            slice(max(0, columns.start - MARGIN), columns.stop + MARGIN),
        )
        kept = run.store.plane(index)
        part = None if kept is None else kept.part(grown)
        if part is not None:
            self._shown_in_view = self._wanted
            self._start(VIEW_KEY, [part], self._wanted)

    def _everywhere(self) -> None:
        run = self._run
        if run is None or self._wanted is None:
            return
        if self._session.jobs.running(ALL_KEY) is not None:
            self._timer.start()  # the one before is being stopped
            return
        self._shown_everywhere = self._wanted
        self._start(ALL_KEY, run.store.planes(), self._wanted)

    def _start(self, key: str, kept: list[KeptProbabilities], settings: Wanted) -> None:
        run = self._run
        if run is None:
            return
        everywhere = key == ALL_KEY

        def draw(event: LabelsChanged | PlanesLinked) -> None:
            if self._run is not run or settings != self._wanted:
                return
            if isinstance(event, PlanesLinked):
                run.stream.write_all(event.labels)
            # The view is a first answer: it must not overwrite the newer one of the whole.
            elif everywhere or settings != self._shown_everywhere:
                run.stream.write(event.index, event.slices, event.labels)

        whole = everywhere and not run.store.left_out
        job = self._session.jobs.start(
            key,
            TITLE,
            instance_job,
            kept,
            run.own_thresholds if settings == "own" else settings,
            link=run.link if whole else None,
            # Planes without probabilities keep their numbers: new ones must not collide.
            first=int(run.stream.array.max(initial=0)) if run.store.left_out else 0,
            on_event=draw,
            on_failed=self._on_failed,
        )
        job.ended.connect(self._on_all_ended if everywhere else self._on_view_ended)

    def _on_view_ended(self, _outcome: object) -> None:
        QTimer.singleShot(0, self._in_view)

    def _on_all_ended(self, outcome: JobFinished | JobFailed) -> None:
        run = self._run
        if run is None or self._timer.isActive() or isinstance(outcome, JobFailed):
            return
        if outcome.cancelled:
            return
        run.stream.finish()
        self.settled.emit(outcome.result)

    def _on_failed(self, outcome: JobFailed) -> None:
        if self._run is not None:
            self._run.stream.finish()
        self.failed.emit(outcome.message)
