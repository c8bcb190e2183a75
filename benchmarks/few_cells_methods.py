"""One run of one method on one case, scored."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from training.base_data import AnnotatedImage

from benchmarks import peers
from benchmarks.few_cells_data import Case, case
from benchmarks.few_cells_rows import Row
from napari_unet.core.base_choice import AUTOMATIC, choose_base
from napari_unet.core.diameter import median_diameter
from napari_unet.core.events import TrainingFinished
from napari_unet.core.metrics import match_table, merges_and_splits_table
from napari_unet.core.model import Model
from napari_unet.core.model_file import find_model, list_models, load_model
from napari_unet.core.overlap import overlap
from napari_unet.core.pairs import annotated_planes
from napari_unet.core.segmentation import Diameter, segment
from napari_unet.core.settings import TileSettings, TrainSettings
from napari_unet.core.training import iter_training

logger = logging.getLogger(__name__)

Labels = npt.NDArray[np.int32]
Device = Literal["auto", "cpu", "cuda", "mps"]

#: Methods that train for a budget; the others run once per case.
TIMED = ("tuned", "scratch", "cellpose")
METHODS = ("base", "tuned", "scratch", "forest", "otsu", "cellpose")
#: Methods whose result depends on the shipped models.
BASED = ("base", "tuned")


@dataclass(frozen=True)
class Job:
    """What is to be run: one method on one case with one budget (0 for methods without)."""

    kind: str
    seed: int
    cells: int
    budget: float
    method: str
    base: str = AUTOMATIC
    device: Device = "cpu"
    threads: int = 2

    def describe(self) -> dict[str, Any]:
        """Return the columns of a row that say what was run."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            "cells": self.cells,
            "budget": self.budget,
            "method": self.method,
            "base": base_identity(self.base) if self.method in BASED else "",
            "device": self.device,
            "threads": self.threads,
        }


@dataclass(frozen=True)
class Counts:
    """Objects right, wrong and missed, pooled over images."""

    tp50: int = 0
    fp50: int = 0
    fn50: int = 0
    tp75: int = 0
    fp75: int = 0
    fn75: int = 0
    merges: int = 0
    splits: int = 0

    def __add__(self, other: Counts) -> Counts:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Counts(*(mine + theirs for mine, theirs in pairs))


@lru_cache(maxsize=8)
def base_identity(name: str) -> str:
    """Return the name of the base with the start of a digest of its file (of all, if chosen)."""
    names = list_models() if name == AUTOMATIC else [name]
    digest = hashlib.sha256()
    for each in names:
        digest.update(find_model(each).read_bytes())
    return f"{name.rsplit('/', 1)[-1]}@{digest.hexdigest()[:8]}" if names else "none"


def count(truth: Labels, found: Labels) -> Counts:
    """Compare labels with the truth."""
    table = overlap(truth, found)
    half, strict = match_table(table, 0.5), match_table(table, 0.75)
    wrong = merges_and_splits_table(table)
    return Counts(
        half.tp, half.fp, half.fn, strict.tp, strict.fp, strict.fn, wrong.merges, wrong.splits
    )


def score(
    images: Iterable[AnnotatedImage], segmenter: Callable[[AnnotatedImage], Labels]
) -> tuple[Counts, float]:
    """Segment and compare images; return pooled counts and the seconds segmenting took."""
    total, seconds = Counts(), 0.0
    for item in images:
        start = time.perf_counter()
        found = segmenter(item)
        seconds += time.perf_counter() - start
        total += count(item.labels, found)
    return total, seconds


def run(job: Job) -> list[Row]:
    """Run a job and return one row per variant of its method.

    A method that fails has found nothing: all cells are missed, and the note says why.
    """
    torch.set_num_threads(job.threads)
    task = case(job.kind, job.seed, job.cells)
    described = job.describe() | {
        "painted": task.painted,
        "painted_on": task.painted_on.identifier if task.painted_on else "",
        "scored": len(task.scored),
    }
    rows = []
    try:
        for variant, counts, training, segmenting, note in _RUNNERS[job.method](job, task):
            rows.append(
                Row(
                    **described,
                    variant=variant,
                    **vars(counts),
                    train_seconds=round(training, 2),
                    segment_seconds=round(segmenting, 2),
                    note=note,
                )
            )
    except Exception as error:  # a peer may fail in any way; the grid goes on
        logger.exception("%s failed", job)
        missed = sum(len(np.unique(item.labels[item.labels > 0])) for item in task.scored)
        counts = Counts(fn50=missed, fn75=missed)
        rows.append(Row(**described, variant="failed", **vars(counts), note=str(error)[:200]))
    return rows


Outcome = tuple[str, Counts, float, float, str]


def unet_segmenter(
    model: Model, diameter: Diameter, device: Device
) -> Callable[[AnnotatedImage], Labels]:
    """Return what the public ``segment`` does, for scoring."""

    def found(item: AnnotatedImage) -> Labels:
        settings = TileSettings(device=device)
        return segment(model, item.image, settings=settings, diameter=diameter)

    return found


def starting_model(name: str, task: Case, settings: TrainSettings) -> Model | None:
    """Load the base, or choose it by what was painted, as training does."""
    if name != AUTOMATIC:
        return load_model(name)
    assert task.painted_on is not None
    pairs = [(task.painted_on.image, task.labels)]
    chosen = choose_base(annotated_planes(pairs), settings)
    return chosen.model if chosen else None


def train(
    task: Case, settings: TrainSettings, base: Model | str | None
) -> tuple[Model, float, str]:
    """Train on the painted cells; return model, seconds of everything, and the decision."""
    assert task.painted_on is not None
    start = time.perf_counter()
    for event in iter_training([(task.painted_on.image, task.labels)], settings, base):
        if isinstance(event, TrainingFinished):
            note = f"{event.steps} steps. {event.decision}"
            return event.model, time.perf_counter() - start, note
    raise AssertionError("training ends with TrainingFinished")


def _run_base(job: Job, task: Case) -> Iterator[Outcome]:
    """Score the base as it is; all shipped models when nothing is painted to choose by."""
    if task.painted_on is None:
        models = [load_model(n) for n in (list_models() if job.base == AUTOMATIC else [job.base])]
    else:
        chosen = starting_model(job.base, task, TrainSettings(device=job.device))
        models = [chosen] if chosen else []
    for model in models:
        for variant in ("auto", "true", "as is"):
            results = [_score_base(model.name, job, variant, item) for item in task.scored]
            counts = sum((counts for counts, _ in results), Counts())
            seconds = sum(seconds for _, seconds in results)
            name = variant if model is models[0] else f"{variant}, {model.name}"
            yield name, counts, 0.0, seconds, model.name


#: Base models do not change between cases: (model, device, variant, image) -> result.
_BASE_RESULTS: dict[tuple[str, str, str, str], tuple[Counts, float]] = {}


def _score_base(name: str, job: Job, variant: str, item: AnnotatedImage) -> tuple[Counts, float]:
    key = (name, job.device, variant, item.identifier)
    if key not in _BASE_RESULTS:
        model = load_model(name if job.base == AUTOMATIC else job.base)
        diameters: dict[str, Diameter] = {
            "auto": "auto",
            "true": median_diameter(item.labels),
            "as is": None,
        }
        segmenter = unet_segmenter(model, diameters[variant], job.device)
        _BASE_RESULTS[key] = score([item], segmenter)
    return _BASE_RESULTS[key]


def _run_tuned(job: Job, task: Case) -> Iterator[Outcome]:
    settings = TrainSettings(seconds=job.budget, device=job.device, seed=job.seed)
    model, used, note = train(task, settings, job.base)
    choices: dict[str, Diameter] = {"auto": "auto", "painted": task.diameter}
    for variant, diameter in choices.items():
        counts, seconds = score(task.scored, unet_segmenter(model, diameter, job.device))
        yield variant, counts, used, seconds, note


def _run_scratch(job: Job, task: Case) -> Iterator[Outcome]:
    settings = TrainSettings(seconds=job.budget, device=job.device, seed=job.seed)
    model, used, note = train(task, settings, None)
    counts, seconds = score(task.scored, unet_segmenter(model, task.diameter, job.device))
    yield "painted", counts, used, seconds, note


def _painted(task: Case) -> tuple[npt.NDArray[Any], Labels]:
    assert task.painted_on is not None
    assert task.labels is not None
    return task.painted_on.image, task.labels


def _run_forest(job: Job, task: Case) -> Iterator[Outcome]:
    start = time.perf_counter()
    segmenter = peers.random_forest(*_painted(task), seed=job.seed, threads=job.threads)
    used = time.perf_counter() - start
    counts, seconds = score(task.scored, lambda item: segmenter(item.image))
    yield "", counts, used, seconds, ""


def _run_otsu(job: Job, task: Case) -> Iterator[Outcome]:
    segmenter = peers.otsu(*_painted(task))
    counts, seconds = score(task.scored, lambda item: segmenter(item.image))
    yield "", counts, 0.0, seconds, ""


def _run_cellpose(job: Job, task: Case) -> Iterator[Outcome]:
    segmenter, used = peers.cellpose(*_painted(task), seconds=job.budget, seed=job.seed)
    counts, seconds = score(task.scored, lambda item: segmenter(item.image))
    yield "", counts, used, seconds, ""


_RUNNERS = {
    "base": _run_base,
    "tuned": _run_tuned,
    "scratch": _run_scratch,
    "forest": _run_forest,
    "otsu": _run_otsu,
    "cellpose": _run_cellpose,
}
