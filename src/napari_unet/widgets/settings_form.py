"""A form made from the descriptions of a settings class; reads and writes an instance of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Generic, TypeVar

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider, QLabeledSlider

from napari_unet.core.settings import FieldInfo, Settings, describe
from napari_unet.widgets._tips import explain

S = TypeVar("S", bound=Settings)

_LARGEST_INT = 2**31 - 1


class PlainDoubleSpinBox(QDoubleSpinBox):
    """A box for numbers of any size that shows no zeros behind the last digit but one."""

    def textFromValue(self, value: float) -> str:  # noqa: N802
        """Return ``0.001`` for 0.001, whatever number of decimals may be typed."""
        whole, point, rest = super().textFromValue(value).partition(self.locale().decimalPoint())
        return f"{whole}{point}{rest.rstrip('0') or '0'}" if point else whole


class Field(QWidget):
    """One setting: an editor, and a tick box in front where "decide for me" is allowed."""

    changed = Signal()

    def __init__(
        self,
        info: FieldInfo,
        *,
        slider: tuple[float, float] | None,
        words: Any,
        start: float | None = None,
    ) -> None:
        super().__init__()
        self.info = info
        #: The number that a ticked box begins with.
        self._number = start
        self._own_number = False
        self._words: Mapping[Any, str] = words or {}
        self.editor = self._make_editor(slider)
        explain(self.editor, info.help)
        explain(self, info.help)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._own_value: QCheckBox | None = None
        if info.optional and info.choices is None:
            self._own_value = QCheckBox()
            self._own_value.setToolTip("Ticked: use this value. Not ticked: decided for you.")
            self._own_value.toggled.connect(self._on_own_value)
            self._show_number(False)
            layout.addWidget(self._own_value)
        layout.addWidget(self.editor, 1)

    def _on_own_value(self, on: bool) -> None:
        self._show_number(on)
        self.changed.emit()

    def _show_number(self, on: bool) -> None:
        """Show the number, or in its place that it is decided for the user."""
        editor: Any = self.editor
        blocked = editor.blockSignals(True)
        if on:
            editor.setSpecialValueText("")
            if self._number is not None:
                editor.setValue(self.info.type(self._number))
        else:
            if self._own_number:
                self._number = editor.value()
            editor.setSpecialValueText(self._words.get(None, "automatic"))
            editor.setValue(editor.minimum())
        editor.blockSignals(blocked)
        editor.setEnabled(on)
        self._own_number = on

    def value(self) -> Any:
        """Return the value as the settings class wants it."""
        if self._own_value is not None and not self._own_value.isChecked():
            return None
        editor = self.editor
        if isinstance(editor, QCheckBox):
            return editor.isChecked()
        if isinstance(editor, QComboBox):
            return editor.currentData()
        return self.info.type(editor.value())

    def set_value(self, value: Any) -> None:
        """Show a value without announcing a change."""
        editor = self.editor
        blocked = self.blockSignals(True)
        if self._own_value is not None:
            self._own_value.setChecked(value is not None)
        if isinstance(editor, QCheckBox):
            editor.setChecked(bool(value))
        elif isinstance(editor, QComboBox):
            editor.setCurrentIndex(editor.findData(value))
        elif value is not None:
            # A slider covers the usual range only; a recipe may say more.
            editor.setMaximum(max(editor.maximum(), self.info.type(value)))
            editor.setMinimum(min(editor.minimum(), self.info.type(value)))
            editor.setValue(self.info.type(value))
        self.blockSignals(blocked)

    def _make_editor(self, slider: tuple[float, float] | None) -> Any:
        info = self.info
        if info.choices is not None:
            combo = QComboBox()
            choices = (*info.choices, None) if info.optional else info.choices
            for choice in choices:
                combo.addItem(self._words.get(choice, str(choice)), choice)
            combo.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            combo.setMinimumContentsLength(8)
            combo.currentIndexChanged.connect(lambda _index: self.changed.emit())
            return combo
        if info.type is bool:
            box = QCheckBox()
            box.toggled.connect(lambda _on: self.changed.emit())
            return box
        editor = self._make_slider(*slider) if slider else self._make_spin_box()
        editor.valueChanged.connect(lambda _value: self.changed.emit())
        return editor

    def _make_slider(self, low: float, high: float) -> Any:
        if self.info.type is int:
            whole = QLabeledSlider(Qt.Orientation.Horizontal)
            whole.setRange(int(low), int(high))
            return whole
        real: Any = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        real.setRange(low, high)
        real.setSingleStep(self.info.step or (high - low) / 100)
        real.setDecimals(2 if high - low <= 2 else 1)
        return real

    def _make_spin_box(self) -> Any:
        info = self.info
        low = info.minimum if info.minimum is not None else -_LARGEST_INT
        high = info.maximum if info.maximum is not None else _LARGEST_INT
        box: Any = QSpinBox() if info.type is int else PlainDoubleSpinBox()
        if info.type is float:
            box.setDecimals(_decimals(info))
            box.setSingleStep(info.step or max(10.0 ** -_decimals(info), 0.1))
        box.setRange(info.type(low), info.type(min(high, _LARGEST_INT)))
        box.setKeyboardTracking(False)
        if info.unit:
            box.setSuffix(f" {info.unit}")
        return box


class SettingsForm(QWidget, Generic[S]):
    """A form for one settings class; expert settings are folded away.

    Parameters
    ----------
    settings
        What is shown first; fields that are not in the form keep its values.
    only, without
        Names to show, or to leave out.
    labels
        Names of fields in plain words (default: the field's name with spaces).
    words
        For fields with choices: the plain words of each choice.
    sliders
        For numbers that are better dragged: the range of the slider.
    tips
        Tooltips in the words of the panel (default: the field's own help).
    starts
        For numbers that are decided for the user until a box is ticked: what is shown then.
    fold
        Fold expert settings away behind a button; False where the whole form is folded anyway.
    """

    changed = Signal()

    def __init__(
        self,
        settings: S,
        *,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
        labels: Mapping[str, str] | None = None,
        words: Mapping[str, Mapping[Any, str]] | None = None,
        sliders: Mapping[str, tuple[float, float]] | None = None,
        tips: Mapping[str, str] | None = None,
        starts: Mapping[str, float] | None = None,
        fold: bool = True,
    ) -> None:
        super().__init__()
        self._settings = settings
        self.fields: dict[str, Field] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        plain, expert = _form(), _form()
        self.labels: dict[str, str] = {}
        for info in describe(settings):
            if info.name in without or (only is not None and info.name not in only):
                continue
            info = dataclasses.replace(info, help=(tips or {}).get(info.name, info.help))
            field = Field(
                info,
                slider=(sliders or {}).get(info.name),
                words=(words or {}).get(info.name),
                start=(starts or {}).get(info.name),
            )
            text = (labels or {}).get(info.name, info.name.replace("_", " ").capitalize())
            form = expert if info.expert and fold else plain
            name = QLabel(text)
            explain(name, info.help)
            form.addRow(name, field)
            field.changed.connect(self.changed)
            self.fields[info.name] = field
        layout.addLayout(plain)
        self._expert_button: QToolButton | None = None
        if expert.rowCount():
            layout.addWidget(self._fold_away(expert))
        self.set_settings(settings)

    def settings(self) -> S:
        """Return the settings as they stand in the form.

        Raises
        ------
        SettingsError
            If two values do not go together (single values cannot leave their bounds here).
        """
        values = {name: field.value() for name, field in self.fields.items()}
        return dataclasses.replace(self._settings, **values)

    def set_settings(self, settings: S) -> None:
        """Show these settings without announcing a change."""
        self._settings = settings
        blocked = self.blockSignals(True)
        for name, field in self.fields.items():
            field.set_value(getattr(settings, name))
        self.blockSignals(blocked)

    def set_row_visible(self, name: str, visible: bool) -> None:
        """Show or hide one setting with its label."""
        field = self.fields[name]
        parent = field.parentWidget()
        layouts = [] if parent is None else parent.findChildren(QFormLayout)
        for form in layouts:
            if form.labelForField(field) is not None:
                form.setRowVisible(field, visible)

    def _fold_away(self, expert: QFormLayout) -> QWidget:
        holder = QWidget()
        column = QVBoxLayout(holder)
        column.setContentsMargins(0, 0, 0, 0)
        button = QToolButton()
        button.setText("Expert settings")
        button.setCheckable(True)
        button.setArrowType(Qt.ArrowType.RightArrow)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        inner = QWidget()
        inner.setLayout(expert)
        inner.hide()

        def fold(open_: bool) -> None:
            inner.setVisible(open_)
            arrow = Qt.ArrowType.DownArrow if open_ else Qt.ArrowType.RightArrow
            button.setArrowType(arrow)

        button.toggled.connect(fold)
        column.addWidget(button)
        column.addWidget(inner)
        self._expert_button = button
        return holder


def _form() -> QFormLayout:
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
    return form


def _decimals(info: FieldInfo) -> int:
    """Return enough decimals for the default and the lower bound, two at most otherwise."""
    for value in (info.default, info.minimum):
        if isinstance(value, float) and 0 < abs(value) < 0.01:
            return 7
    return 2 if (info.maximum is not None and info.maximum <= 2) else 1
