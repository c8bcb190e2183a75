"""Loss and validation score against time, drawn while the network learns."""

from __future__ import annotations

import math
from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

#: More points than this are thinned out: the eye cannot tell, and drawing stays cheap.
MAX_POINTS = 1200
_LOSS_COLOUR = "#e69f00"
_SCORE_COLOUR = "#56b4e9"
_LOSS_TEXT = "error (loss)"
#: What the score is in each task: on the axis, and in the explanation.
_SCORE_TEXTS = {
    "objects": ("cells found (AP)", "share of held-back cells that it finds"),
    "classes": ("class overlap (IoU)", "how well it agrees with the pixels held back"),
}


class LossPlot(QWidget):
    """Two curves in one picture: loss (left axis) and a score, as the share of cells found (right).

    The loss is smoothed by a running mean, for single crops differ more than one step improves.
    Colours are from the Okabe-Ito palette, told apart by every kind of colour vision.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._loss_points: list[tuple[float, float]] = []
        self._score_points: list[tuple[float, float]] = []
        self._smooth: float | None = None
        self._stride, self._skipped = 1, 0
        self._score_text = ""

        self._plot = pg.PlotWidget()
        self._plot.setBackground(None)
        self._plot.setMenuEnabled(False)
        self._plot.setMouseEnabled(x=False, y=False)
        self._plot.hideButtons()
        self._plot.setFixedHeight(165)
        item = self._plot.getPlotItem()
        item.setLabel("bottom", "time (s)")
        for name in ("bottom", "left"):
            item.getAxis(name).enableAutoSIPrefix(False)
        item.showAxis("right")
        self._loss = item.plot(
            [],
            [],
            pen=pg.mkPen(_LOSS_COLOUR, width=2),
            symbolSize=6,
            symbolBrush=_LOSS_COLOUR,
            symbolPen=None,
        )

        self._right = pg.ViewBox(enableMenu=False)
        self._right.setMouseEnabled(x=False, y=False)
        item.scene().addItem(self._right)
        item.getAxis("right").linkToView(self._right)
        self._right.setXLink(item.getViewBox())
        self._right.setYRange(0, 1, padding=0.03)
        self._score = pg.PlotDataItem(
            [],
            [],
            pen=pg.mkPen(_SCORE_COLOUR, width=2),
            symbol="o",
            symbolSize=6,
            symbolBrush=_SCORE_COLOUR,
            symbolPen=None,
        )
        self._base = pg.InfiniteLine(
            angle=0, pen=pg.mkPen(_SCORE_COLOUR, width=1, style=Qt.PenStyle.DashLine)
        )
        self._base.setVisible(False)
        self._right.addItem(self._score)
        self._right.addItem(self._base)
        item.getViewBox().sigResized.connect(self._follow)

        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._plot)
        self.explain("objects")

    @property
    def loss(self) -> list[tuple[float, float]]:
        """The loss curve as (seconds, value)."""
        return list(self._loss_points)

    @property
    def scores(self) -> list[tuple[float, float]]:
        """The validation curve as (seconds, average precision)."""
        return list(self._score_points)

    def clear(self) -> None:
        """Empty both curves."""
        self._loss_points, self._score_points = [], []
        self._smooth, self._stride, self._skipped = None, 1, 0
        self._base.setVisible(False)
        self._draw_loss()
        self._score.setData([], [])

    def explain(self, task: str) -> None:
        """Name the curves as what they are in the task ``objects`` or ``classes``."""
        self._score_text, meaning = _SCORE_TEXTS[task]
        self._plot.setToolTip(
            "Orange: how wrong the network is on what was painted, lower is better.\n"
            f"Blue: {meaning}, higher is better;\n"
            "the dashed line is the model you started from."
        )
        self._use_palette()

    def add_loss(self, seconds: float, value: float) -> None:
        """Add the loss of one step; call :meth:`draw` to show it."""
        if not math.isfinite(value):
            return
        self._smooth = value if self._smooth is None else 0.9 * self._smooth + 0.1 * value
        self._skipped += 1
        if self._skipped < self._stride:
            return
        self._skipped = 0
        self._loss_points.append((seconds, self._smooth))
        if len(self._loss_points) > MAX_POINTS:
            self._loss_points = self._loss_points[::2]
            self._stride *= 2

    def add_score(self, seconds: float, value: float) -> None:
        """Add one validation; values that are not numbers (nothing to compare) are left out."""
        if math.isfinite(value):
            self._score_points.append((seconds, value))
            self._score.setData(*_columns(self._score_points))
            self._fit_time()

    def set_base(self, value: float | None) -> None:
        """Draw the score of the model that training started from."""
        known = value is not None and math.isfinite(value)
        self._base.setVisible(known)
        if known:
            self._base.setPos(value)

    def draw(self) -> None:
        """Show the loss values added so far."""
        self._draw_loss()

    def changeEvent(self, event: Any) -> None:  # noqa: N802
        """Follow a change between napari's light and dark theme."""
        super().changeEvent(event)
        if event.type() in (event.Type.PaletteChange, event.Type.StyleChange):
            self._use_palette()

    def _use_palette(self) -> None:
        ink = self.palette().color(self.foregroundRole())
        item = self._plot.getPlotItem()
        for name in ("left", "bottom", "right"):
            axis = item.getAxis(name)
            axis.setTextPen(ink)
            axis.setPen(ink)
        # The words of an axis have the colour of its curve.
        item.getAxis("left").setLabel(_LOSS_TEXT, color=_LOSS_COLOUR)
        item.getAxis("right").setLabel(self._score_text, color=_SCORE_COLOUR)

    def _draw_loss(self) -> None:
        points = self._loss_points
        # A line through one point has no length.
        self._loss.setData(*_columns(points), symbol="o" if len(points) == 1 else None)
        self._fit_time()

    def _fit_time(self) -> None:
        """Show all of both curves: the last score comes after the last loss."""
        times = [time for time, _ in (*self._loss_points[-1:], *self._score_points[-1:])]
        if times:
            self._plot.getPlotItem().setXRange(0, max(*times, 1.0), padding=0.02)

    def _follow(self) -> None:
        box = self._plot.getPlotItem().getViewBox()
        self._right.setGeometry(box.sceneBoundingRect())


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
