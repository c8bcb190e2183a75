"""Colours, names and counts of the four pixel states, and what may spoil training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_unet.core.annotation_rules import State
from napari_unet.widgets._annotation_layer import BACKGROUND_COLOR
from napari_unet.widgets._tips import explain
from napari_unet.widgets.panel import note

if TYPE_CHECKING:
    from napari_unet.core.annotation import StateCounts
    from napari_unet.widgets.live_annotation import LiveAnnotation

Color = tuple[float, float, float, float]

#: Colour of each state in the state map; told apart also with a colour vision deficiency.
STATE_COLORS: dict[State, Color] = {
    State.IGNORED: (0.0, 0.0, 0.0, 0.0),
    State.BACKGROUND: BACKGROUND_COLOR,
    State.OBJECT: (0.95, 0.80, 0.25, 1.0),
    State.EMPHASISED: (0.84, 0.20, 0.45, 1.0),
}
#: Plain words for each state.
STATE_NAMES: dict[State, str] = {
    State.OBJECT: "Object",
    State.BACKGROUND: "Background",
    State.EMPHASISED: "Gap between objects",
    State.IGNORED: "Ignored",
}
#: What an object is called where classes of material are painted.
_CLASS = ("Painted class", "The network learns: this is the class that is painted here.")
_STATE_HELP: dict[State, str] = {
    State.OBJECT: "The network learns: this is an object.",
    State.BACKGROUND: "The network learns: this is not an object.",
    State.EMPHASISED: "Background between close objects: mistakes here count extra, so that the "
    "network learns to keep neighbours apart.",
    State.IGNORED: "The network learns nothing here, neither object nor background.",
}


class StateLegend(QWidget):
    """A small table that follows the session's live annotation."""

    def __init__(self) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._headline = note("")
        layout.addWidget(self._headline)
        self._warnings = note("")
        self._warnings.setObjectName("warnings")
        self._warnings.setStyleSheet("color: #d08a1c;")
        layout.addWidget(self._warnings)
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        self._numbers: dict[State, QLabel] = {}
        self._rows: dict[State, tuple[QLabel, QLabel, QLabel]] = {}
        for row, state in enumerate(STATE_NAMES):
            square, label, number = swatch(STATE_COLORS[state]), QLabel(), QLabel()
            number.setAlignment(Qt.AlignmentFlag.AlignRight)
            number.setWordWrap(True)  # millions of pixels do not widen the panel
            self._rows[state] = square, label, number
            for column, widget in enumerate(self._rows[state]):
                grid.addWidget(widget, row, column)
            self._numbers[state] = number
        layout.addLayout(grid)
        self.use_words("objects")
        self.clear("")

    @property
    def headline(self) -> str:
        """The line above the table."""
        return self._headline.text()

    @property
    def warnings(self) -> str:
        """The warnings, one per line."""
        return self._warnings.text()

    def count(self, state: State) -> str:
        """Return the number shown for a state."""
        return self._numbers[state].text()

    def name(self, state: State) -> str:
        """Return the word shown for a state."""
        return self._rows[state][1].text()

    @property
    def is_gap_hidden(self) -> bool:
        """Whether the row of gaps between objects is left out."""
        return self._rows[State.EMPHASISED][1].isHidden()

    def use_words(self, task: str) -> None:
        """Use the words of a task: between classes of material there are no gaps."""
        for state, widgets in self._rows.items():
            is_class = state == State.OBJECT and task == "classes"
            name, help_ = _CLASS if is_class else (STATE_NAMES[state], _STATE_HELP[state])
            widgets[1].setText(name)
            for widget in widgets:
                explain(widget, help_)
                widget.setVisible(state != State.EMPHASISED or task == "objects")

    def show_live(self, live: LiveAnnotation, task: str) -> None:
        """Show what a live annotation counts at present."""
        self.use_words(task)
        if live.target is None:
            self.clear(live.problem)
            return
        self._show(live.target.counts, live.target.warnings, task)

    def clear(self, reason: str) -> None:
        """Show no numbers, and why."""
        self._headline.setText(reason)
        self._headline.setVisible(bool(reason))
        for label in self._numbers.values():
            label.setText("–")
        self._warnings.hide()

    def _show(self, counts: StateCounts, warnings: tuple[str, ...], task: str) -> None:
        thing = "object" if task == "objects" else "class"
        plural = thing if counts.objects == 1 else {"object": "objects", "class": "classes"}[thing]
        self._headline.setText(f"{counts.objects:,} {plural} in this plane")
        self._headline.show()
        pixels = {
            State.OBJECT: counts.object_pixels,
            State.BACKGROUND: counts.background,
            State.EMPHASISED: counts.emphasised,
            State.IGNORED: counts.ignored,
        }
        total = max(1, sum(pixels.values()))
        for state, number in pixels.items():
            self._numbers[state].setText(f"{number:,} px  {_percent(number, total)}")
        self._warnings.setText("\n".join(f"⚠ {sentence}" for sentence in warnings))
        self._warnings.setVisible(bool(warnings))


def _percent(part: int, total: int) -> str:
    share = 100 * part / total
    return "0 %" if part == 0 else f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def swatch(color: Color) -> QLabel:
    """Return a small square in a colour; a transparent one shows only its frame."""
    red, green, blue, alpha = color
    square = QPixmap(12, 12)
    square.fill(QColor.fromRgbF(red, green, blue, alpha))
    label = QLabel()
    label.setPixmap(square)
    label.setFixedSize(14, 14)
    label.setStyleSheet("border: 1px solid gray;")
    return label
