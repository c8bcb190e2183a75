"""What the Segment panel does by itself once it is seen, and how soon the first objects show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from napari_unet.core.diameter import estimate_diameter
from napari_unet.core.model_file import list_models, load_model
from napari_unet.core.planes import as_plane
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.widgets import _size_finder
from napari_unet.widgets._workshop import workshop_of
from napari_unet.widgets.segment import SegmentPanel

pytestmark = pytest.mark.skipif(not list_models(), reason="no model comes with this checkout")


@pytest.fixture
def panel(make_napari_viewer: Any, qtbot: Any) -> Iterator[SegmentPanel]:
    viewer = make_napari_viewer()
    viewer.add_image(simulate_nuclei((160, 192), diameter=24, seed=3)[0])
    panel = SegmentPanel(viewer)
    qtbot.addWidget(panel)
    yield panel
    panel.session.close()


def test_device_model_and_cell_size_are_ready_before_the_click(
    panel: SegmentPanel, qtbot: Any
) -> None:
    """complaint 22: the device is shown with the reason."""
    workshop = workshop_of(panel.session)
    assert workshop.device is None
    panel.show()
    qtbot.waitUntil(lambda: bool(panel.sizes.known()), timeout=120_000)
    assert workshop.device.reason
    model = workshop.ready_model(list_models()[0])
    assert not isinstance(model, str)
    expected = estimate_diameter(
        load_model(list_models()[0]), as_plane(panel.viewer.layers[0].data)
    )
    assert panel.sizes.known() == {(): pytest.approx(expected)}
    assert panel.form.diameter.value() == pytest.approx(expected, abs=0.06)
    assert panel.form.cell_size() == "auto"  # it stays an estimate, not the user's number
    panel.form.set_part("plane")
    panel.start()
    qtbot.waitUntil(lambda: not panel.running, timeout=120_000)
    assert panel.run.diameters == {(): pytest.approx(expected)}
    assert np.asarray(panel.run.stream.layer.data).max() > 3


def test_the_users_number_wins(panel: SegmentPanel, qtbot: Any) -> None:
    panel.form.set_cell_size(31.0)
    panel.start()
    qtbot.waitUntil(lambda: not panel.running, timeout=120_000)
    assert panel.error == ""
    assert panel.run.diameters == {(): 31.0}


def test_another_image_in_the_place_of_a_removed_one_is_measured_anew(
    panel: SegmentPanel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new array often gets the ``id`` of one that was let go: it says nothing about pixels."""
    monkeypatch.setattr(_size_finder, "id", lambda thing: 7, raising=False)
    panel.show()
    qtbot.waitUntil(lambda: bool(panel.sizes.known()), timeout=120_000)
    first = panel.sizes.known()[()]
    panel.viewer.layers.clear()
    assert panel.sizes.known() == {}
    panel.viewer.add_image(simulate_nuclei((192, 192), 8, diameter=55, seed=3)[0])
    assert panel.sizes.known() == {}
    qtbot.waitUntil(lambda: bool(panel.sizes.known()), timeout=120_000)
    assert panel.sizes.known()[()] > 1.5 * first
