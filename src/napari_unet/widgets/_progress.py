"""A progress bar with the time that is left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QProgressBar

if TYPE_CHECKING:
    from napari_unet.widgets._frames import Frames

_STEPS = 1000
#: Sooner than this a forecast would only jump about.
_FORECAST_AFTER = 1.0


class Progress:
    """Shows a fraction from 0 to 1; everything happens on the main thread.

    napari's activity dock is left out: while it shows a job, an animated icon repaints the window
    33 times a second, which costs a quarter of the speed where no graphics card draws.

    Parameters
    ----------
    bar
        The panel's own bar.
    frames
        When it moves.
    """

    def __init__(self, bar: QProgressBar, frames: Frames) -> None:
        self._bar, self._frames = bar, frames
        self._fraction, self._text = 0.0, ""
        self._bar.setRange(0, _STEPS)
        self._bar.hide()
        self._start = 0.0

    @property
    def running(self) -> bool:
        """Whether a run is being shown."""
        return not self._bar.isHidden()

    def begin(self, title: str) -> None:
        """Show an empty bar."""
        self._start = time.monotonic()
        self._fraction, self._text = 0.0, ""
        self._bar.setValue(0)
        self._bar.setFormat(f"{title} …")
        self._bar.show()

    def update(self, fraction: float, text: str = "") -> None:
        """Move the bar; ``text`` replaces the forecast of the time left."""
        if not self.running:
            return
        self._fraction, self._text = fraction, text
        self._frames.request(self._draw)

    def _draw(self) -> None:
        value = int(_STEPS * min(1.0, max(0.0, self._fraction)))
        self._bar.setValue(max(value, self._bar.value()))
        label = self._text or self._forecast(self._fraction)
        self._bar.setFormat(f"%p % · {label}" if label else "%p %")

    def end(self) -> None:
        """Take the bar away."""
        self._frames.forget(self._draw)
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
