"""What a finished training tells the user, in plain words."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.core.events import Scores, TrainingFinished, TrainingStarted

_ROWS = (
    ("ap50", "Cells found", "share of cells outlined with at least 50 % overlap (AP at IoU 0.5)"),
    ("ap75", "Outlined well", "the same with at least 75 % overlap (AP at IoU 0.75)"),
    ("overlap", "Mean overlap", "of each painted cell with the best predicted one"),
)


def started(event: TrainingStarted, task: str) -> str:
    """Say what is learned from, and the worst of what may spoil it."""
    warning = f" ⚠ {event.warnings[0]}" if event.warnings else ""
    if task == "classes":
        held_back = ", some of them held back to judge the network" * bool(event.validation_objects)
        return f"Learning from {event.trained_pixels:,} pixels{held_back}.{warning}"
    cells = f"{event.objects} painted cell{'s' if event.objects != 1 else ''}"
    if event.validation_objects:
        cells += f", {event.validation_objects} of them held back to judge the network"
    return f"Learning from {cells}.{warning}"


def score(scores: Scores) -> float:
    """Return the one number that is drawn: cells found, or in task ``classes`` the mean IoU."""
    return scores.ap50 if math.isfinite(scores.ap50) else scores.f1


def finished_table(event: TrainingFinished) -> str:
    """Return before and after as a small HTML table; empty where nothing can be compared."""
    after = {name: getattr(event.after, name) for name, _, _ in _ROWS}
    rows = [
        _row(text, tip, _value(event.before, name), after[name])
        for name, text, tip in _ROWS
        if math.isfinite(after[name])
    ]
    if not rows and math.isfinite(event.after.f1):
        rows = [_row("Class overlap", "mean IoU", _value(event.before, "f1"), event.after.f1)]
    if not rows:
        return ""
    head = "<tr><td></td><td align='right'>before&nbsp;&nbsp;</td><td align='right'>now</td></tr>"
    return f"<table width='100%'>{head}{''.join(rows)}</table>"


def finished_sentence(event: TrainingFinished) -> str:
    """Return how long it took and which weights were kept, and why."""
    how = "Stopped after" if event.reason == "stopped" else "Trained for"
    steps = "1 step" if event.steps == 1 else f"{event.steps:,} steps"
    return f"{how} {event.seconds:.0f} s ({steps}). {event.decision}"


def _value(scores: Scores | None, name: str) -> float:
    return math.nan if scores is None else float(getattr(scores, name))


def _row(text: str, tip: str, before: float, after: float) -> str:
    old = f"{before:.2f}" if math.isfinite(before) else "–"
    return (
        f"<tr><td title='{html.escape(tip)}'>{text}</td><td align='right'>{old}&nbsp;&nbsp;</td>"
        f"<td align='right'><b>{after:.2f}</b></td></tr>"
    )
