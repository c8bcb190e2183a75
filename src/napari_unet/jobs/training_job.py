"""Training with the part of an image that the user looks at predicted along the way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import UNetError
from napari_unet.core.events import TrainingFinished, TrainingStarted, TrainingStep, Validation
from napari_unet.core.settings import TileSettings, TrainSettings
from napari_unet.jobs.warm_up import DeviceFound

if TYPE_CHECKING:
    from napari_unet.core.model import Model
    from napari_unet.core.pairs import TrainingPair
    from napari_unet.core.training_state import TrainingState

logger = logging.getLogger(__name__)

#: Previews may use at most this share of the time: with the drawing, training keeps nine tenths.
PREVIEW_SHARE = 0.05
#: Longest side of the part of the view that is predicted, in pixels of the network.
PREVIEW_SIDE = 512
#: A long training writes the best network so far about so often, in seconds: computers crash.
KEEP_SECONDS = 120.0


@dataclass(frozen=True)
class View:
    """What the user looks at: one plane and the rows and columns that are shown.

    ``index`` is the position of the plane along the leading axes; it is handed back untouched, and
    so is ``source``, by which the asker knows the image again.
    """

    image: Any = field(repr=False, compare=False)
    channel_axis: int | None
    index: tuple[int, ...]
    region: tuple[slice, slice]
    source: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Preview:
    """The view as the network of this moment segments it."""

    step: int
    view: View
    labels: npt.NDArray[np.int32] = field(repr=False, compare=False)


@dataclass(frozen=True)
class ModelSaved:
    """The finished model was written to ``path``, or could not be, and why."""

    path: Path
    problem: str | None = None


def training_job(
    pairs: Sequence[TrainingPair],
    settings: TrainSettings,
    base: str | Model | None,
    *,
    resume: TrainingState | None = None,
    view: Callable[[int], View | None] | None = None,
    save_to: Path | None = None,
    name: str | None = None,
    pixel_size: tuple[float, str] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[Any, None, TrainingFinished | None]:
    """Train, predict the view after each validation and at the end, and write the model.

    Parameters
    ----------
    pairs
        Images with annotation; the caller must not change the labels afterwards.
    settings
        How to train.
    base
        A model, the name or path of one to load, ``"auto"`` for the shipped one that fits best, or
        None to start from scratch.
    resume
        State of an earlier run to go on from.
    view
        Asked after each validation for what the user looks at, at most so many pixels of the
        image per axis; may answer None.
    save_to
        Where the model goes, and in a long training the best so far; None keeps it in memory.
    name
        Name of the new model.
    pixel_size
        Of the images, with its unit, for the new model; None when not known.
    cancelled
        Ends the training in order; the best model so far is delivered and written, also when
        nobody listens any more (the viewer was closed).

    Yields
    ------
    :class:`~napari_unet.jobs.warm_up.DeviceFound`, the events of
    :func:`~napari_unet.core.training.iter_training`, :class:`Preview` and :class:`ModelSaved`.
    The finished event carries the model under its new name.

    Returns
    -------
    TrainingFinished or None
        The last event of the training.
    """
    from napari_unet.core.device import choose_device
    from napari_unet.core.training import iter_training

    device = choose_device(settings.device)
    yield DeviceFound(device.name, device.reason)
    events = iter_training(pairs, settings, base, resume=resume, cancelled=cancelled)
    about: dict[str, Any] = {"name": name} if name else {}
    if pixel_size is not None:
        about |= {"pixel_size": pixel_size[0], "pixel_unit": pixel_size[1]}
    run = _Run(events, view, settings, about, save_to, cancelled)
    try:
        yield from run.tell()
        finished = run.finished
        if finished is not None and save_to is not None:
            yield _save(finished.model, save_to)
    except GeneratorExit:  # the viewer was closed: nobody listens any more
        run.save_unheard()
        raise
    if finished is not None and view is not None and finished.reason != "stopped":
        # What was seen last may be another network than the one that is delivered.
        last = run.preview(finished.model, finished.steps)
        if last is not None:
            yield last
    return finished


class _Run:
    """The events of one training, with previews in between."""

    def __init__(
        self,
        events: Iterator[Any],
        view: Callable[[int], View | None] | None,
        settings: TrainSettings,
        about: dict[str, Any],
        save_to: Path | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.finished: TrainingFinished | None = None
        self._events = events
        self._view = view
        self._settings = settings
        self._about = about
        self._save_to = save_to
        self._cancelled = cancelled
        self._diameter: float | None = None
        self._learned = False
        self._start, self._spent = time.perf_counter(), 0.0
        self._kept = self._start

    def tell(self) -> Generator[Any, None, None]:
        """Yield what happens, and previews while there is time for them."""
        for event in self._events:
            yield self._take(event)
            if not isinstance(event, Validation):
                continue
            self._keep(event)
            if self._time_to_look():
                before = time.perf_counter()
                preview = self.preview(event.model, event.step)
                self._spent += time.perf_counter() - before
                if preview is not None:
                    yield preview

    def save_unheard(self) -> None:
        """End a training that was stopped in order, and write the best model so far."""
        path = self._save_to
        if path is None or not (self._learned and self._stopped()):
            return
        for event in self._events:
            self._take(event)
        if self.finished is not None:
            saved = _save(self.finished.model, path)
            logger.log(
                logging.WARNING if saved.problem else logging.INFO,
                "after the viewer was closed: %s",
                saved.problem or f"the model was saved as {path}",
            )

    def preview(self, model: Model, step: int) -> Preview | None:
        """Return the view as a network segments it; None where there is nothing to show."""
        if self._view is None:
            return None
        device = self._settings.device
        return _preview(model, step, self._view, self._diameter, device, self._cancelled)

    def _keep(self, event: Validation) -> None:
        """Write the best network so far now and then, in case that nothing comes of the rest."""
        now = time.perf_counter()
        if self._save_to is None or not event.best or now - self._kept < KEEP_SECONDS:
            return
        self._kept = now
        training = {"unfinished": True, "steps": event.step, "settings": self._settings.to_dict()}
        # What is wrong with the place is said at the end.
        _save(replace(event.model, **self._about, training=training), self._save_to)

    def _take(self, event: Any) -> Any:
        """Remember what is needed later; return the event as listeners get it."""
        if isinstance(event, TrainingFinished):
            event = replace(event, model=replace(event.model, **self._about))
            self.finished = event
        elif isinstance(event, TrainingStarted):
            self._diameter = event.diameter
        elif isinstance(event, TrainingStep):
            self._learned = True
        return event

    def _time_to_look(self) -> bool:
        share = PREVIEW_SHARE * (time.perf_counter() - self._start)
        return self._view is not None and not self._stopped() and self._spent <= share

    def _stopped(self) -> bool:
        return self._cancelled is not None and self._cancelled()


def preview_labels(
    model: Model,
    view: View,
    diameter: float | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    cancelled: Callable[[], bool] | None = None,
) -> npt.NDArray[np.int32] | None:
    """Return the objects (or classes) that a model sees in a view; None when cancelled."""
    from napari_unet.core.instances import at_scale, label_instances
    from napari_unet.core.prediction import iter_tiles, scale_factor

    rows, columns = view.region
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    probabilities = np.zeros((max(2, model.net.n_classes), *shape), dtype=np.float32)
    tiles = iter_tiles(
        model,
        view.image,
        channel_axis=view.channel_axis,
        settings=TileSettings(device=device),
        diameter=diameter,
        region=view.region,
        cancelled=cancelled,
    )
    for tile in tiles:
        y, x = tile.slices
        place = (
            slice(y.start - rows.start, y.stop - rows.start),
            slice(x.start - columns.start, x.stop - columns.start),
        )
        probabilities[(slice(None), *place)] = tile.probabilities
    if cancelled is not None and cancelled():
        return None
    if model.task == "classes":
        classes: npt.NDArray[np.int32] = np.argmax(probabilities, axis=0).astype(np.int32)
        return classes
    return label_instances(probabilities, at_scale(model.instances, scale_factor(model, diameter)))


def _preview(
    model: Model,
    step: int,
    view: Callable[[int], View | None],
    diameter: float | None,
    device: Literal["auto", "cpu", "cuda", "mps"],
    cancelled: Callable[[], bool] | None,
) -> Preview | None:
    from napari_unet.core.prediction import scale_factor

    try:
        seen = view(max(1, round(PREVIEW_SIDE / scale_factor(model, diameter))))
        if seen is None:
            return None
        labels = preview_labels(model, seen, diameter, device, cancelled)
    except Exception as error:  # whatever it is (NaN in the view, memory), training goes on
        logger.warning("no preview: %s", error, exc_info=not isinstance(error, UNetError))
        return None
    return None if labels is None else Preview(step, seen, labels)


def _save(model: Model, path: Path) -> ModelSaved:
    from napari_unet.core.atomic import output_error
    from napari_unet.core.model_file import save_model

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(model, path)
    except UNetError as error:
        return ModelSaved(path, str(error))
    except OSError as error:
        return ModelSaved(path, str(output_error(path, error)))
    return ModelSaved(path)
