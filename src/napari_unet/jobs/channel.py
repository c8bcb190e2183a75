"""A bounded line of events between the worker and the main thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any


class EventChannel:
    """First in, first out, never more than ``capacity`` waiting.

    The worker waits in :meth:`put` while the line is full, so however slowly the viewer draws,
    no more than ``capacity`` tiles or models are alive at once. :meth:`close` lets it go at once.
    """

    def __init__(self, capacity: int = 8) -> None:
        if capacity < 1:
            raise ValueError("a channel needs room for at least one event")
        self._capacity = capacity
        self._waiting: deque[Any] = deque()
        self._condition = threading.Condition()
        self._closed = False
        self._reader_called = False

    def put(self, item: Any) -> bool:
        """Add an event, waiting for room; False when the channel is closed (nobody listens)."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or len(self._waiting) < self._capacity)
            if self._closed:
                return False
            self._waiting.append(item)
            return True

    def should_call_reader(self) -> bool:
        """Return True once per round: the caller must then wake the reader."""
        with self._condition:
            called, self._reader_called = self._reader_called, True
            return not called

    def begin_reading(self) -> None:
        """Open a new round: the next event wakes the reader again."""
        with self._condition:
            self._reader_called = False

    def take(self) -> tuple[Any, ...]:
        """Return the oldest event in a tuple of one, or an empty tuple."""
        with self._condition:
            if not self._waiting:
                return ()
            item = self._waiting.popleft()
            self._condition.notify()
            return (item,)

    def close(self) -> None:
        """Drop what waits and refuse what comes; a writer that waits is let go."""
        with self._condition:
            self._closed = True
            self._waiting.clear()
            self._condition.notify_all()

    def __len__(self) -> int:
        with self._condition:
            return len(self._waiting)
