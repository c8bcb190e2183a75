"""A progress bar in the panel and in napari's activity dock, with the time that is left."""

from __future__ import annotations

import time
from typing import Any

from qtpy.QtWidgets import QProgressBar

_STEPS = 1000
#: Sooner than this a forecast would only jump about.
_FORECAST_AFTER = 1.0


class Progress:
    """Shows a fraction from 0 to 1; everything happens on the main thread.

    Parameters
    ----------
    bar
        The panel's own bar.
    """

    def __init__(self, bar: QProgressBar) -> None:
        self._bar = bar
        self._bar.setRange(0, _STEPS)
        self._bar.hide()
        self._activity: Any = None
        self._start = 0.0

    @property
    def running(self) -> bool:
        """Whether a run is being shown."""
        return self._activity is not None

    def begin(self, title: str) -> None:
        """Show an empty bar."""
        from napari.utils import progress

        self.end()
        self._start = time.monotonic()
        self._activity = progress(total=_STEPS, desc=title)
        self._bar.setValue(0)
        self._bar.setFormat(f"{title} …")
        self._bar.show()

    def update(self, fraction: float, text: str = "") -> None:
        """Move the bar; ``text`` replaces the forecast of the time left."""
        if self._activity is None:
            return
        value = int(_STEPS * min(1.0, max(0.0, fraction)))
        if value > self._bar.value():
            self._activity.update(value - self._bar.value())
            self._bar.setValue(value)
        label = text or self._forecast(fraction)
        self._bar.setFormat(f"%p % · {label}" if label else "%p %")

    def end(self) -> None:
        """Take the bar away."""
        if self._activity is not None:
            self._activity.close()
            self._activity = None
        self._bar.hide()

    def _forecast(self, fraction: float) -> str:
        spent = time.monotonic() - self._start
        if fraction <= 0 or spent < _FORECAST_AFTER:
            return ""
        return f"{duration(spent * (1 - fraction) / fraction)} left"


def duration(seconds: float) -> str:
    """Return a length of time in the words of a kitchen clock."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
