"""The mouse wheel over a panel scrolls it and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QScrollArea,
    QSlider,
    QSpinBox,
    QWidget,
)
from superqt import QLabeledSlider

from napari_unet.widgets.panel import Panel


def turn_wheel(widget: QWidget) -> None:
    """Offer a turn of the wheel to a widget and those around it, as Qt does with a real one."""
    receiver: QWidget | None = widget
    while receiver is not None:
        middle = receiver.rect().center()
        event = QWheelEvent(
            QPointF(middle),
            QPointF(receiver.mapToGlobal(middle)),
            QPoint(),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(receiver, event)
        if event.isAccepted():
            return
        receiver = receiver.parentWidget()


def value(field: Any) -> Any:
    return field.currentIndex() if isinstance(field, QComboBox) else field.value()


def make_fields() -> list[Any]:
    combo, slider, number = QComboBox(), QSlider(Qt.Orientation.Horizontal), QSpinBox()
    combo.addItems(["one", "two", "three"])
    labeled = QLabeledSlider(Qt.Orientation.Horizontal)
    for field in (slider, number, labeled):
        field.setRange(0, 9)
        field.setValue(5)
    combo.setCurrentIndex(1)
    return [combo, slider, number, labeled]


@pytest.fixture
def panel(viewer: Any, qtbot: Any) -> Iterator[Panel]:
    panel = Panel(viewer)
    qtbot.addWidget(panel)
    yield panel
    panel.session.close()


def test_scrolling_over_the_fields_of_a_panel_changes_none_of_them(
    panel: Panel, qtbot: Any
) -> None:
    fields = make_fields()
    form = panel.add_group("first")
    for field in fields:
        form.addRow("Field", field)
    panel.resize(330, 120)
    panel.show()
    qtbot.wait(20)
    later = make_fields()
    form = panel.add_group("added while it is shown")
    for field in later:
        form.addRow("Field", field)
    qtbot.wait(20)
    bar = panel.findChild(QScrollArea).verticalScrollBar()
    assert bar.maximum() > 0
    for field in (*fields, *later):
        for part in (field, *field.findChildren((QSlider, QAbstractSpinBox))):
            before = value(field)
            bar.setValue(0)
            turn_wheel(part)
            assert value(field) == before
            assert bar.value() > 0


def test_a_number_that_was_clicked_follows_the_wheel(
    panel: Panel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    combo, _slider, number, _labeled = fields = make_fields()
    form = panel.add_group("first")
    for field in fields:
        form.addRow("Field", field)
    panel.show()
    qtbot.wait(20)
    for field in (combo, number):  # a screen without a window manager gives no focus
        monkeypatch.setattr(field, "hasFocus", lambda: True)
        turn_wheel(field)
    assert number.value() == 4
    assert combo.currentIndex() == 1
