"""A drop-down list that shortens long names in the middle: layer names often differ at the end."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QWidget,
)

from napari_unet.widgets._tips import explain

_PADDING = 4


class ElidedComboBox(QComboBox):
    """A drop-down list that never widens its panel, whatever the names in it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._help = ""
        self.currentTextChanged.connect(self.show_tip)

    def describe(self, text: str) -> None:
        """Say what is chosen here; the tooltip tells it below the whole name."""
        self._help = text
        self.show_tip()

    def show_tip(self, _text: str = "") -> None:
        """Take the present choice into the tooltip, also after it changed without a signal."""
        explain(self, self.currentText(), self._help)

    def shown_text(self) -> str:
        """Return the current text as it fits into the closed list."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        style = self.style()
        assert style is not None
        field = style.subControlRect(
            QStyle.ComplexControl.CC_ComboBox,
            option,
            QStyle.SubControl.SC_ComboBoxEditField,
            self,
        )
        width = max(0, field.width() - _PADDING)
        return str(
            self.fontMetrics().elidedText(self.currentText(), Qt.TextElideMode.ElideMiddle, width)
        )

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        """Paint the closed list as any other, with the shortened text."""
        painter = QStylePainter(self)
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        option.currentText = self.shown_text()
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()
