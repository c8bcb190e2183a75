"""Taking objects over where there is little to take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_unet.core.settings import AnnotationSettings
from napari_unet.widgets._result_actions import EVERYTHING, PLANE, SELECTED
from napari_unet.widgets.segment import SegmentPanel
from napari_unet.widgets.session import METADATA_KEY


@pytest.mark.parametrize("scope", [PLANE, EVERYTHING, SELECTED])
def test_a_result_without_objects_makes_no_annotation(
    make_napari_viewer: Any, qtbot: Any, scope: str
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((2, 30, 40)), name="dark")
    panel = SegmentPanel(viewer)
    qtbot.addWidget(panel)
    result = viewer.add_labels(
        np.zeros((2, 30, 40), np.uint16),
        name="dark objects",
        metadata={METADATA_KEY: {"role": "result"}},
    )
    viewer.layers.selection.active = result
    panel.result.set_scope(scope)
    layers = list(viewer.layers)
    panel.result.use_as_annotation()
    assert "no objects" in panel.error and "train" in panel.error
    assert list(viewer.layers) == layers
    assert panel.session.annotation is None
    panel.session.close()


def test_an_object_is_picked_in_the_result_before_it_is_copied(
    make_napari_viewer: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((30, 40)), name="cells")
    panel = SegmentPanel(viewer)
    qtbot.addWidget(panel)
    labels = np.zeros((30, 40), np.uint16)
    labels[2:8, 2:8], labels[12:20, 12:20] = 1, 2
    result = viewer.add_labels(labels, metadata={METADATA_KEY: {"role": "result"}})
    panel.result.set_scope(SELECTED)
    panel.result.scope.activated.emit(panel.result.scope.currentIndex())
    assert viewer.layers.selection.active is result and str(result.mode) == "pick"
    assert "Click the object" in panel.status
    panel.result.use_as_annotation()
    assert "Click the object" in panel.error  # not object 1, which nobody has picked
    assert panel.session.annotation is None
    result.selected_label = 2
    panel.result.use_as_annotation()
    assert panel.error == ""
    copied = panel.session.annotation
    assert copied is not None
    assert np.array_equal(np.asarray(copied.data) > 0, labels == 2)
    assert "1 object copied" in panel.status
    # A new annotation is ready to be painted, but the next click picks the next object.
    assert viewer.layers.selection.active is result and str(result.mode) == "pick"
    panel.result.use_as_annotation()
    assert "annotated already" in panel.error
    assert panel.status == ""  # not that one object was copied
    panel.session.close()


def test_classes_become_classes_in_all_planes_and_never_objects(
    make_napari_viewer: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((2, 30, 40)), name="tissue")
    panel = SegmentPanel(viewer)
    qtbot.addWidget(panel)
    classes = np.zeros((2, 30, 40), np.uint16)
    classes[:, 2:8, 2:8], classes[:, 12:20, 12:20] = 1, 2
    entry = {"role": "result", "task": "classes"}
    result = viewer.add_labels(classes, metadata={METADATA_KEY: entry})
    viewer.layers.selection.active = result
    panel.result.set_scope(EVERYTHING)
    panel.result.use_as_annotation()
    assert "kinds of material" in panel.error  # the Annotate tab still says objects
    assert panel.session.annotation is None
    panel.session.annotation_settings = AnnotationSettings(task="classes", area="painted")
    panel.result.use_as_annotation()
    assert panel.error == ""
    copied = panel.session.annotation
    assert copied is not None
    np.testing.assert_array_equal(copied.data, classes)
    panel.session.close()
