"""Frames: what changes while a job runs is drawn together, in a small share of the time."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable

from qtpy.QtCore import QObject, Qt, QTimer

Draw = Callable[[], None]

#: Shortest and longest pause from one frame to the next, in seconds.
SHORTEST, LONGEST = 0.1, 1.0
#: Share of the time that frames may take, as far as the longest pause allows.
SHARE = 0.05
#: Qt paints within so many seconds of being asked to. A timer of that length which is late by more
#: than the tolerance has waited for the painting.
_PROBE, _TOLERANCE = 0.02, 0.004


class Frames(QObject):
    """The clock of everything that moves while work goes on: layers, curves, bars.

    Whatever changes in a window makes Qt compose the whole of it. With a graphics card that takes
    a millisecond; without one (a remote desktop, a virtual machine) a tenth of a second, in which
    Python stands still, and with it the work. So changes wait for the next frame and are drawn
    together, and the pause to the frame after that follows from what this one took.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting: list[weakref.WeakMethod[Draw]] = []
        self._began = self._next = 0.0
        self._timer = self._single_shot(self._draw)
        self._probe = self._single_shot(self._measure)

    def request(self, draw: Draw, *, at_once: bool = False) -> None:
        """Call a method with the next frame, once, however often it is asked for.

        ``at_once`` does without the pause before that frame: somebody waits for a first answer.
        """
        method = weakref.WeakMethod(draw)
        if method not in self._waiting:
            self._waiting.append(method)
        if at_once:
            self._next = 0.0
            self._probe.stop()
            self._schedule()
        elif not self._timer.isActive() and not self._probe.isActive():
            self._schedule()

    def forget(self, draw: Draw) -> None:
        """Do not call a method any more."""
        method = weakref.WeakMethod(draw)
        self._waiting = [each for each in self._waiting if each != method]

    def stop(self) -> None:
        """Draw no more frames."""
        self._waiting.clear()
        self._timer.stop()
        self._probe.stop()

    def _single_shot(self, method: Draw) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setTimerType(Qt.TimerType.PreciseTimer)
        timer.timeout.connect(method)
        return timer

    def _schedule(self) -> None:
        pause = max(0.0, self._next - time.perf_counter())
        self._timer.start(round(1000 * pause))

    def _draw(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._began = time.perf_counter()
        # First, so that an error in one of the methods cannot stop the clock.
        self._probe.start(round(1000 * _PROBE))
        for each in waiting:
            method = each()
            if method is not None:
                method()

    def _measure(self) -> None:
        taken = time.perf_counter() - self._began
        painted = taken > _PROBE + _TOLERANCE
        pause = min(max(taken / SHARE, SHORTEST), LONGEST) if painted else SHORTEST
        self._next = self._began + pause
        if self._waiting:
            self._schedule()
