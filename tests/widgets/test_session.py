"""One session per viewer: chosen layers, jobs, closing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from qtpy.QtCore import QCoreApplication, QEvent, QObject

from napari_unet.core.settings import AnnotationSettings, WeightMapSettings
from napari_unet.core.size_match import SizeMatch
from napari_unet.widgets._annotation_layer import set_channel_axis
from napari_unet.widgets.session import METADATA_KEY, Session, kind_of, same_layer, session_of


def heard(signal: Any) -> list[Any]:
    values: list[Any] = []
    signal.connect(lambda *arguments: values.append(arguments[0] if arguments else None))
    return values


def endless(*, cancelled: Callable[[], bool] | None = None) -> Iterator[int]:
    assert cancelled is not None
    while not cancelled():
        time.sleep(0.002)
        yield 1


def test_one_session_per_viewer_and_none_shared(make_napari_viewer: Any) -> None:
    one, other = make_napari_viewer(), make_napari_viewer()
    assert session_of(one) is session_of(one)
    assert session_of(one) is not session_of(other)
    image = one.add_image(np.zeros((8, 8)))
    assert same_layer(session_of(one).image, image)
    assert session_of(other).image is None


def test_the_proxy_that_plugins_get_leads_to_the_same_session(
    make_napari_viewer_proxy: Any,
) -> None:
    proxy = make_napari_viewer_proxy()
    session = session_of(proxy)
    image = proxy.add_image(np.zeros((8, 8)))
    assert session is session_of(proxy)
    assert same_layer(session.image, image)
    assert kind_of(image) == "image"
    proxy.layers.remove(image)
    assert session.image is None


def test_first_image_and_first_labels_are_chosen(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    session = session_of(viewer)
    images, annotations = heard(session.image_changed), heard(session.annotation_changed)
    image = viewer.add_image(np.zeros((8, 8)))
    viewer.add_image(np.ones((8, 8)))
    result = viewer.add_labels(np.zeros((8, 8), int), metadata={METADATA_KEY: {"role": "result"}})
    labels = viewer.add_labels(np.zeros((8, 8), int))
    assert session.image is image and images == [image]
    assert session.annotation is labels and annotations == [labels]
    assert result is not session.annotation


def test_existing_layers_are_found(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros((8, 8)))
    labels = viewer.add_labels(np.zeros((8, 8), int))
    session = session_of(viewer)
    assert session.image is image and session.annotation is labels


def test_rename_keeps_and_removal_drops_a_layer(make_napari_viewer: Any) -> None:
    """Complaint 25: deleting a layer is safe."""
    viewer = make_napari_viewer()
    session = session_of(viewer)
    image = viewer.add_image(np.zeros((8, 8)))
    other = viewer.add_image(np.zeros((8, 8)))
    labels = viewer.add_labels(np.zeros((8, 8), int))
    session.boxes = viewer.add_shapes()
    image.name, labels.name = "renamed", "also renamed"
    assert session.image is image and session.annotation is labels
    viewer.layers.remove(image)
    viewer.layers.remove(labels)
    viewer.layers.remove(session.boxes)
    assert session.image is other
    assert session.annotation is None and session.boxes is None


def test_an_image_whose_channels_were_chosen_is_an_image_as_any(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    other = viewer.add_image(np.zeros((3, 20, 20)), name="other")
    image = viewer.add_image(np.zeros((3, 20, 20)), name="cells")
    session = session_of(viewer)
    session.image = image
    for layer in (image, other):
        set_channel_axis(layer, 0)
    viewer.layers.remove(image)
    assert session.image is other
    viewer.layers.remove(other)
    assert session.image is None
    viewer.layers.append(other)
    assert session.image is other
    session.close()


def test_settings_are_announced_once_when_they_change(make_napari_viewer: Any) -> None:
    session = session_of(make_napari_viewer())
    changes = heard(session.settings_changed)
    session.annotation_settings = AnnotationSettings()
    session.weight_settings = WeightMapSettings()
    assert changes == []
    session.annotation_settings = AnnotationSettings(area="all")
    session.weight_settings = WeightMapSettings(w0=3)
    session.size_match = SizeMatch(20.0, 20.0)
    session.size_match = SizeMatch(20.0, 20.0)
    assert len(changes) == 3


def test_closing_the_viewer_stops_jobs_quickly(make_napari_viewer: Any, qtbot: Any) -> None:
    """Complaint 25: the viewer is closed during a run."""
    viewer = make_napari_viewer()
    session = session_of(viewer)
    closing = heard(session.closing)
    seen: list[int] = []
    job = session.jobs.start(
        "x", "Working", endless, on_event=seen.append, capacity=1, uses_torch=False
    )
    qtbot.waitUntil(lambda: len(seen) > 2)
    start = time.perf_counter()
    viewer.close()
    assert time.perf_counter() - start < 5
    assert session.closed and closing == [None]
    assert job.wait(0)


def test_jobs_are_announced(make_napari_viewer: Any, qtbot: Any) -> None:
    session = session_of(make_napari_viewer())
    started, finished = heard(session.job_started), heard(session.job_finished)
    job = session.jobs.start("x", "Working", endless, uses_torch=False)
    assert started == [job]
    job.cancel()
    qtbot.waitUntil(lambda: len(finished) == 1)


def test_a_refused_close_changes_nothing(make_napari_viewer: Any, qtbot: Any) -> None:
    """A close request from the window system may be answered "no" in napari's dialog."""
    viewer = make_napari_viewer()
    session = session_of(viewer)

    class SpontaneousClose(QEvent):
        def __init__(self) -> None:
            super().__init__(QEvent.Type.Close)

        def spontaneous(self) -> bool:
            return True

    session.eventFilter(session.parent(), SpontaneousClose())
    qtbot.wait(20)
    session.eventFilter(session.parent(), QEvent(QEvent.Type.Hide))
    assert not session.closed
    session.eventFilter(session.parent(), SpontaneousClose())
    session.eventFilter(session.parent(), QEvent(QEvent.Type.Hide))
    assert session.closed


def test_the_session_goes_with_its_window(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    session = session_of(viewer)
    parent = session.parent()
    assert isinstance(parent, QObject)
    assert parent.findChildren(Session) == [session]
    viewer.close()
    QCoreApplication.processEvents()
    assert session.closed


def test_python_may_end_while_the_window_is_open() -> None:
    code = """
import napari, numpy as np
from napari_unet.widgets.application import add_panels
viewer = napari.Viewer(show=False)
viewer.add_image(np.zeros((50, 50)))
dock = add_panels(viewer)
dock.show_panel("Annotate").make_annotation()
"""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    process = subprocess.run(
        [sys.executable, "-c", code], check=False, env=environment, capture_output=True
    )
    assert process.returncode == 0, process.stderr.decode()[-2000:]
