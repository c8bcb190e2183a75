"""The curves drawn while training."""

from __future__ import annotations

import math
from typing import Any

from napari_unet.widgets._loss_plot import MAX_POINTS, LossPlot


def test_curves_are_kept_short_and_cover_the_whole_run(qtbot: Any) -> None:
    plot = LossPlot()
    qtbot.addWidget(plot)
    for step in range(20 * MAX_POINTS):
        plot.add_loss(step * 0.01, 1 / (step + 1))
    plot.draw()
    assert MAX_POINTS / 2 <= len(plot.loss) <= MAX_POINTS
    assert plot.loss[-1][0] > 0.99 * 20 * MAX_POINTS * 0.01
    assert plot.loss[0][1] > plot.loss[-1][1]


def test_values_that_are_no_numbers_are_left_out(qtbot: Any) -> None:
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.add_loss(0, math.nan)
    plot.add_score(0, math.nan)
    plot.set_base(math.nan)
    plot.add_score(1, 0.5)
    plot.draw()
    assert plot.loss == []
    assert plot.scores == [(1, 0.5)]
    plot.clear()
    assert plot.scores == []


def test_every_point_of_both_curves_is_in_sight(qtbot: Any) -> None:
    """The last score is known some seconds after the last loss, and one point is no line."""
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.add_loss(5, 1.0)
    plot.draw()
    assert plot._loss.opts["symbol"] == "o"
    plot.add_score(9, 0.5)
    left, right = plot._plot.getPlotItem().getViewBox().viewRange()[0]
    assert left <= 0 and right >= 9
    plot.add_loss(12, 0.8)
    plot.draw()
    assert plot._loss.opts["symbol"] is None
    assert plot._plot.getPlotItem().getViewBox().viewRange()[0][1] >= 12
