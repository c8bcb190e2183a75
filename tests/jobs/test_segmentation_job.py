"""Segmenting planes and stacks without a thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_unet.core.events import LabelsChanged, PlaneDone, TileDone
from napari_unet.core.linking import link_planes
from napari_unet.core.model import Model
from napari_unet.core.segmentation import segment
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.jobs.cancellation import CancelToken
from napari_unet.jobs.events import JobFailed, JobFinished
from napari_unet.jobs.image_source import ImageSource
from napari_unet.jobs.instance_job import (
    ClassesFound,
    KeptProbabilities,
    Link,
    ObjectsFound,
    PlanesLinked,
    ProbabilityStore,
    instance_job,
)
from napari_unet.jobs.runner import run_inline
from napari_unet.jobs.segmentation_job import (
    NumbersShifted,
    PlaneStarted,
    SegmentationRequest,
    segmentation_job,
)


def blobs(shape: tuple[int, int], centres: list[tuple[int, int]], radius: int = 5) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape, np.float32)
    for cy, cx in centres:
        image[np.hypot(y - cy, x - cx) <= radius] = 1
    return image


STACK = np.stack(
    [
        blobs((60, 80), [(15, 15), (40, 60)]),
        blobs((60, 80), [(16, 17), (40, 20), (42, 61)]),
        blobs((60, 80), [(41, 62)]),
    ]
)


class Canvas:
    """Collects labels as the panel would."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.labels = np.zeros(shape, np.int32)
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, LabelsChanged):
            self.labels[(*event.index, *event.slices)] = event.labels
        elif isinstance(event, NumbersShifted):
            plane = self.labels[event.index]
            plane[plane > 0] += event.shift
        elif isinstance(event, PlanesLinked):
            self.labels[...] = event.labels


def run(request: SegmentationRequest, **kwargs: Any) -> tuple[Canvas, JobFinished | JobFailed]:
    canvas = Canvas(request.source.label_shape)
    return canvas, run_inline("Segmentation", segmentation_job, request, on_event=canvas, **kwargs)


def test_a_stack_gives_what_core_gives_in_any_order(bright_model: Model) -> None:
    """Panels, Python and the command line: one result."""
    source = ImageSource(STACK)
    request = SegmentationRequest(bright_model, source, tuple(source.indices))
    canvas, outcome = run(request, attention=lambda: ((2,), (30.0, 40.0)))
    started = [event.index for event in canvas.events if isinstance(event, PlaneStarted)]
    assert started == [(2,), (1,), (0,)]  # from where the user looks, outwards
    np.testing.assert_array_equal(canvas.labels, segment(bright_model, STACK))
    assert isinstance(outcome, JobFinished)
    assert outcome.result == ObjectsFound(3, 6)


def test_a_region_is_labelled_on_its_own(bright_model: Model) -> None:
    region = (slice(5, 55), slice(40, 80))
    source = ImageSource(STACK)
    request = SegmentationRequest(
        bright_model, source, ((1,),), region=region, tiles=TileSettings(tile=16)
    )
    canvas, _ = run(request)
    expected = np.zeros_like(canvas.labels)
    expected[(1, *region)] = STACK[(1, *region)] > 0.5
    np.testing.assert_array_equal(canvas.labels, expected)


def test_linked_planes_share_numbers(bright_model: Model) -> None:
    source = ImageSource(STACK)
    link = Link(STACK.shape, axis=0)
    request = SegmentationRequest(bright_model, source, tuple(source.indices), link=link)
    canvas, outcome = run(request)
    np.testing.assert_array_equal(canvas.labels, link_planes(segment(bright_model, STACK)))
    assert isinstance(outcome, JobFinished)
    assert outcome.result == ObjectsFound(3, 3)


def test_a_plane_that_was_not_completed_is_no_plane_in_words() -> None:
    assert str(ObjectsFound(0, 12)) == str(ObjectsFound(1, 12)) == "12 objects"
    assert str(ObjectsFound(3, 1)) == "1 object in 3 planes"


def test_classes_keep_their_numbers_and_are_told_as_shares(bright_model: Model) -> None:
    model = dataclasses.replace(bright_model, task="classes", class_names=("glass", "cell"))
    source = ImageSource(STACK)
    link = Link(STACK.shape, axis=0)
    request = SegmentationRequest(model, source, tuple(source.indices), link=link)
    canvas, outcome = run(request)
    np.testing.assert_array_equal(canvas.labels, STACK > 0.5)
    assert isinstance(outcome, JobFinished)
    share = float((STACK > 0.5).mean())
    assert outcome.result == ClassesFound((("glass", 1 - share), ("cell", share)))
    assert str(outcome.result) == f"{1 - share:.0%} glass, {share:.0%} cell"


@pytest.mark.parametrize("channel_axis", [None, 0, 1])
def test_a_plane_of_a_stack_on_disk_is_not_read_before_it_is_needed(
    tmp_path: Path, bright_model: Model, channel_axis: int | None
) -> None:
    """complaint 18: zarr reads whatever it is indexed with, so it is not indexed with a plane."""
    shape = list(STACK.shape)
    if channel_axis is not None:
        shape.insert(channel_axis, 1)
    pixels = STACK.reshape(shape)
    array = zarr.create_array(tmp_path / "stack", shape=shape, chunks=shape, dtype="float32")
    array[...] = pixels
    reads: list[tuple[Any, ...]] = []

    class Watched:
        def __init__(self) -> None:
            self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

        def __getitem__(self, key: tuple[Any, ...]) -> Any:
            reads.append(key)
            return array[key]

    source = ImageSource(Watched(), channel_axis=channel_axis)
    index = (1, 0) if channel_axis == 1 else (1,)  # channels behind another axis stay as one
    plane, axis = source.plane(index)
    assert not reads
    assert (plane.shape, axis) == (((60, 80), None) if channel_axis is None else ((1, 60, 80), 0))
    canvas, _ = run(SegmentationRequest(bright_model, source, (index,)))
    np.testing.assert_array_equal(canvas.labels[index], segment(bright_model, STACK[1]))


def test_stopping_keeps_the_planes_that_are_done(bright_model: Model) -> None:
    """complaint 11"""
    source = ImageSource(STACK)
    request = SegmentationRequest(bright_model, source, tuple(source.indices))
    canvas = Canvas(STACK.shape)
    done: list[PlaneDone] = []

    def collect(event: Any) -> None:
        canvas(event)
        done.extend([event] if isinstance(event, PlaneDone) else [])

    token = CancelToken()

    def stop_after_one(event: Any) -> None:
        collect(event)
        if done:
            token.cancel()

    outcome = run_inline(
        "Segmentation", segmentation_job, request, on_event=stop_after_one, token=token
    )
    assert isinstance(outcome, JobFinished)
    assert outcome.cancelled
    assert outcome.result.planes == 1
    np.testing.assert_array_equal(canvas.labels[0] > 0, STACK[0] > 0.5)
    assert canvas.labels[1:].max() == 0


def test_numbers_are_unique_when_a_plane_cannot_be_segmented(bright_model: Model) -> None:
    stack = STACK[[0, 1, 0]].copy()
    stack[2, 50, 70] = np.nan
    source = ImageSource(stack)
    canvas, outcome = run(SegmentationRequest(bright_model, source, tuple(source.indices)))
    assert isinstance(outcome, JobFailed)
    np.testing.assert_array_equal(canvas.labels[:2], segment(bright_model, stack[:2]))


def test_numbers_are_unique_when_reading_ends_in_the_middle_of_a_plane(
    bright_model: Model,
) -> None:
    class Fading:
        """Unreadable below row 45 of the last plane, but while its intensities are measured."""

        def __init__(self) -> None:
            self.shape, self.dtype, self.ndim, self.reads = STACK.shape, STACK.dtype, 3, 0

        def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
            self.reads += key[0] == 2
            if key[0] == 2 and self.reads != 2 and key[1].stop > 45:
                raise OSError("the drive is gone")
            return np.asarray(STACK[[1, 1, 0]][key])

    source = ImageSource(Fading())
    request = SegmentationRequest(
        bright_model, source, tuple(source.indices), tiles=TileSettings(tile=32)
    )
    canvas, outcome = run(request)
    assert isinstance(outcome, JobFailed)
    seen = [set(np.unique(plane[plane > 0]).tolist()) for plane in canvas.labels]
    assert [len(ids) for ids in seen] == [3, 3, 1]
    assert len(set().union(*seen)) == 7


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda image: np.where(image > 0, np.nan, image), "NaN"),
        (lambda image: np.repeat(image[..., None], 3, axis=-1), "RGB"),
    ],
)
def test_what_cannot_be_segmented_is_said_in_one_sentence(
    bright_model: Model, make: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    image = make(STACK[0])
    source = ImageSource(image, rgb=image.ndim == 3)
    _, outcome = run(SegmentationRequest(bright_model, source, ((),)))
    assert isinstance(outcome, JobFailed)
    assert words in outcome.message


def test_kept_probabilities_give_the_same_objects_again(bright_model: Model) -> None:
    """Thresholds re-run only the instance step (PEERS: cellpose-napari)."""
    source = ImageSource(STACK)
    store = ProbabilityStore(10_000_000)
    whole = (slice(0, 60), slice(0, 80))
    canvas, _ = run(
        SegmentationRequest(
            bright_model, source, tuple(source.indices), tiles=TileSettings(tile=16)
        )
    )
    for event in canvas.events:
        if isinstance(event, PlaneStarted):
            store.open(event.index, whole)
        elif isinstance(event, TileDone):
            store.put(event.index, event.slices, event.probabilities)
    again = Canvas(STACK.shape)
    outcome = run_inline(
        "Thresholds", instance_job, store.planes(), bright_model.instances, on_event=again
    )
    np.testing.assert_array_equal(again.labels, canvas.labels)
    assert isinstance(outcome, JobFinished)
    assert outcome.result == ObjectsFound(3, 6)
    strict = Canvas(STACK.shape)
    settings = InstanceSettings(min_size=10_000)
    run_inline("Thresholds", instance_job, store.planes(), settings, on_event=strict)
    assert strict.labels.max() == 0


def test_planes_beyond_the_memory_limit_are_counted_and_left_out() -> None:
    store = ProbabilityStore(4 * 100)
    store.open((0,), (slice(0, 10), slice(0, 10)))
    store.open((1,), (slice(0, 10), slice(0, 10)))
    assert (len(store), store.left_out) == (1, 1)
    store.put((1,), (slice(0, 5), slice(0, 5)), np.ones((2, 5, 5), np.float32))
    assert store.plane((1,)) is None
    kept = store.plane((0,))
    assert kept is not None
    assert kept.part((slice(20, 30), slice(0, 5))) is None


def test_new_numbers_can_begin_after_those_of_planes_that_are_not_kept() -> None:
    values = np.zeros((20, 20), np.float32)
    values[2:8, 2:8] = values[12:18, 12:18] = 1
    kept = KeptProbabilities((1,), (slice(0, 20), slice(0, 20)), values)
    canvas = Canvas((2, 20, 20))
    outcome = run_inline(
        "Thresholds", instance_job, [kept], InstanceSettings(), first=40, on_event=canvas
    )
    assert np.unique(canvas.labels).tolist() == [0, 41, 42]
    assert isinstance(outcome, JobFinished)
    assert outcome.result == ObjectsFound(1, 2)
