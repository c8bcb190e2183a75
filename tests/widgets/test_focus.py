"""Keys reach what the user means, and who works with them sees where they go."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QEnterEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QSpinBox, QWidget

from napari_unet.widgets.annotate import AnnotatePanel
from napari_unet.widgets.dock import UNetDock


def pointer_enters(widget: QWidget) -> None:
    QApplication.sendEvent(widget, QEnterEvent(QPointF(3, 3), QPointF(3, 3), QPointF(3, 3)))


@pytest.fixture
def focused(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend that a widget has the focus, which hidden windows cannot give it."""
    cleared: list[QWidget] = []

    def pretend(widget: QWidget) -> list[QWidget]:
        monkeypatch.setattr(QApplication, "focusWidget", staticmethod(lambda: widget))
        monkeypatch.setattr(widget, "clearFocus", lambda: cleared.append(widget))
        return cleared

    return pretend


def docked(viewer: Any) -> UNetDock:
    dock = UNetDock(viewer)
    viewer.window.add_dock_widget(dock, name="U-Net", area="right")
    return dock


def test_keys_are_the_viewers_again_when_the_pointer_goes_to_the_image(
    viewer: Any, focused: Any
) -> None:
    """A choice takes N and S for the first letters of its words, a number box swallows them."""
    dock = docked(viewer)
    canvas = viewer.window.main_menu.window().centralWidget()
    panel: Any = dock.panel("Annotate")
    choice = panel.form.fields["task"].editor
    cleared = focused(choice)
    pointer_enters(dock)
    assert cleared == []
    pointer_enters(canvas)
    assert cleared == [choice]


def test_a_focus_outside_the_panels_stays(viewer: Any, focused: Any) -> None:
    docked(viewer)
    other = QSpinBox()
    cleared = focused(other)
    pointer_enters(viewer.window.main_menu.window().centralWidget())
    assert cleared == []
    other.deleteLater()


def test_the_focus_is_framed_for_those_who_move_it_by_key(viewer: Any) -> None:
    dock = docked(viewer)
    panel: Any = dock.panel("Annotate")
    height = panel.sizeHint().height()
    assert dock.styleSheet() == ""
    QTest.keyClick(panel.new_button, Qt.Key.Key_Tab)
    assert ":focus" in dock.styleSheet()
    assert panel.styleSheet() == ""  # it is in the dock, which is framed as a whole
    panel.ensurePolished()
    assert panel.sizeHint().height() <= height


def test_a_panel_by_itself_frames_its_focus(viewer: Any, qtbot: Any) -> None:
    panel = AnnotatePanel(viewer)
    qtbot.addWidget(panel)
    QTest.keyClick(panel.new_button, Qt.Key.Key_Tab)
    assert ":focus" in panel.styleSheet()
    panel.session.close()
