"""What a Labels layer tells about changes of its pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_unet.widgets._connections import Connections

if TYPE_CHECKING:
    from napari.layers import Labels

#: One range per axis of the label array.
Block = tuple[slice, ...]


class PaintWatcher(QObject):
    """Turns the events of one Labels layer into two signals.

    Signals
    -------
    painted
        A finished stroke, fill, polygon or ``data_setitem``: list of :data:`Block`, half open.
    maybe_changed
        Undo, redo, or just another plane in view: compare to know.
    replaced
        The layer got another array.

    Notes
    -----
    napari announces ``paint`` once per stroke and never for undo or for assignments to
    ``layer.data[...]``; those only show as ``set_data``.
    """

    painted = Signal(list)
    maybe_changed = Signal()
    replaced = Signal()

    def __init__(self, layer: Labels, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.layer = layer
        self._connections = Connections()
        self._connections.connect(layer.events.paint, self._on_paint)
        self._connections.connect(layer.events.set_data, self._on_set_data)
        self._connections.connect(layer.events.data, self._on_data)

    def stop(self) -> None:
        """Disconnect from the layer."""
        self._connections.clear()

    def _on_paint(self, event: Any) -> None:
        blocks = [block for atom in event.value if (block := block_of(atom, self.layer.ndim))]
        if blocks:
            self.painted.emit(blocks)

    def _on_set_data(self, _event: Any = None) -> None:
        self.maybe_changed.emit()

    def _on_data(self, _event: Any = None) -> None:
        self.replaced.emit()


def block_of(atom: Any, ndim: int) -> Block | None:
    """Return where one step of an undo item changed pixels.

    Parameters
    ----------
    atom
        Either an object with ``slice_key``, or a tuple ``(indices, old, new)``. Both occur in
        napari 0.9; they are told apart by what they offer, not by their (private) classes.
    ndim
        Number of axes of the layer.
    """
    key = getattr(atom, "slice_key", None)
    if key is None:
        key = atom[0]
    ranges = [_range_of(part) for part in key]
    if len(ranges) != ndim or any(r is None for r in ranges):
        return None
    return tuple(r for r in ranges if r is not None)


def _range_of(part: Any) -> slice | None:
    if isinstance(part, slice):
        if part.start is None or part.stop is None:
            return slice(part.start or 0, part.stop)
        return slice(int(part.start), int(part.stop))
    positions = np.atleast_1d(np.asarray(part))
    if positions.size == 0:
        return None
    return slice(int(positions.min()), int(positions.max()) + 1)


def box_on_plane(block: Block, index: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Return the block's ``y0, x0, y1, x1`` when it meets the plane ``index``, else None."""
    for place, part in zip(index, block[:-2], strict=True):
        if place < (part.start or 0) or (part.stop is not None and place >= part.stop):
            return None
    rows, columns = block[-2:]
    huge = np.iinfo(np.int64).max
    return (
        int(rows.start or 0),
        int(columns.start or 0),
        int(huge if rows.stop is None else rows.stop),
        int(huge if columns.stop is None else columns.stop),
    )


def union(
    boxes: Iterable[tuple[int, int, int, int]],
) -> tuple[int, int, int, int] | None:
    """Return the smallest box around all boxes; None when there are none."""
    edges = list(boxes)
    if not edges:
        return None
    y0, x0, y1, x1 = zip(*edges, strict=True)
    return min(y0), min(x0), max(y1), max(x1)
