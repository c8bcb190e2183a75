"""The token through which the main thread asks a worker to stop."""

from __future__ import annotations

import threading


class CancelToken:
    """A callable that answers "should I stop?"; core functions take it as ``cancelled=``.

    Asking is cheap enough for every step or tile. A token is never reset: one job, one token.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def __call__(self) -> bool:
        """Return True when the work should stop."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Ask the work to stop; may be called from any thread and any number of times."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Sleep up to ``seconds``, less when cancelled; True when the work should stop."""
        return self._event.wait(seconds)
