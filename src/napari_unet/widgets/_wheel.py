"""The mouse wheel over a panel scrolls it."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QScrollBar, QWidget


class WheelGuard(QObject):
    """Keeps a wheel that is turned to scroll from changing the field under the pointer.

    A number follows the wheel only after it was clicked, a choice never: after choosing, the
    pointer is still over it.
    """

    def watch(self, content: QWidget) -> None:
        """Guard all fields in a widget; may be called again when there are more."""
        for kind in (QAbstractSlider, QAbstractSpinBox, QComboBox):
            for field in content.findChildren(kind):
                if isinstance(field, QScrollBar):
                    continue
                if field.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                    field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # the wheel gives no focus
                field.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Pass a wheel on to what scrolls."""
        if event is None or event.type() != QEvent.Type.Wheel or not isinstance(watched, QWidget):
            return False
        if watched.hasFocus() and not isinstance(watched, QComboBox):
            return False
        event.ignore()  # Qt offers it to the widget around it then
        return True
