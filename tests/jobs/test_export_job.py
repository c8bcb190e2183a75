"""Writing labels to files, without a thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.io.registry import Export, format_named, formats
from napari_unet.jobs.events import JobFinished
from napari_unet.jobs.export_job import Written, export_job
from napari_unet.jobs.runner import run_inline


@pytest.fixture
def labels() -> np.ndarray:
    """Planes, each with rows of objects that touch at corners."""
    plane = np.zeros((40, 60), np.int32)
    plane[::2, ::2] = plane[1::2, 1::2] = np.arange(1, 601).reshape(20, 30)
    return np.stack([plane] * 3)


class StopsLater:
    """Asks to stop when it was asked for the ``patience``-th time."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > self.patience

    def cancel(self) -> None:
        self.patience = 0


def write(labels: np.ndarray, targets: Any, token: Any) -> tuple[list[Written], JobFinished]:
    events: list[Written] = []
    outcome = run_inline(
        "Saving", export_job, Export(labels), targets, on_event=events.append, token=token
    )
    assert isinstance(outcome, JobFinished)
    return events, outcome


@pytest.mark.parametrize(
    "name", [each.name for each in formats() if each.name not in ("tiff", "annotation")]
)
def test_stopping_within_a_file_leaves_the_older_one(
    labels: np.ndarray, tmp_path: Path, name: str
) -> None:
    """Closing the viewer stops, too: tens of thousands of outlines take longer than people wait."""
    path = format_named(name).path_for(tmp_path, "cells")
    patient = StopsLater(np.inf)
    events, _ = write(labels, [(name, path)], patient)
    assert [event.path for event in events] == [path]
    assert patient.asked > 3  # before the file, and within it
    before = sorted(tmp_path.rglob("*")), path.stat().st_mtime_ns
    for patience in (
        0,
        1,
        patient.asked // 2,
        patient.asked - 2,
    ):  # the job asks once more at its end
        events, outcome = write(labels, [(name, path)], StopsLater(patience))
        assert events == [] and outcome.result == () and outcome.cancelled
        assert (sorted(tmp_path.rglob("*")), path.stat().st_mtime_ns) == before


def test_closing_the_viewer_does_not_lose_what_is_being_saved(
    labels: np.ndarray, tmp_path: Path
) -> None:
    targets = [("tiff", tmp_path / "a.tif"), ("csv", tmp_path / "a.csv")]
    job = export_job(Export(labels), targets, cancelled=lambda: False)
    assert next(job) == Written(tmp_path / "a.tif")
    job.close()
    assert (tmp_path / "a.csv").exists()
    token = StopsLater(np.inf)
    job = export_job(Export(labels), [("tiff", tmp_path / "b.tif"), targets[1]], cancelled=token)
    next(job)
    (tmp_path / "a.csv").unlink()
    token.cancel()
    job.close()
    assert not (tmp_path / "a.csv").exists()


def test_files_before_the_one_that_is_stopped_stay(labels: np.ndarray, tmp_path: Path) -> None:
    targets = [("tiff", tmp_path / "a.tif"), ("csv", tmp_path / "a.csv")]
    events, outcome = write(labels, targets, StopsLater(2))
    assert [event.path.name for event in events] == ["a.tif"]
    assert outcome.result == (tmp_path / "a.tif",)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
