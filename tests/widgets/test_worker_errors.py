"""Whatever goes wrong in a worker: one sentence in its panel, which is ready for the next click."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.core.model import Model
from napari_unet.core.settings import AnnotationSettings, TileSettings
from napari_unet.widgets.dock import UNetDock

# torch raises RuntimeError for shapes and for memory; superqt alone would lose it.
ERRORS = [RuntimeError("shape mismatch"), MemoryError(), KeyError("x")]


@pytest.fixture
def dock(
    make_napari_viewer: Any, bright_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[UNetDock]:
    monkeypatch.setattr("napari_unet.widgets.train.models_folder", lambda: tmp_path)
    viewer = make_napari_viewer()
    image = np.zeros((40, 48), np.float32)
    image[8:16, 8:16] = image[24:32, 20:28] = 1
    viewer.add_image(image, name="cells")
    viewer.add_labels((image > 0).astype(np.int32), name="painted")
    dock = UNetDock(viewer)
    dock.session.model = bright_model
    dock.session.annotation_settings = AnnotationSettings(area="all")
    segment: Any = dock.panel("Segment")
    segment.options.tiles.set_settings(TileSettings(device="cpu"))
    segment.form.set_part("plane")
    yield dock
    dock.session.close()
    dock.deleteLater()


@pytest.fixture
def quiet(dock: UNetDock, qtbot: Any) -> Callable[[], None]:
    return lambda: qtbot.waitUntil(lambda: not dock.session.jobs.busy, timeout=60_000)


def raising(error: Exception) -> Callable[..., Any]:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fails


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_training_checking_and_saving(
    dock: UNetDock,
    quiet: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: Exception,
) -> None:
    train: Any = dock.panel("Train")
    train.base.choose("scratch")
    segment: Any = dock.panel("Segment")
    export: Any = dock.panel("Export")
    fails = raising(error)
    with monkeypatch.context() as patch:
        patch.setattr("napari_unet.core.training.iter_training", fails)
        patch.setattr("napari_unet.core.prediction.check_seams", fails)
        patch.setattr("napari_unet.jobs.export_job.format_named", fails)
        train.start()
        segment.result.check_seams()
        export.save(tmp_path / "masks.tif")
        quiet()
    for panel in (train, segment, export):
        assert panel.error.endswith(".")
        assert "\n" not in panel.error
        assert panel.status == ""
    assert not train.button.running and not export.button.running
    assert segment.result.seams.isEnabled()
    export.save(tmp_path / "masks.tif")  # and again, as if nothing had happened
    segment.result.check_seams()
    quiet()
    assert export.error == "" and (tmp_path / "masks.tif").exists()
    assert "Tiles of" in segment.status


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_thresholds(
    dock: UNetDock,
    quiet: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
    error: Exception,
) -> None:
    segment: Any = dock.panel("Segment")
    segment.start()
    quiet()
    editor = segment.objects.form.fields["mask_threshold"].editor
    with monkeypatch.context() as patch:
        patch.setattr("napari_unet.core.instances.label_instances", raising(error))
        editor.setValue(0.7)
        qtbot.waitUntil(lambda: not segment.thresholds.busy, timeout=60_000)
    assert segment.error.endswith(".")
    assert segment.run.stream.layer.editable  # what is there can still be corrected
    editor.setValue(0.6)
    qtbot.waitUntil(lambda: not segment.thresholds.busy, timeout=60_000)
    assert "with these thresholds" in segment.status
    assert segment.error == ""  # it spoke of the try before
