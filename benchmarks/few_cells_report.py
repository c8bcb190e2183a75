"""Tables and the figure of the few-cells benchmark, from its rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.few_cells_rows import Row, newest, pooled, select
from benchmarks.report import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Painted cells and budget (s) that single tables and curves refer to, if they were run.
REFERENCE_CELLS, REFERENCE_BUDGET = 20, 60.0

#: Goals for 20 painted cells and 60 s.
_GOALS = {"SEM": 0.55, "phase": 0.35, "histology_purple": 0.55}


_SHARED = "Only seeds that were run for all columns: the columns belong to the same images."


@dataclass(frozen=True)
class Series:
    """One line of the tables and, with a colour, of the figure."""

    method: str
    variant: str
    label: str
    colour: str = ""

    def of(self, rows: Iterable[Row]) -> list[Row]:
        """Return its rows; a run that failed counts for all variants."""
        return [
            row
            for row in rows
            if row.method == self.method and row.variant in (self.variant, "failed")
        ]


# Colours by Okabe and Ito (2008), told apart with any colour vision.
OURS = Series("tuned", "auto", "fine-tuned base", "#D55E00")
BASE = Series("base", "auto", "base as it is", "#0072B2")
SERIES = (
    OURS,
    Series("tuned", "painted", "fine-tuned base, size of the painted cells"),
    BASE,
    Series("base", "true", "base, true size"),
    Series("base", "as is", "base, sizes not matched"),
    Series("scratch", "painted", "U-Net from scratch", "#009E73"),
    Series("cellpose", "", "Cellpose 3 from scratch", "#CC79A7"),
    Series("forest", "", "random forest", "#E69F00"),
    Series("otsu", "", "Otsu", "#7F7F7F"),
)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation, nan values (no object at all) left out."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else 0.0


def _cell(values: Sequence[float]) -> str:
    mean, spread = mean_and_spread(values)
    if math.isnan(mean):
        return "–"
    return f"{mean:.2f} ± {spread:.2f}" if len(values) > 1 else f"{mean:.2f}"


def _number(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def kinds_of(rows: Iterable[Row]) -> list[str]:
    """Return the kinds in the order they were first met."""
    return list(dict.fromkeys(row.kind for row in rows))


def text(rows: list[Row], conditions: str) -> str:
    """Return the whole report as Markdown."""
    rows = newest(rows)
    painted = [row for row in rows if row.cells > 0]
    seeds = len({row.seed for row in painted})
    cells = sorted({row.cells for row in painted})
    budgets = sorted({row.budget for row in painted if row.budget > 0})
    near_cells = _nearest(cells, REFERENCE_CELLS)
    near_budget = _nearest(budgets, REFERENCE_BUDGET)
    at_budget = list(select(painted, budget=near_budget))
    at_cells = [row for row in painted if row.cells == near_cells]
    last = rows[-1]
    bases = ", ".join(sorted({row.base for row in rows if row.base}))
    parts = [
        "# A few painted cells",
        conditions,
        f"Device {last.device}, {last.threads} threads; base {bases or 'none'}; {seeds} seeds.",
        "Neighbouring cells of one image are painted, the rest is unlabelled; scored are other "
        "images of the same look that no model was trained on. AP = TP / (TP + FP + FN) at an "
        "IoU of 0.5 (AP50) or 0.75 (AP75), pooled over the images of one seed; mean ± standard "
        "deviation over seeds. Each seed paints on another image.",
        f"## {near_cells} cells, {near_budget:g} s",
        _overview([row for row in at_budget if row.cells == near_cells]),
        "Pooled: over all seeds together. Change: fine-tuned less base on the same images, mean "
        "over seeds and the worst seed. Seconds: training with all its preparation and judging, "
        "and segmenting one image.",
    ]
    if len(cells) > 1:
        parts += [
            f"## AP50 by painted cells, {near_budget:g} s",
            _grid(at_budget, cells, "cells", lambda row: row.ap50),
            f"## AP75 by painted cells, {near_budget:g} s",
            _grid(at_budget, cells, "cells", lambda row: row.ap75),
            _SHARED,
        ]
    if len(budgets) > 1:
        parts += [
            f"## AP50 by training time, {near_cells} cells",
            _grid(at_cells, budgets, "budget", lambda row: row.ap50, unit=" s"),
            f"## AP75 by training time, {near_cells} cells",
            _grid(at_cells, budgets, "budget", lambda row: row.ap75, unit=" s"),
            _SHARED,
        ]
    unpainted = [row for row in rows if row.cells == 0]
    if unpainted:
        parts += ["## The base on all held-out images, nothing painted", _unpainted(unpainted)]
    short = sorted({f"{r.kind}: {r.painted} of {r.cells}" for r in painted if r.painted < r.cells})
    if short:
        parts.append(f"No image has enough cells for some runs ({'; '.join(short)} painted).")
    failed = sorted({f"{r.method} on {r.kind}: {r.note}" for r in rows if r.variant == "failed"})
    if failed:
        parts.append("Failed, counted as nothing found: " + "; ".join(failed) + ".")
    return "\n\n".join(parts)


def comparable(rows: list[Row], axis: str, values: Sequence[float]) -> list[Row]:
    """Keep the seeds that were run for every value of an axis.

    Each seed paints on another image: columns and points of a curve must belong to the same ones.
    Without a seed that all values share, all are kept.
    """
    kept: list[Row] = []
    for kind in kinds_of(rows):
        here = list(select(rows, kind=kind))
        seeds = [{r.seed for r in select(OURS.of(here), **{axis: value})} for value in values]
        shared = set.intersection(*seeds) if seeds else set()
        kept += [row for row in here if row.seed in shared or not shared]
    return kept


def _nearest(values: Sequence[float], wanted: float) -> float:
    return min(values, key=lambda value: abs(value - wanted), default=wanted)


def _overview(rows: list[Row]) -> str:
    lines = []
    for kind in kinds_of(rows):
        here = list(select(rows, kind=kind))
        changes = [
            mine.ap50 - theirs.ap50
            for mine in OURS.of(here)
            for theirs in BASE.of(here)
            if mine.seed == theirs.seed
        ]
        change = f"{statistics.fmean(changes):+.2f} ({min(changes):+.2f})" if changes else "–"
        for series in SERIES:
            own = series.of(here)
            if not own:
                continue
            training = statistics.fmean(row.train_seconds for row in own)
            per_image = sum(r.segment_seconds for r in own) / max(1, sum(r.scored for r in own))
            goal = f"{_GOALS[kind]:.2f}" if series is OURS and kind in _GOALS else ""
            lines.append(
                (
                    kind,
                    series.label,
                    _number(pooled(own)),
                    _cell([row.ap50 for row in own]),
                    _cell([row.ap75 for row in own]),
                    change if series is OURS else "",
                    goal,
                    _number(training, 1),
                    _number(per_image),
                )
            )
    header = ("kind", "method", "pooled", "AP50", "AP75", "change", "goal", "s train", "s/image")
    return table(header, lines)


def _grid(
    rows: list[Row],
    values: Sequence[float],
    axis: str,
    score: Callable[[Row], float],
    unit: str = "",
) -> str:
    """One line per kind and method, one column per value of an axis."""
    rows = comparable(rows, axis, values)
    lines = []
    for kind in kinds_of(rows):
        for series in SERIES:
            own = series.of(select(rows, kind=kind))
            if own:
                found = [
                    _cell([score(row) for row in select(own, **{axis: value})]) for value in values
                ]
                lines.append((kind, series.label, *found))
    return table(("kind", "method", *(f"{value:g}{unit}" for value in values)), lines)


def _unpainted(rows: list[Row]) -> str:
    sizes = {"auto": "estimated", "true": "true", "as is": "not matched"}
    lines = [
        (
            row.kind,
            row.note,
            sizes.get(row.variant.partition(",")[0], row.variant),
            _number(row.ap50),
            _number(row.ap75),
            row.scored,
            row.tp50 + row.fn50,
        )
        for row in rows
    ]
    return table(("kind", "model", "sizes", "AP50", "AP75", "images", "objects"), lines)


def figure(rows: list[Row], path: Path) -> None:
    """Draw AP50 over painted cells and, of several budgets, over seconds; a column per kind."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in newest(rows) if row.cells > 0]
    kinds = kinds_of(rows)
    cells = sorted({row.cells for row in rows})
    budgets = sorted({row.budget for row in rows if row.budget > 0})
    near_cells, near_budget = _nearest(cells, REFERENCE_CELLS), _nearest(budgets, REFERENCE_BUDGET)
    lines = [("cells", {"budget": near_budget}, cells, f"painted cells ({near_budget:g} s)")]
    if len(budgets) > 1:
        about = f"seconds of training ({near_cells:g} cells)"
        lines.append(("budget", {"cells": near_cells}, budgets, about))
    fig, axes = plt.subplots(
        len(lines),
        len(kinds),
        figsize=(1 + 2.5 * len(kinds), 0.6 + 2.5 * len(lines)),
        sharey=True,
        squeeze=False,
    )
    for column, kind in enumerate(kinds):
        here = list(select(rows, kind=kind))
        axes[0, column].set_title(kind.replace("_", " "), fontsize=10)
        for line, (axis, fixed, values, about) in enumerate(lines):
            _curves(axes[line, column], list(select(here, **fixed)), axis, values)
            axes[line, column].set_xlabel(about, fontsize=9)
    for first in axes[:, 0]:
        first.set_ylabel("AP50 on other images", fontsize=9)
        first.set_ylim(0, 1)
    handles = {line.get_label(): line for ax in axes.flat for line in ax.get_lines()}
    fig.tight_layout(rect=(0, 0.3 / fig.get_figheight(), 1, 1))
    fig.legend(
        handles.values(), handles.keys(), loc="lower center", ncols=6, frameon=False, fontsize=9
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _curves(axes: Axes, rows: list[Row], axis: str, values: Sequence[float]) -> None:
    """Draw mean and one standard deviation of every series that has a colour."""
    rows = comparable(rows, axis, values)
    for series in SERIES:
        own = series.of(rows) if series.colour else []
        points: list[tuple[float, float, float]] = []
        for value in values:
            found = [row.ap50 for row in select(own, **{axis: value})]
            mean, spread = mean_and_spread(found)
            if not math.isnan(mean):
                points.append((value, mean, spread))
        if not points:
            continue
        x = [value for value, _, _ in points]
        low = [mean - spread for _, mean, spread in points]
        high = [mean + spread for _, mean, spread in points]
        means = [mean for _, mean, _ in points]
        axes.plot(x, means, "o-", color=series.colour, label=series.label, lw=1.6, ms=3.5)
        axes.fill_between(x, low, high, color=series.colour, alpha=0.12, lw=0)
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values], fontsize=8)
    axes.minorticks_off()
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.25, lw=0.5)
