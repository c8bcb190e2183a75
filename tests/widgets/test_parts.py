"""The small pieces that panels are made of."""

from __future__ import annotations

import time
from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

from napari_unet.widgets._parts import RunButton, seconds_box, small_button
from napari_unet.widgets.panel import WrappedLabel

LONG = "2024-03-11_Experiment_HeLa_DAPI_plate07_well_C04_field_012_channel0_maxproj.ome.tif"


def test_a_double_click_does_not_stop_what_it_started(qtbot: Any) -> None:
    button = RunButton("Segment", "Stop")
    qtbot.addWidget(button)
    heard: list[str] = []
    button.start_requested.connect(lambda: (heard.append("start"), button.set_running(True)))
    button.stop_requested.connect(lambda: heard.append("stop"))
    pause = QApplication.doubleClickInterval() + 20
    for _ in range(3):
        button.click()
    assert heard == ["start"]
    qtbot.wait(pause)
    button.click()
    assert heard == ["start", "stop"]
    assert not button.isEnabled()
    button.set_running(False)  # the work has ended at once
    button.click()
    assert heard == ["start", "stop"]
    qtbot.wait(pause)
    button.click()
    assert heard == ["start", "stop", "start"]


def test_a_start_that_takes_long_is_not_stopped_by_the_second_half_of_a_double_click(
    qtbot: Any,
) -> None:
    """The second click waits in the queue of events until the first was handled."""
    button = RunButton("Segment", "Stop")
    qtbot.addWidget(button)
    heard: list[str] = []

    def start() -> None:
        heard.append("start")
        button.set_running(True)
        time.sleep((QApplication.doubleClickInterval() + 50) / 1000)

    button.start_requested.connect(start)
    button.stop_requested.connect(lambda: heard.append("stop"))
    button.click()
    button.click()
    assert heard == ["start"]


@pytest.mark.parametrize("text", ["", "short words", f"Saved as {LONG}; ready in Segment."])
def test_a_long_file_name_wraps_and_is_returned_as_it_was(qtbot: Any, text: str) -> None:
    label = WrappedLabel(text)
    qtbot.addWidget(label)
    assert label.text() == text
    assert label.minimumSizeHint().width() < 300


@pytest.mark.parametrize("big", [True, False])
def test_a_number_that_is_being_typed_counts_when_a_button_is_clicked(
    qtbot: Any, big: bool
) -> None:
    """As on macOS, where a click does not take the focus from the box."""
    window = QWidget()
    qtbot.addWidget(window)
    box = seconds_box(60)
    button = RunButton("Train", "Stop") if big else small_button("Train longer", "")
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    layout = QVBoxLayout(window)
    layout.addWidget(box)
    layout.addWidget(button)
    window.show()
    window.activateWindow()
    box.setFocus()
    qtbot.waitUntil(box.hasFocus, timeout=10_000)
    box.selectAll()
    qtbot.keyClicks(box, "120")
    read: list[int] = []
    signal = button.start_requested if isinstance(button, RunButton) else button.clicked
    signal.connect(lambda: read.append(box.value()))
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert read == [120]
