"""Segment: from a model to objects, starting where the user looks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QProgressBar

from napari_unet.core.errors import InputError
from napari_unet.core.events import DiameterChosen
from napari_unet.jobs.events import JobFailed, JobFinished
from napari_unet.jobs.segmentation_job import Attention, SegmentationRequest, segmentation_job
from napari_unet.jobs.warm_up import DeviceFound, ModelLoaded
from napari_unet.widgets._label_plane import plane_index
from napari_unet.widgets._object_form import ObjectForm
from napari_unet.widgets._parts import RunButton
from napari_unet.widgets._progress import Progress
from napari_unet.widgets._result_actions import ResultActions
from napari_unet.widgets._segment_form import EVERYTHING, VIEW, SegmentForm, SegmentOptions
from napari_unet.widgets._segmentation_run import SegmentationRun
from napari_unet.widgets._size_finder import SizeFinder
from napari_unet.widgets._source import shown_index, shown_region, source_of
from napari_unet.widgets._thresholds import LiveThresholds
from napari_unet.widgets._view_feed import ViewFeed
from napari_unet.widgets._workshop import workshop_of
from napari_unet.widgets.panel import Panel

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from napari_unet.core.model import Model
    from napari_unet.core.settings import InstanceSettings
    from napari_unet.jobs.image_source import Region
    from napari_unet.jobs.instance_job import ObjectsFound
    from napari_unet.jobs.runner import Job

logger = logging.getLogger(__name__)

KEY = "segment"
TITLE = "Segmentation"


class SegmentPanel(Panel):
    """Segments the view, a plane or everything; objects appear as they are found."""

    title: ClassVar[str] = "Segment"

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._workshop = workshop_of(self.session)
        self._feed = ViewFeed(napari_viewer)
        self._run: SegmentationRun | None = None
        self._before: SegmentationRun | None = None
        #: The last segmentation of each other image.
        self._others: list[SegmentationRun] = []
        self._build()
        self.progress = Progress(self._bar, self.session.frames)
        self.thresholds = LiveThresholds(self.session, self._look_at, self)
        self.thresholds.settled.connect(self._on_settled)
        self.thresholds.failed.connect(self.show_error)
        self.sizes = SizeFinder(self.session, self.form, self._workshop, self)
        self.sizes.found.connect(self.form.show_estimate)
        self.result.use(self)
        self.connections.connect(self.session.job_finished, self._on_any_job_finished)
        self.connections.connect(self.session.closing, self.leave)
        self.connections.connect(self.session.image_changed, self._say_what_is_missing)
        self._say_what_is_missing(self.session.image)

    def _build(self) -> None:
        self.form = SegmentForm(self.session)
        self.form.measure_requested.connect(self.measure)
        self.body.addWidget(self.form)
        self.button = RunButton("Segment", "Stop (what is done stays)")
        self.button.start_requested.connect(self.start)
        self.button.stop_requested.connect(self.stop)
        self.body.addWidget(self.button)
        self._bar = QProgressBar()
        self.body.addWidget(self._bar)
        self.objects = ObjectForm()
        self.objects.changed.connect(self._on_thresholds)
        self.add_group("Which pixels make a cell").addRow(self.objects)
        self.result = ResultActions()
        self.add_group("With the result").addRow(self.result)
        self.options = SegmentOptions()
        self.body.addWidget(self.options)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Get PyTorch and the first model ready when the panel is first seen."""
        super().showEvent(event)
        QTimer.singleShot(0, self._workshop.prepare)

    @property
    def run(self) -> SegmentationRun | None:
        """The last segmentation, running or done."""
        return self._run

    @property
    def running(self) -> bool:
        """Whether a segmentation runs."""
        return self.session.jobs.running(KEY) is not None

    def measure(self) -> None:
        """Take the size of the painted cells as the cell size."""
        from napari_unet.core.diameter import median_diameter

        with self.errors_shown():
            annotation = self.session.annotation
            if annotation is None:
                raise InputError("Paint a few cells first; their size is then measured.")
            labels = annotation.data[0] if annotation.multiscale else annotation.data
            self.form.set_cell_size(median_diameter(np.asarray(labels)))

    def start(self) -> None:
        """Segment what is chosen."""
        with self.errors_shown():
            self.check_free(KEY)
            request = self._request()
            layer = self.chosen_image()
            self.thresholds.use(None)
            self._drop_last(layer)
            self._feed.follow(layer, request.source.channel_axis)
            self._run = SegmentationRun(
                self.viewer,
                self.session.frames,
                layer,
                request,
                show_probabilities=self.options.probabilities.isChecked(),
            )
            self.sizes.pause()
            self.button.set_running(True)
            self.progress.begin(TITLE)
            self.show_status("")
            self.session.jobs.start(
                KEY,
                TITLE,
                segmentation_job,
                request,
                attention=self._attention,
                on_event=self._on_event,
                on_finished=self._on_finished,
                on_failed=self._on_failed,
            )

    def stop(self) -> None:
        """End soon; what is segmented stays."""
        self.session.jobs.cancel(KEY)
        self.show_status("Stopping; what is done stays …")

    def chosen_image(self) -> Image:
        """Return the image to segment.

        Raises
        ------
        InputError
            If none is chosen.
        """
        layer: Image | None = self.form.image.layer
        if layer is None:
            raise InputError("Choose the image to segment.")
        return layer

    def chosen_model(self) -> str | Model:
        """Return the model, or the name or path of it.

        Raises
        ------
        InputError
            If none is chosen.
        """
        choice = self.form.model.choice
        model = None if choice is None else self._workshop.ready_model(choice.source)
        if model is None:
            raise InputError("Choose a model, or train one in the Train tab.")
        return model

    def leave(self) -> None:
        """Stop what was started here, and let go of the view and of timers; layers stay."""
        if self.button.running:
            self.session.jobs.cancel(KEY)
        self._feed.stop()
        self.thresholds.forget()
        self.sizes.pause()
        for run in (self._run, self._before, *self._others):
            if run is not None:
                run.close()
        self.progress.end()

    def _say_what_is_missing(self, image: Image | None) -> None:
        self.show_hint("Open an image to segment." if image is None else "")

    def _request(self) -> SegmentationRequest:
        layer, model = self.chosen_image(), self.chosen_model()
        channel_axis = self.form.channels.axis
        source = source_of(layer, channel_axis)
        here = shown_index(self.viewer, layer, channel_axis)
        part = self.form.part
        everything = part == EVERYTHING
        return SegmentationRequest(
            model,
            source,
            tuple(source.indices) if everything else (here,),
            region=shown_region(self.viewer, layer) if part == VIEW else None,
            diameter=self.form.cell_size(),
            tiles=self.options.tiles.settings(),
            instances=self.objects.chosen(),
            link=self.options.link_of(source.label_shape) if everything else None,
            known_diameters=self.sizes.known(),
        )

    def _drop_last(self, layer: Any) -> None:
        """Make room: the last result of this image goes, unless it was corrected or is wanted.

        It comes back when the new segmentation ends before it has anything to show.
        """
        last = self._last_of(layer)
        if last is None:
            return
        replaceable = last.alive and not last.stream.edited
        if replaceable and not self.options.keep.isChecked() and not self._in_use(last):
            last.take_out()
            self._before = last
        else:
            last.close()

    def _last_of(self, layer: Any) -> SegmentationRun | None:
        """Return the last segmentation of an image, and set those of others aside."""
        if self._run is not None:
            self._others.append(self._run)
        found, others = None, []
        for run in self._others:
            if run.image is layer:
                found = run
            elif run.alive and run.image in self.viewer.layers:
                run.rest()
                others.append(run)
            else:
                run.close()
        self._others = others
        return found

    def _forget_before(self) -> None:
        if self._before is not None:
            self._before.close()
            self._before = None

    def _give_up(self, run: SegmentationRun) -> None:
        """Take the empty layers of a segmentation away and bring the result before it back."""
        run.remove_layers()
        self._run, self._before = self._before, None
        if self._run is not None:
            self._run.put_back()
            self.thresholds.use(self._run)

    def _in_use(self, run: SegmentationRun) -> bool:
        return bool(run.stream.layer == self.session.annotation)

    def _attention(self) -> Attention | None:
        """Return where the user looks; called by the worker."""
        seen = self._feed.latest()
        return None if seen is None else (seen.index, seen.middle)

    def _look_at(self, run: SegmentationRun) -> tuple[tuple[int, ...], Region]:
        return plane_index(self.viewer, run.stream.layer), shown_region(
            self.viewer, run.stream.layer
        )

    def _on_event(self, event: Any) -> None:
        run = self._run
        if run is None:
            return
        if not run.alive:
            self.session.jobs.cancel(KEY)
            return
        run.handle(event)
        if run.drew_something:
            self._forget_before()
        if isinstance(event, DeviceFound):
            self._workshop.note_device(event)
        elif isinstance(event, ModelLoaded):
            self.objects.setEnabled(event.model.task == "objects")
        elif isinstance(event, DiameterChosen) and len(run.diameters) == 1:
            self.objects.show_model(run.own_thresholds(event.index))
        self.progress.update(run.fraction)

    def _on_finished(self, outcome: JobFinished) -> None:
        run = self._run
        if run is None:
            return
        if not run.alive:
            if run.drew_something or run.stream.layer in self.viewer.layers:
                self._forget_before()
            else:
                self._give_up(run)
            self.show_status("The result layer was removed or replaced, so segmenting stopped.")
            return
        if outcome.cancelled and not run.drew_something:
            self._give_up(run)
            back = "; the result before is back" if self._run is not None else ""
            self.show_status(f"Stopped before anything was segmented{back}.")
            return
        run.finish()
        self.thresholds.use(run)
        self.show_status(self._summary(run, outcome))
        if self.objects.chosen() != run.request.instances:  # moved while this was running
            self._on_thresholds(self.objects.chosen())

    def _summary(self, run: SegmentationRun, outcome: JobFinished) -> str:
        diameter = next(iter(run.diameters.values()), None)
        if diameter is not None:
            self.form.show_estimate(diameter)
        how = "Stopped after" if outcome.cancelled else "Done in"
        size = f", about {diameter:.0f} px across" if diameter is not None else ""
        return f"{how} {outcome.seconds:.1f} s: {outcome.result}{size}."

    def _on_failed(self, outcome: JobFailed) -> None:
        run = self._run
        self.show_status("")
        self.show_error(outcome.message)
        if run is None:
            return
        if run.drew_something:
            run.finish()
            self.thresholds.use(run)
            self.show_status("What was segmented before stays.")
        else:
            self._give_up(run)

    def _on_any_job_finished(self, job: Job) -> None:
        if job.title == TITLE:
            self.button.set_running(False)
            self.progress.end()
            self._feed.stop()
            self.sizes.resume()

    def _on_thresholds(self, settings: InstanceSettings | None) -> None:
        if self.running or self._run is None:
            return
        self.show_error("")
        left_out = self._run.store.left_out
        if not self.thresholds.apply(settings or "own"):
            self.show_status("Press Segment to use these thresholds.")
            return
        self._run.stream.layer.visible = True
        if left_out:
            self.show_status(
                f"{left_out} planes did not fit into memory; press Segment to change them too."
            )

    def _on_settled(self, found: ObjectsFound) -> None:
        self.show_status(f"{found} with these thresholds.")
