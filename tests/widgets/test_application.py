"""What the command `napari-unet` opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.widgets.application import Guide, add_panels, first_start


def test_the_first_start_shows_a_sample_and_a_guide(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer()
    dock = add_panels(viewer, welcome=True)
    assert [layer.name for layer in viewer.layers] == [
        "simulated nuclei",
        "simulated nuclei (truth)",
    ]
    assert dock.session.image is viewer.layers[0]
    assert dock.session.annotation is None  # the truth is for comparing, not for training
    guide = dock.findChild(Guide)
    assert guide.text.text().count("<br>") == 2
    assert np.asarray(viewer.layers[1].data).max() > 10
    dock.session.close()


def test_an_image_opened_beside_the_sample_is_the_one_to_paint_on(
    make_napari_viewer: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    dock = add_panels(viewer, welcome=True)
    mine = viewer.add_image(np.zeros((40, 50)), name="mine")
    assert dock.session.image is mine
    dock.panel("Annotate").new_button.click()
    assert dock.session.annotation.data.shape == (40, 50)
    dock.session.close()


def test_a_sample_that_is_painted_on_stays_chosen(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer()
    dock = add_panels(viewer, welcome=True)
    dock.panel("Annotate").new_button.click()
    viewer.add_image(np.zeros((40, 50)), name="another")
    assert dock.session.image.name == "simulated nuclei"
    dock.session.close()


def test_later_starts_show_the_panels_only(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    dock = add_panels(viewer)
    assert not viewer.layers
    assert dock.findChild(Guide) is None
    dock.session.close()


def test_the_first_start_is_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert first_start(folder)
    assert not first_start(folder)


def test_a_folder_that_cannot_be_written_does_not_keep_napari_from_opening(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert first_start(tmp_path / "file")


def test_the_welcome_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_unet.widgets.application.preference", lambda name, default: False)
    assert not first_start(tmp_path)
