"""Event connections that are undone together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Layer


class Connections:
    """Remembers what was connected, so that nothing calls into a widget that is gone.

    It is a plain object on purpose: it may be used while the Qt half of its owner is being
    destroyed.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], Any]] = []

    def connect(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Connect a napari, psygnal or Qt emitter."""
        emitter.connect(callback)
        self.defer(lambda: emitter.disconnect(callback))

    def connect_placement(self, layer: Layer, callback: Callable[..., Any]) -> None:
        """Hear when a layer is moved, turned or stretched."""
        events = layer.events
        for emitter in (events.scale, events.translate, events.rotate, events.shear, events.affine):
            self.connect(emitter, callback)

    def defer(self, undo: Callable[[], Any]) -> None:
        """Run ``undo`` on :meth:`clear`."""
        self._undo.append(undo)

    def clear(self) -> None:
        """Undo everything, the newest first; may be called again."""
        undo, self._undo = self._undo, []
        for action in reversed(undo):
            # A layer, viewer or Qt object that is gone took its connections with it.
            with contextlib.suppress(RuntimeError, ValueError, TypeError, KeyError):
                action()
