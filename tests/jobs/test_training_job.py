"""Training with previews of the view, without a thread."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.core.diameter import object_diameters
from napari_unet.core.events import TrainingFinished, TrainingStarted, TrainingStep, Validation
from napari_unet.core.model import Model
from napari_unet.core.model_file import load_model
from napari_unet.core.pairs import TrainingPair
from napari_unet.core.segmentation import segment
from napari_unet.core.settings import (
    AnnotationSettings,
    InstanceSettings,
    NetworkSettings,
    TrainSettings,
)
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.jobs.cancellation import CancelToken
from napari_unet.jobs.events import JobFailed, JobFinished
from napari_unet.jobs.runner import run_inline
from napari_unet.jobs.training_job import (
    ModelSaved,
    Preview,
    View,
    preview_labels,
    training_job,
)
from napari_unet.jobs.warm_up import DeviceFound, ModelLoaded, warm_up_job

SMALL = TrainSettings(
    seconds=None,
    steps=12,
    crop=32,
    batch=2,
    device="cpu",
    annotation=AnnotationSettings(area="all"),
    network=NetworkSettings(base_channels=4, depth=2),
)


@pytest.fixture(scope="module")
def pair() -> TrainingPair:
    image, labels = simulate_nuclei((96, 96), diameter=16, seed=1)
    return TrainingPair(image, labels, name="cells")


def run(*args: Any, **kwargs: Any) -> tuple[list[Any], JobFinished | JobFailed]:
    events: list[Any] = []
    return events, run_inline("Training", training_job, *args, on_event=events.append, **kwargs)


def test_events_arrive_in_order_and_the_model_is_saved(pair: TrainingPair, tmp_path: Path) -> None:
    path = tmp_path / "models" / "mine.safetensors"
    view = View(pair.image, None, (), (slice(10, 60), slice(0, 40)))
    events, outcome = run([pair], SMALL, None, view=lambda side: view, save_to=path, name="mine")
    assert isinstance(outcome, JobFinished), outcome
    kinds = [type(event) for event in events]
    assert kinds[:2] == [DeviceFound, TrainingStarted]
    assert kinds[-3:] == [TrainingFinished, ModelSaved, Preview]
    assert kinds.count(TrainingStep) == 12
    assert Validation in kinds
    previews = [event for event in events if isinstance(event, Preview)]
    assert previews
    assert previews[0].labels.shape == (50, 40)
    assert kinds[kinds.index(Preview) - 1] is Validation
    # What is seen in the end is what the delivered model makes of the view.
    np.testing.assert_array_equal(
        previews[-1].labels,
        preview_labels(outcome.result.model, view, events[1].diameter, "cpu"),
    )
    assert load_model(path).name == "mine"
    assert outcome.result.model.name == "mine"


def test_a_preview_is_the_models_own_segmentation_of_the_view(bright_model: Model) -> None:
    image = np.zeros((40, 50), np.float32)
    image[8:20, 10:30] = 1
    image[30:38, 30:45] = 1
    region = (slice(4, 38), slice(5, 48))
    labels = preview_labels(bright_model, View(image, None, (), region))
    assert labels is not None
    np.testing.assert_array_equal(labels > 0, image[region] > 0.5)
    assert labels.max() == 2
    assert (
        preview_labels(bright_model, View(image, None, (), region), cancelled=lambda: True) is None
    )


@pytest.mark.parametrize("diameter", [10.0, 20.0, 40.0])
def test_a_preview_drops_the_small_objects_that_segmenting_drops(
    bright_model: Model, diameter: float
) -> None:
    """A model's smallest object counts at the scale that its network sees."""
    image = np.zeros((60, 70), np.float32)
    image[8:16, 8:16] = image[30:50, 10:30] = image[10:16, 40:52] = 1
    model = replace(bright_model, diameter=20.0, instances=InstanceSettings(min_size=50))
    view = View(image, None, (), (slice(0, 60), slice(0, 70)))
    np.testing.assert_array_equal(
        preview_labels(model, view, diameter, "cpu"), segment(model, image, diameter=diameter)
    )


def test_previews_of_large_cells_match_their_size_to_the_network() -> None:
    """What is announced, and predicted with, is the size of the painted cells in the image."""
    image, labels = simulate_nuclei((160, 160), 6, diameter=60, seed=1)
    view = View(image, None, (), (slice(0, 160), slice(0, 160)))
    sides: list[int] = []
    events, outcome = run(
        [TrainingPair(image, labels)], SMALL, None, view=lambda side: sides.append(side) or view
    )
    assert isinstance(outcome, JobFinished), outcome
    diameter = events[1].diameter
    assert diameter == pytest.approx(np.median(object_diameters(labels)))
    model = outcome.result.model
    assert model.diameter is not None and model.diameter < diameter / 1.5
    np.testing.assert_array_equal(events[-1].labels, segment(model, image, diameter=diameter))


class Unreadable:
    shape, ndim, dtype = (20, 20), 2, np.dtype(np.uint8)

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getitem__(self, key: Any) -> np.ndarray:
        raise self.error


@pytest.mark.parametrize(
    "image",
    [
        np.full((20, 20), np.nan),
        Unreadable(OSError("the drive is gone")),
        Unreadable(MemoryError("Unable to allocate 2.00 GiB")),
        Unreadable(AttributeError("of the library that reads the file")),
    ],
)
def test_a_view_that_cannot_be_predicted_does_not_end_the_training(
    pair: TrainingPair, image: Any
) -> None:
    broken = View(image, None, (), (slice(0, 20), slice(0, 20)))
    events, outcome = run([pair], SMALL, None, view=lambda side: broken)
    assert isinstance(outcome, JobFinished)
    assert not [event for event in events if isinstance(event, Preview)]
    assert isinstance(events[-1], TrainingFinished)


def test_stopping_delivers_and_saves_the_best_so_far(pair: TrainingPair, tmp_path: Path) -> None:
    """complaint 11"""
    token = CancelToken()
    events: list[Any] = []

    def watch(event: Any) -> None:
        events.append(event)
        if isinstance(event, TrainingStep) and event.step == 3:
            token.cancel()

    path = tmp_path / "stopped.safetensors"
    outcome = run_inline(
        "Training", training_job, [pair], SMALL, None, save_to=path, on_event=watch, token=token
    )
    assert isinstance(outcome, JobFinished)
    assert outcome.cancelled
    assert outcome.result.reason == "stopped"
    assert outcome.result.steps < 12
    assert path.exists()


@pytest.mark.parametrize("moment", [TrainingStarted, TrainingStep, TrainingFinished])
def test_closing_the_viewer_saves_what_was_learned(
    pair: TrainingPair, tmp_path: Path, moment: type
) -> None:
    """The channel is closed at any moment: the generator is left at its last event."""
    token = CancelToken()
    path = tmp_path / "closed.safetensors"
    settings = replace(SMALL, steps=2 if moment is TrainingFinished else 100_000)
    job = training_job([pair], settings, None, save_to=path, name="closed", cancelled=token)
    for event in job:
        if isinstance(event, moment):
            break
    token.cancel()
    job.close()
    assert path.exists() is (moment is not TrainingStarted)
    if path.exists():
        assert load_model(path).name == "closed"


def test_a_long_training_keeps_the_best_so_far_in_the_file(
    pair: TrainingPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The computer may crash after an hour."""
    monkeypatch.setattr("napari_unet.jobs.training_job.KEEP_SECONDS", 0.0)
    path = tmp_path / "long.safetensors"
    job = training_job([pair], SMALL, None, save_to=path, name="long")
    for event in job:
        if path.exists():
            break
        assert not isinstance(event, TrainingFinished)
    kept = load_model(path)
    assert kept.name == "long" and kept.training["unfinished"]
    assert kept.training["settings"] == SMALL.to_dict()
    assert isinstance(list(job)[-1], ModelSaved)
    assert "unfinished" not in load_model(path).training


def test_a_short_training_is_written_once(pair: TrainingPair, tmp_path: Path) -> None:
    path = tmp_path / "short.safetensors"
    for event in training_job([pair], SMALL, None, save_to=path):
        assert isinstance(event, ModelSaved) or not path.exists()


def test_a_job_that_is_dropped_without_being_stopped_trains_no_further(
    pair: TrainingPair, tmp_path: Path
) -> None:
    path = tmp_path / "dropped.safetensors"
    settings = replace(SMALL, steps=100_000)
    job = training_job([pair], settings, None, save_to=path, cancelled=CancelToken())
    assert any(isinstance(event, TrainingStep) for event in job)
    job.close()
    assert not path.exists()


@pytest.mark.parametrize("folder", ["file", "file/deeper"])
def test_a_model_that_cannot_be_written_is_still_delivered(
    pair: TrainingPair, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    events, outcome = run([pair], SMALL, None, save_to=tmp_path / folder / "model.safetensors")
    assert isinstance(outcome, JobFinished)
    assert isinstance(events[-1], ModelSaved)
    assert "choose another" in str(events[-1].problem)
    assert outcome.result is not None


@pytest.mark.parametrize("labels", [np.zeros((96, 96), np.int32), np.zeros((5, 5), np.int32) + 1])
def test_what_cannot_be_learned_from_is_said_in_one_sentence(
    pair: TrainingPair, labels: np.ndarray
) -> None:
    _, outcome = run([TrainingPair(pair.image, labels)], SMALL, None)
    assert isinstance(outcome, JobFailed)
    assert "unexpected" not in outcome.message
    assert outcome.message.endswith(".")


def test_going_on_starts_where_training_stopped(pair: TrainingPair) -> None:
    import dataclasses

    _, first = run([pair], SMALL, None)
    assert isinstance(first, JobFinished)
    longer = dataclasses.replace(SMALL, steps=20)
    events, second = run([pair], longer, None, resume=first.result.state)
    assert isinstance(second, JobFinished), second
    steps = [event.step for event in events if isinstance(event, TrainingStep)]
    assert steps == list(range(13, 21))


def test_warming_up_finds_device_and_model(bright_model: Model, tmp_path: Path) -> None:
    from napari_unet.core.model_file import save_model

    path = tmp_path / "bright.safetensors"
    save_model(bright_model, path)
    events: list[Any] = []
    outcome = run_inline("Getting ready", warm_up_job, str(path), on_event=events.append)
    assert isinstance(outcome, JobFinished)
    assert isinstance(events[0], DeviceFound)
    assert events[0].reason
    assert isinstance(events[1], ModelLoaded)


def test_after_warming_up_an_optimiser_imports_nothing() -> None:
    """The first optimiser of a process imports PyTorch's compiler: over a second."""
    script = """
import sys
from napari_unet.jobs.warm_up import warm_up_job
list(warm_up_job("nuclei"))
import torch
before = set(sys.modules)
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
print(len(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0"
