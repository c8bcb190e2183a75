"""Where keys go: seen by those who work with them, and back to the viewer with the pointer."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication, QMainWindow, QWidget

# napari's style shows no focus. A frame of no colour keeps the sizes that napari gives.
_STYLE = """
QPushButton { border: 1px solid transparent; padding: 3px; }
QToolButton, QCheckBox { border: 1px solid transparent; }
QComboBox { border: 1px solid transparent; padding: 2px 9px 2px 7px; }
QAbstractSpinBox { border: 1px solid transparent; padding: 0px 9px; }
QTabBar::tab { border: 1px solid transparent; }
QPushButton:focus, QToolButton:focus, QCheckBox:focus, QComboBox:focus, QAbstractSpinBox:focus,
QTabBar::tab:selected:focus { border-color: #e8820c; }
QSlider::handle:horizontal:focus { background-color: #e8820c; }
"""


def show_focus(widget: QWidget) -> None:
    """Frame what has the keyboard focus in a widget from now on."""
    around: QWidget | None = widget
    while around is not None:
        if around.styleSheet() == _STYLE:
            return
        around = around.parentWidget()
    widget.setStyleSheet(_STYLE)


class FocusReturn(QObject):
    """Gives the keys to the viewer when the pointer goes from a panel to the image.

    A choice or a number that was used last would swallow them: N, S and the others are meant for
    what is under the pointer.

    Parameters
    ----------
    panel
        Whose fields let go; it owns this object.
    window
        The viewer's window.
    """

    def __init__(self, panel: QWidget, window: QMainWindow) -> None:
        super().__init__(panel)
        canvas = window.centralWidget()
        if canvas is not None:
            canvas.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Notice the pointer; the event itself is never touched."""
        if event is None or event.type() != QEvent.Type.Enter:
            return False
        panel, field = self.parent(), QApplication.focusWidget()
        if not isinstance(panel, QWidget) or field is None or not panel.isAncestorOf(field):
            return False
        field.clearFocus()  # a number that was being typed is taken
        window = watched.window() if isinstance(watched, QWidget) else None
        if window is not None and field.window() is not window:  # a panel that floats
            window.activateWindow()
        return False
