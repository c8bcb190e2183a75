"""Train: from painted cells to a model, with the improvement in sight."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QProgressBar

from napari_unet.core.errors import InputError, OutputError
from napari_unet.core.events import TrainingFinished, TrainingStarted, TrainingStep, Validation
from napari_unet.jobs.training_job import ModelSaved, Preview, training_job
from napari_unet.jobs.warm_up import DeviceFound
from napari_unet.widgets._loss_plot import LossPlot
from napari_unet.widgets._pairs_table import PairsTable
from napari_unet.widgets._parts import RunButton, row, seconds_box, small_button
from napari_unet.widgets._places import models_folder, new_model_file
from napari_unet.widgets._preferences import preference
from napari_unet.widgets._progress import Progress, duration
from napari_unet.widgets._save_dialog import ask_for_file, with_ending
from napari_unet.widgets._starting_size import size_match
from napari_unet.widgets._tips import explain
from napari_unet.widgets._training_form import TrainingForm
from napari_unet.widgets._training_preview import TrainingPreview
from napari_unet.widgets._training_report import finished_sentence, finished_table, score, started
from napari_unet.widgets._workshop import workshop_of
from napari_unet.widgets.model_chooser import MODEL_FILES, ModelChoice, ModelChooser
from napari_unet.widgets.panel import Panel, note
from napari_unet.widgets.segment import KEY as SEGMENT_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer
    from napari.layers import Image

    from napari_unet.core.model import Model
    from napari_unet.core.pairs import TrainingPair
    from napari_unet.core.settings import TrainSettings
    from napari_unet.core.training_state import TrainingState
    from napari_unet.jobs.events import JobFailed
    from napari_unet.jobs.runner import Job

logger = logging.getLogger(__name__)

KEY = "train"
TITLE = "Training"
#: Curve and bar move so often: a minute of training has no use for more.
_CURVE_SECONDS = 0.5
#: How the name of a model file ends.
_ENDINGS = (".safetensors",)


@dataclasses.dataclass(frozen=True)
class _Run:
    """What a run was started with, so that it can go on."""

    pairs: Sequence[TrainingPair]
    settings: TrainSettings
    base: str | Model | None
    name: str
    path: Path
    pixel_size: tuple[float, str] | None = None
    state: TrainingState | None = None


class TrainPanel(Panel):
    """Fine-tunes a model on what was painted; delivers it to the session and to a file."""

    title = "Train"

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._workshop = workshop_of(self.session)
        self._preview = TrainingPreview(napari_viewer, self.session.frames)
        self._run: _Run | None = None
        self._run_before: _Run | None = None
        self._delivered: Model | None = None
        self._trained = False
        self._drawn = 0.0
        self._build()
        self.progress = Progress(self._bar, self.session.frames)
        connect = self.connections.connect
        connect(self.session.settings_changed, self.pairs.update_area)
        connect(self.session.job_started, self._on_any_job_started)
        connect(self.session.job_finished, self._on_any_job_finished)
        connect(self.session.image_changed, self._on_image_changed)
        connect(self.session.annotation_changed, self._say_what_is_missing)
        connect(self._workshop.device_found, self._show_device)
        connect(self.session.closing, self.leave)
        if self._workshop.device is not None:
            self._show_device(self._workshop.device)
        self._say_what_is_missing()

    def _build(self) -> None:
        self.pairs = PairsTable(self.session)
        form = self.add_group("Learn from")
        form.addRow(self.pairs)
        self.base = ModelChooser(self.session, scratch=True)
        self.base.model_chosen.connect(self._on_base)
        self.base.describe(
            "The model that training improves. What fits the cells best is found by trying the "
            "models that come with the plugin on the cells you painted."
        )
        self.seconds = seconds_box(int(preference("train_seconds", 60)))
        explain(self.seconds, "How long to train. A minute is enough for a first look.")
        form = self.add_group("How")
        form.addRow("Start from", self.base)
        form.addRow("Time", self.seconds)
        self.device = note("")
        self.device.hide()
        form.addRow(self.device)
        self.button = RunButton("Train", "Stop and keep the best")
        explain(
            self.button,
            "Learn from what is painted now. The model is saved by itself and is then offered in "
            "the Segment tab.",
        )
        self.button.start_requested.connect(self.start)
        self.button.stop_requested.connect(self.stop)
        self.body.addWidget(self.button)
        self._bar = QProgressBar()
        self.body.addWidget(self._bar)
        self.plot = LossPlot()
        self.plot.hide()
        self.body.addWidget(self.plot)
        self.table = QLabel()
        self.table.setWordWrap(True)
        self.table.hide()
        self.body.addWidget(self.table)
        self.longer = small_button(
            "Train longer",
            "Go on with the same cells where training stopped; the model so far is kept. "
            "After painting more, press Train.",
        )
        self.longer.clicked.connect(self.train_longer)
        self.save_as = small_button("Save model as…", "Write the model to a file of your choice")
        self.save_as.clicked.connect(self.ask_where_to_save)
        self._after = row(self.longer, self.save_as)
        self._after.hide()
        self.body.addWidget(self._after)
        self.expert = TrainingForm(self.session)
        self.expert.diameter_changed.connect(self._match_size)
        self.body.addWidget(self.expert)
        self._on_base(self.base.choice)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Get PyTorch and the first model ready when the panel is first seen."""
        super().showEvent(event)
        QTimer.singleShot(0, self._workshop.prepare)

    @property
    def model(self) -> Model | None:
        """The model that the last training delivered."""
        return self._delivered

    @property
    def running(self) -> bool:
        """Whether a training runs."""
        return self.session.jobs.running(KEY) is not None

    def start(self) -> None:
        """Begin with what is painted now."""
        with self.errors_shown():
            self.check_free(KEY)
            pairs = self.pairs.pairs()
            settings = self.expert.settings(float(self.seconds.value()))
            choice = self.base.choice
            if choice is None:
                raise InputError("Choose a model to start from.")
            base = self._workshop.ready_model(choice.source)
            path = self._new_file(pairs)
            self._begin(_Run(pairs, settings, base, path.stem, path, self.pairs.pixel_size()))

    def train_longer(self) -> None:
        """Go on where the last run ended, for as long again as time and steps allow."""
        last = self._run
        if last is None or last.state is None:
            return
        with self.errors_shown():
            self.check_free(KEY)
            seconds = float(self.seconds.value())
            steps = self.expert.settings(seconds).steps
            settings = dataclasses.replace(
                last.settings,
                seconds=last.state.seconds + seconds,
                steps=None if steps is None else last.state.step + steps,
            )
            # The model so far may turn out to be the better one: its file stays.
            path = self._new_file(last.pairs)
            run = dataclasses.replace(last, settings=settings, name=path.stem, path=path)
            self._begin(run, resume=True)

    @staticmethod
    def _new_file(pairs: Sequence[TrainingPair]) -> Path:
        return new_model_file(pairs[0].name if pairs else "image", models_folder())

    def stop(self) -> None:
        """End soon and keep the best network so far."""
        self.session.jobs.cancel(KEY)
        if not self._trained:  # else only the last preview is stopped
            self.show_status("Stopping; the best network so far is kept …")

    def ask_where_to_save(self) -> None:
        """Let the user choose a file for the delivered model."""
        if self._run is None:
            return
        start = Path.home() / self._run.path.name
        path = ask_for_file(self, "Save the model", start, MODEL_FILES, _ENDINGS)
        if path is not None:
            self.save_model(path)

    def save_model(self, path: str | Path) -> None:
        """Write the delivered model to a file."""
        from napari_unet.core.model_file import save_model

        with self.errors_shown():
            if self._delivered is None:
                raise OutputError("There is no trained model yet; press Train first.")
            target = with_ending(path, _ENDINGS)
            save_model(self._delivered, target)
            self.show_status(f"Saved as {target}.")

    def leave(self) -> None:
        """Stop what was started here, and let go of the view and of timers."""
        if self.button.running:
            self.session.jobs.cancel(KEY)
        self._preview.stop()
        self._preview.discard()
        self.session.frames.forget(self.plot.draw)
        self.progress.end()

    def _begin(self, run: _Run, *, resume: bool = False) -> None:
        image = self.pairs.rows[0].image.layer
        if image is not None:
            self._follow(image)
        self._run, self._run_before = run, self._run
        self._trained = False
        self.plot.show()
        self.table.hide()
        self._after.hide()
        self.button.set_running(True)
        self.progress.begin(TITLE)
        self.show_status("Looking at the painted cells …")
        self.session.jobs.start(
            KEY,
            TITLE,
            training_job,
            run.pairs,
            run.settings,
            run.base,
            resume=run.state if resume else None,
            view=self._preview.view,
            save_to=run.path,
            name=run.name,
            pixel_size=run.pixel_size,
            on_event=self._on_event,
            on_failed=self._on_failed,
        )

    def _on_event(self, event: Any) -> None:
        if isinstance(event, TrainingStep):
            self._on_step(event)
        elif isinstance(event, DeviceFound):
            self._workshop.note_device(event)
        elif isinstance(event, TrainingStarted):
            self._on_started(event)
        elif isinstance(event, Validation):
            self.plot.add_score(event.seconds, score(event.scores))
        elif isinstance(event, Preview):
            self._preview.show(event)
        elif isinstance(event, TrainingFinished):
            self._on_trained(event)
        elif isinstance(event, ModelSaved):
            self._on_saved(event)

    def _on_started(self, event: TrainingStarted) -> None:
        task = "objects" if self._run is None else self._run.settings.annotation.task
        if event.first_step == 0:
            self.plot.clear()
        self.plot.explain(task)
        self.show_status(started(event, task))

    def _on_step(self, event: TrainingStep) -> None:
        self.plot.add_loss(event.seconds, event.loss)
        now = time.monotonic()
        if now - self._drawn < _CURVE_SECONDS:
            return
        self._drawn = now
        self.progress.update(event.fraction, self._time_left(event))
        self.session.frames.request(self.plot.draw)

    def _time_left(self, event: TrainingStep) -> str:
        settings = self._run.settings if self._run is not None else None
        if settings is None or settings.seconds is None:
            return ""
        left = max(0.0, settings.seconds - event.seconds)
        if settings.steps is not None:  # whichever ends first
            left = min(left, event.seconds / event.step * (settings.steps - event.step))
        return f"{duration(left)} left"

    def _on_trained(self, event: TrainingFinished) -> None:
        if self._run is not None:
            # Going on needs no second choice; one that was stopped is not binding.
            base = event.base if event.steps else self._run.base
            self._run = dataclasses.replace(self._run, state=event.state, base=base)
        self._delivered, self._trained = event.model, True
        if event.before is not None:
            self.plot.set_base(score(event.before))
        self.plot.add_score(event.seconds, score(event.after))
        table = finished_table(event)
        self.table.setText(table)
        self.table.setVisible(bool(table))
        self._after.show()
        QTimer.singleShot(0, self._scroll_to_figures)
        self.show_status(finished_sentence(event))
        self.session.model = event.model

    def _scroll_to_figures(self) -> None:
        self._scroll.ensureWidgetVisible(self._after)

    def _on_saved(self, event: ModelSaved) -> None:
        if event.problem is not None:
            self.show_error(f"{event.problem} The model is kept in memory: use Save model as….")
            return
        self.table.setToolTip(f"Saved as {event.path}")
        self.show_status(f"{self.status} Saved as {event.path.name}; ready in the Segment tab.")
        self.save_as.setToolTip(f"The model is in {event.path}")
        QTimer.singleShot(0, self._scroll_to_figures)  # the longer sentence took room from them

    def _on_failed(self, outcome: JobFailed) -> None:
        # What the run before delivered is still there to be saved and trained longer.
        self._run = self._run_before
        self._after.setVisible(self._delivered is not None)
        self.plot.setVisible(bool(self.plot.loss))
        self.table.setVisible(self._delivered is not None and bool(self.table.text()))
        self.show_status("")
        self.show_error(outcome.message)

    def _on_any_job_finished(self, job: Job) -> None:
        if job.title != TITLE:
            return
        self.plot.draw()
        self.button.set_running(False)
        self.progress.end()
        self._preview.stop()

    def _on_base(self, choice: ModelChoice | None) -> None:
        self.expert.show_network(choice is not None and choice.source is None)
        self._match_size()

    def _match_size(self) -> None:
        """Let the weight map's preview show lengths as the resampled image will have them."""
        choice = self.base.choice
        source = choice.source if choice else None
        self.session.size_match = size_match(source, self.expert.diameter)

    def _say_what_is_missing(self, _layer: Any = None) -> None:
        session = self.session
        if session.image is None:
            self.show_hint("Open an image, and paint a few cells in the Annotate tab.")
        elif session.annotation is None:
            self.show_hint("Paint a few cells in the Annotate tab first.")
        else:
            self.show_hint("")

    def _on_image_changed(self, layer: Any) -> None:
        self._say_what_is_missing()
        if self.running and layer is not None:
            self._follow(layer)

    def _follow(self, image: Image) -> None:
        objects = self.session.annotation_settings.task == "objects"
        self._preview.follow(image, self.pairs.rows[0].channel_axis, outlines=objects)

    def _on_any_job_started(self, job: Job) -> None:
        """Make room for the result of a segmentation."""
        if not self.running and self.session.jobs.running(SEGMENT_KEY) is job:
            self._preview.remove()

    def _show_device(self, found: DeviceFound) -> None:
        self.device.setText(f"Computes on the {found.reason}")
        self.device.show()
        self._match_size()
