"""Training: from painted cells to a model, as a generator of events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from napari_unet.core.base_choice import AUTOMATIC, choose_base
from napari_unet.core.delivery import cost_in_judgements, deliver
from napari_unet.core.device import choose_device, release_memory
from napari_unet.core.errors import InputError
from napari_unet.core.events import (
    Scores,
    TrainingFinished,
    TrainingStarted,
    TrainingStep,
    Validation,
)
from napari_unet.core.judging import judge, quality
from napari_unet.core.model import Model
from napari_unet.core.model_file import load_model
from napari_unet.core.normalization import Normalization
from napari_unet.core.optimization import Optimization, seeded
from napari_unet.core.pairs import TrainingPair, annotated_planes
from napari_unet.core.preparation import JudgedRegion, PreparedData, prepare, scale_factors
from napari_unet.core.settings import TileSettings, TrainSettings
from napari_unet.core.training_state import TrainingState
from napari_unet.core.unet import UNet

logger = logging.getLogger(__name__)

#: Validations per run.
VALIDATIONS = 10

TrainingEvent = TrainingStarted | TrainingStep | Validation | TrainingFinished
Pairs = Sequence[TrainingPair | tuple[Any, Any]]


def train(
    pairs: Pairs, settings: TrainSettings | None = None, base: Model | str | None = None
) -> Model:
    """Train a model on annotated images.

    Parameters
    ----------
    pairs
        Images with their annotation: :class:`TrainingPair` or ``(image, labels)``.
    settings
        How to train; by default 60 seconds on the best device.
    base
        Model to start from, its name or path; ``"auto"`` takes the shipped model that fits the
        painted cells best; None starts from scratch.

    Returns
    -------
    Model
        The best network on the validation cells; never worse there than ``base``.

    Raises
    ------
    UNetError
        If images, annotation or settings cannot be used.
    """
    for event in iter_training(pairs, settings, base):
        if isinstance(event, TrainingFinished):
            logger.info(event.decision)
            return event.model
    raise AssertionError("training ends with TrainingFinished")


def iter_training(
    pairs: Pairs,
    settings: TrainSettings | None = None,
    base: Model | str | None = None,
    *,
    resume: TrainingState | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[TrainingEvent]:
    """Train and report what happens; parameters as for :func:`train`.

    Parameters
    ----------
    resume
        State of an earlier run on the same data and base (``TrainingFinished.state``); the run
        goes on as if it had not been stopped.
    cancelled
        Looked at after each step, and while ``"auto"`` compares models; once it returns True the
        best network so far is delivered.

    Yields
    ------
    TrainingStarted, TrainingStep, Validation
        As they happen.
    TrainingFinished
        Last, always.
    """
    settings = settings or TrainSettings()
    clock = _Clock(settings, resume)
    device = choose_device(settings.device)
    base, known, data = _prepare(pairs, settings, base, device.device, cancelled)
    start = _starting_model(base, data, settings)
    run = Optimization(start, data, settings, device.device, fine_tuning=base is not None)
    assess = _Judge(data.validation or data.painted, settings)
    comparable = base if base is not None and _same_outputs(base, start) else None
    before = on_all = assess(comparable) if comparable is not None else None
    if comparable is not None and data.validation:
        # Who stops before the first step does not wait: trust matters only from there on.
        stopping = cancelled if resume is None else None
        on_all = known or _Judge(data.painted, settings)(comparable, stopping)
    run.follow(comparable, on_all)
    # Before the first step the weights are those of a base that need not be this one.
    if resume is not None and resume.step:
        resume.check_resumable(settings, run.net)
        run.restore(resume)
    yield TrainingStarted(
        device=device.name,
        objects=data.objects,
        validation_objects=data.validation_objects,
        trained_pixels=data.trained_pixels,
        diameter=data.object_diameter,
        first_step=run.step,
        warnings=data.warnings,
    )
    clock.begin()
    # A run that goes on with a larger budget is judged in the rest of it as often as a new one.
    run.validations = min(run.validations, int(clock.fraction(run) * VALIDATIONS))
    last_judgements = cost_in_judgements(data, assess.regions)
    stopped = yield from _steps(run, clock, assess, last_judgements, cancelled)
    state = run.state(clock.seconds)
    delivered = deliver(run, assess.regions, comparable, before, data, stopped=stopped)
    finished = TrainingFinished(
        model=delivered.model,
        before=before,
        after=delivered.scores,
        decision=delivered.decision,
        reason="stopped" if stopped else "finished",
        steps=run.step,
        seconds=clock.seconds,
        state=state,
        base=base,
    )
    # What is left of the run would otherwise stay on a GPU for as long as the event is looked at.
    del run, data, assess
    release_memory(device.device)
    yield finished


def _prepare(
    pairs: Pairs,
    settings: TrainSettings,
    base: Model | str | None,
    device: torch.device,
    cancelled: Callable[[], bool] | None,
) -> tuple[Model | None, Scores | None, PreparedData]:
    """Read the annotation, find the base, and build what training draws from.

    The scores are those of the base on all painted cells, where it was chosen by them.
    """
    if settings.seconds is None and settings.steps is None:
        raise InputError("Give a budget: a number of seconds or of steps.")
    planes = annotated_planes(pairs)
    known = None
    if base == AUTOMATIC:
        chosen = choose_base(planes, settings, cancelled=cancelled)
        base, known = (chosen.model, chosen.scores) if chosen else (None, None)
    elif isinstance(base, str):
        base = load_model(base)
    if base is not None:
        base.check_channels(planes[0].plane.channels)
    factors, diameter = scale_factors(planes, settings, base)
    normalization = base.normalization if base else Normalization()
    data = prepare(planes, factors, diameter, settings, normalization, _drawing_device(device))
    for warning in data.warnings:
        logger.warning(warning)
    return base, known, data


def _drawing_device(device: torch.device) -> torch.device:
    """Return where crops are drawn; Apple's GPU has neither bicubic sampling nor 64-bit numbers."""
    return device if device.type == "cuda" else torch.device("cpu")


def _same_outputs(base: Model, start: Model) -> bool:
    """Return whether the base answers the question that is trained, so that it may be kept."""
    return base.task == start.task and base.net.n_classes == start.net.n_classes


def _steps(
    run: Optimization,
    clock: _Clock,
    assess: _Judge,
    last_judgements: float,
    cancelled: Callable[[], bool] | None,
) -> Generator[TrainingStep | Validation, None, bool]:
    """Train until the budget is used up; return whether somebody stopped it before."""
    while clock.fraction(run) < 1 and not run.broken:
        if cancelled is not None and cancelled():
            return True
        loss, rate = run.advance(clock.fraction(run))
        fraction = clock.fraction(run)
        yield TrainingStep(run.step, clock.seconds, loss, rate, fraction)
        if int(fraction * VALIDATIONS) > run.validations and fraction < 1 and not run.broken:
            yield _validate(run, assess, clock, last_judgements)
    return False


def _validate(
    run: Optimization, assess: _Judge, clock: _Clock, last_judgements: float
) -> Validation:
    """Judge the moving average and remember it when it is the best so far."""
    began = time.monotonic()
    run.validations = int(clock.fraction(run) * VALIDATIONS)
    current = run.current_model()
    found = assess(current)
    best = run.remember(quality(found))
    clock.reserve(last_judgements * (time.monotonic() - began))
    return Validation(run.step, clock.seconds, found, best, current)


class _Clock:
    """How much of the budget is used up: seconds from the call on, counted over resumed runs.

    What comes before the first step and after the last one belongs to the seconds, too. Where
    that is dear, at least half of them are for steps all the same.
    """

    def __init__(self, settings: TrainSettings, resume: TrainingState | None) -> None:
        self._earlier = resume.seconds if resume else 0.0
        self._start = time.monotonic() - self._earlier
        self._budget, self._steps = settings.seconds, settings.steps
        self._preparation = self._reserved = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def begin(self) -> None:
        """Say that steps follow."""
        self._preparation = self.seconds - self._earlier

    def reserve(self, seconds: float) -> None:
        """Keep time for the final judgement, at most a fifth of the budget."""
        if self._budget is not None:
            self._reserved = min(seconds, 0.2 * self._budget)

    def fraction(self, run: Optimization) -> float:
        """Return 0 to 1; exact steps when there is no time budget, so that runs repeat."""
        shares = [0.0]
        if self._budget is not None:
            fewest = self._earlier + (self._budget - self._earlier) / 2
            for_steps = max(fewest, self._budget - self._preparation - self._reserved)
            shares.append((self.seconds - self._preparation) / for_steps)
        if self._steps is not None:
            shares.append(run.step / self._steps)
        return max(shares)


class _Judge:
    """Scores models on always the same painted cells."""

    def __init__(self, regions: Sequence[JudgedRegion], settings: TrainSettings) -> None:
        self.regions = regions
        self._tiles = TileSettings(device=settings.device)

    def __call__(self, model: Model, cancelled: Callable[[], bool] | None = None) -> Scores:
        return judge(model, self.regions, self._tiles, cancelled)[0]


def _starting_model(base: Model | None, data: PreparedData, settings: TrainSettings) -> Model:
    """Return the base, the base with a fresh classifier for other classes, or a new network."""
    task = settings.annotation.task
    if base is not None and base.task == task and base.net.n_classes >= data.n_classes:
        return replace(base, training={})
    names: tuple[str, ...] = ("background", "object")
    if task == "classes":
        names = ("background", *(f"class {k}" for k in range(1, data.n_classes)))
    # The global generator is put back afterwards: a library must not change it.
    with seeded(settings.seed, torch.device("cpu")):
        if base is None:
            options = settings.network.to_dict()
            net = UNet(in_channels=data.channels, n_classes=data.n_classes, **options)
            return Model(
                net.eval(), "trained", task, names, diameter=data.diameter, pixel_size=None
            )
        net = UNet(**{**base.net.config(), "n_classes": data.n_classes})
    features = {k: v for k, v in base.net.state_dict().items() if not k.startswith("classifier")}
    net.load_state_dict(features, strict=False)
    return replace(
        base, net=net.eval(), task=task, class_names=names, diameter=data.diameter, training={}
    )
