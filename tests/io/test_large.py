"""Planes larger than memory: the result of `segment`, bounded memory, going on after a kill."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from scipy import ndimage

from napari_unet.core.errors import InputError, OutputError
from napari_unet.core.events import BlocksDone, DiameterChosen, LargeSegmentationDone
from napari_unet.core.model import Model
from napari_unet.core.model_file import save_model
from napari_unet.core.segmentation import segment
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.core.unet import UNet
from napari_unet.io.large import iter_large_segmentation, segment_to_zarr
from napari_unet.io.ome_zarr import read_ome_zarr

THRESHOLDS = InstanceSettings(seed_threshold=0.6, mask_threshold=0.4, min_size=5)
TILES = TileSettings(tile=32)


@pytest.fixture(scope="module")
def model() -> Model:
    """A network that passes brightness through: bright blobs are objects."""
    net = UNet(1, 2, base_channels=1, depth=1, padding="same", norm=None, dropout=0)
    for parameter in net.parameters():
        parameter.data.zero_()
    for block in (net.contracting[0], net.expanding[0]):
        for layer in (block[0], block[2]):  # type: ignore[index]
            layer.weight.data[0, 0, 1, 1] = 1
    net.classifier.weight.data[:, 0, 0, 0] = torch.tensor([-3.0, 3.0])
    net.classifier.bias.data[:] = torch.tensor([1.5, -1.5])
    return Model(net.eval(), instances=THRESHOLDS, diameter=10.0)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(150, 130))
    return ndimage.gaussian_filter(values, 2).astype(np.float32)


def run(model: Model, image: Any, path: Path, **options: Any) -> list[Any]:
    options = {"settings": TILES, "diameter": None, "block": 64} | options
    return list(iter_large_segmentation(model, image, path, **options))


def stopped_after(count: int, model: Model, image: Any, path: Path) -> Any:
    """Cancel after so many blocks and return the last event."""
    seen: list[Any] = []
    events = iter_large_segmentation(
        model,
        image,
        path,
        settings=TILES,
        diameter=None,
        block=64,
        cancelled=lambda: sum(isinstance(event, BlocksDone) for event in seen) >= count,
    )
    for event in events:
        seen += [event]
    return seen[-1]


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(read_ome_zarr(path)[0][:])


@pytest.mark.parametrize("diameter", [None, 14.0])
def test_the_result_is_that_of_segment(
    model: Model, image: np.ndarray, tmp_path: Path, diameter: float | None
) -> None:
    """Complaint 18: the same labels, without ever holding the plane."""
    stored = zarr.create_array(tmp_path / "image.zarr", data=image, chunks=(50, 50))
    path = tmp_path / "labels.zarr"
    events = run(model, stored, path, diameter=diameter)
    whole = segment(model, image, diameter=diameter, settings=TILES)
    assert whole.max() > 20
    np.testing.assert_array_equal(labels_of(path), whole)
    assert isinstance(events[0], DiameterChosen)
    assert events[-1] == LargeSegmentationDone(path, int(whole.max()), True)
    assert not (tmp_path / "labels.zarr.work").exists()


def test_progress_of_every_stage(model: Model, image: np.ndarray, tmp_path: Path) -> None:
    events = run(model, image, tmp_path / "labels.zarr")
    stages = [e.stage for e in events if isinstance(e, BlocksDone)]
    assert list(dict.fromkeys(stages)) == ["prediction", "seeds", "growth", "holes", "numbers"]
    assert all(stages.count(stage) == 9 for stage in stages)


def test_cancel_and_go_on(
    model: Model, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complaint 11: finished blocks are not predicted again."""
    path = tmp_path / "labels.zarr"
    assert stopped_after(4, model, image, path) == LargeSegmentationDone(path, 0, False)
    assert not path.exists()

    predicted = []
    from napari_unet.io import large

    original = large.iter_tiles

    def counted(*arguments: Any, **options: Any) -> Any:
        predicted.append(options["region"])
        return original(*arguments, **options)

    monkeypatch.setattr(large, "iter_tiles", counted)
    run(model, image, path)
    assert len(predicted) == 5
    np.testing.assert_array_equal(
        labels_of(path), segment(model, image, diameter=None, settings=TILES)
    )


def test_cancel_while_labelling(model: Model, image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "labels.zarr"
    stages: list[str] = []
    for event in iter_large_segmentation(
        model,
        image,
        path,
        settings=TILES,
        diameter=None,
        block=64,
        cancelled=lambda: "growth" in stages,
    ):
        if isinstance(event, BlocksDone):
            stages.append(event.stage)
        last = event
    assert isinstance(last, LargeSegmentationDone)
    assert not last.complete
    assert segment_to_zarr(model, image, path, settings=TILES, diameter=None, block=64)
    np.testing.assert_array_equal(
        labels_of(path), segment(model, image, diameter=None, settings=TILES)
    )


def test_other_thresholds_do_not_use_what_was_kept_for_these(
    model: Model, image: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "labels.zarr"
    stopped_after(4, model, image, path)
    other = InstanceSettings(seed_threshold=0.5, mask_threshold=0.5, min_size=2)
    run(model, image, path, instances=other)
    np.testing.assert_array_equal(
        labels_of(path), segment(model, image, diameter=None, settings=TILES, instances=other)
    )


@pytest.mark.parametrize("views", [1, 8])
def test_other_views_do_not_use_what_was_predicted_with_one(
    model: Model, image: np.ndarray, tmp_path: Path, views: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels.zarr"
    stopped_after(4, model, image, path)
    with caplog.at_level(logging.INFO):
        run(model, image, path, settings=TileSettings(tile=32, views=views))
    assert ("belongs to another job" in caplog.text) == (views == 8)
    assert ("Going on" in caplog.text) == (views == 1)


def test_an_older_result_stays_until_the_new_one_is_complete(
    model: Model, image: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "labels.zarr"
    run(model, image, path)
    before = labels_of(path)
    list(iter_large_segmentation(model, 1 - image, path, diameter=None, cancelled=lambda: True))
    np.testing.assert_array_equal(labels_of(path), before)


def test_classes_are_refused(tmp_path: Path, image: np.ndarray) -> None:
    classes = Model(UNet(1, 2, 1, 1, "same"), task="classes")
    with pytest.raises(InputError, match="into objects, not classes"):
        run(classes, image, tmp_path / "labels.zarr")


def test_a_folder_that_cannot_be_written(model: Model, image: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        run(model, image, tmp_path / "file" / "labels.zarr")


def test_an_image_is_not_replaced_and_nothing_is_predicted_before_that_is_said(
    model: Model, image: np.ndarray, tmp_path: Path
) -> None:
    zarr.create_array(tmp_path / "image.zarr", data=image)
    with pytest.raises(OutputError, match="other than labels"):
        run(model, image, tmp_path / "image.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["image.zarr"]


SCRIPT = """
    import sys, zarr
    from napari_unet.core.model_file import load_model
    from napari_unet.core.settings import TileSettings
    from napari_unet.io.large import iter_large_segmentation
    image = zarr.open_array(sys.argv[1], mode="r")
    for event in iter_large_segmentation(
        load_model(sys.argv[2]), image, sys.argv[3],
        diameter=None, settings=TileSettings(tile=32), block=64,
    ):
        print(event, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_and_started_again(model: Model, image: np.ndarray, tmp_path: Path) -> None:
    """Complaint 18: kill -9 loses at most the block that was being predicted."""
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent(SCRIPT))
    zarr.create_array(tmp_path / "image.zarr", data=image, chunks=(64, 64))
    path = tmp_path / "labels.zarr"
    save_model(model, tmp_path / "model.safetensors")
    files = (script, tmp_path / "image.zarr", tmp_path / "model.safetensors", path)
    command = [sys.executable, *map(str, files)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    marks = tmp_path / "labels.zarr.work" / "predicted"
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as job:
        assert job.stdout is not None
        while "prediction', done=3" not in job.stdout.readline():
            assert job.poll() is None
        job.send_signal(signal.SIGKILL)
    assert len(list(marks.iterdir())) >= 3
    done = subprocess.run(command, capture_output=True, env=environment, text=True, check=True)
    assert "complete=True" in done.stdout
    np.testing.assert_array_equal(
        labels_of(path), segment(model, image, diameter=None, settings=TILES)
    )
