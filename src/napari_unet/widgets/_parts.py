"""Small pieces that several panels are made of."""

from __future__ import annotations

import time

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.widgets._tips import explain

# Blue starts and red stops, readable on napari's dark and light themes alike.
_START_STYLE = """
QPushButton { background-color: #2f6fb3; color: white; border-radius: 4px; }
QPushButton:hover { background-color: #3b82cc; }
QPushButton:disabled { background-color: #6b7280; color: #d1d5db; }
"""
_STOP_STYLE = _START_STYLE.replace("#2f6fb3", "#a8433b").replace("#3b82cc", "#c2554c")


class Clicks:
    """Tells the second half of a double click from a click that is meant."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def again(self) -> bool:
        """Whether a click that comes now belongs to the one before it."""
        now = time.monotonic()
        again = 1000 * (now - self._last) < QApplication.doubleClickInterval()
        self._last = now
        return again

    def handled(self) -> None:
        """Say that the click took effect only now: what was clicked meanwhile belongs to it."""
        self._last = time.monotonic()


def take_typed_number() -> None:
    """Accept a number that is still being typed.

    A box takes it when it loses the focus, and on macOS a click on a button leaves the focus there.
    """
    box = QApplication.focusWidget()
    if isinstance(box, QAbstractSpinBox):
        box.interpretText()


class RunButton(QPushButton):
    """The one big button of a panel: starts the work, and stops it while it runs.

    Signals
    -------
    start_requested, stop_requested
        What the user wants; the text changes only with :meth:`set_running`.
    """

    start_requested = Signal()
    stop_requested = Signal()

    def __init__(self, start: str, stop: str) -> None:
        super().__init__(start)
        self._texts = {False: start, True: stop}
        self._running = False
        self._clicks = Clicks()
        self.setMinimumHeight(40)
        font = self.font()
        font.setBold(True)
        font.setPointSizeF(font.pointSizeF() * 1.25)
        self.setFont(font)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setStyleSheet(_START_STYLE)
        self.clicked.connect(self._on_clicked)

    @property
    def running(self) -> bool:
        """Whether a click stops instead of starts."""
        return self._running

    def set_running(self, running: bool) -> None:
        """Show what a click does next."""
        self._running = running
        self.setText(self._texts[running])
        self.setStyleSheet(_STOP_STYLE if running else _START_STYLE)
        self.setEnabled(True)

    def _on_clicked(self) -> None:
        if self._clicks.again():
            return  # the second half of a double click would stop what the first half began
        take_typed_number()
        if self._running:
            self.setEnabled(False)  # one click is enough; enabled again when the work has ended
            self.stop_requested.emit()
        else:
            self.start_requested.emit()
        self._clicks.handled()


class Fold(QWidget):
    """A heading that unfolds what is below it."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setArrowType(Qt.ArrowType.RightArrow)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.content = QWidget()
        self.body = QVBoxLayout(self.content)
        self.body.setContentsMargins(8, 0, 0, 0)
        self.content.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.button)
        column.addWidget(self.content)
        self.button.toggled.connect(self._on_toggled)

    def unfold(self) -> None:
        """Open it."""
        self.button.setChecked(True)

    def _on_toggled(self, open_: bool) -> None:
        self.content.setVisible(open_)
        arrow = Qt.ArrowType.DownArrow if open_ else Qt.ArrowType.RightArrow
        self.button.setArrowType(arrow)


def heading(text: str) -> QLabel:
    """Return a bold line."""
    label = QLabel(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def small_button(text: str, tip: str) -> QPushButton:
    """Return a button of ordinary size with an explanation."""
    button = QPushButton(text)
    explain(button, tip)
    button.clicked.connect(take_typed_number)
    return button


def row(*widgets: QWidget) -> QWidget:
    """Put widgets side by side."""
    holder = QWidget()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return holder


def seconds_box(value: int) -> QSpinBox:
    """Return a box for a time budget."""
    box = QSpinBox()
    box.setRange(5, 24 * 3600)
    box.setSingleStep(15)
    box.setValue(value)
    box.setSuffix(" s")
    box.setKeyboardTracking(False)
    return box
