"""Keeps the journal of the session's annotation layer up to date while the user paints."""

from __future__ import annotations

import contextlib
import logging
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.io.journal import Journal, JournalHeader
from napari_unet.io.journal_folder import new_journal, this_computer, this_process, tidy
from napari_unet.widgets import _places
from napari_unet.widgets._connections import Connections
from napari_unet.widgets._painting import Block, PaintWatcher
from napari_unet.widgets.session import image_name, kind_of, same_layer

if TYPE_CHECKING:
    from napari.layers import Labels, Layer

    from napari_unet.widgets.session import Session

logger = logging.getLogger(__name__)

#: Longest time, in milliseconds, that a stroke waits before it is written.
FLUSH_MS = 700
#: Longest time, in seconds, that one round of writing may take on the main thread.
FLUSH_SECONDS = 0.02
#: Longest time, in seconds, for what still waits when its layer or napari is closed.
LAST_SECONDS = 1.0
#: What tells where a layer lies.
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
#: Pause before the next round when one was not enough, in milliseconds.
_NEXT_ROUND_MS = 50


class Backup(QObject):
    """One journal per annotation layer; begins with the first change of its pixels.

    Layers that were the annotation before are followed too, and of all others those that are
    painted: napari lets the user correct a result where it is.

    Signals
    -------
    failed
        One sentence: why strokes are not backed up any more.
    """

    failed = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._layer: Labels | None = None
        self._chosen: list[Labels] = []
        self._watched: list[tuple[PaintWatcher, Connections]] = []
        self._journals: list[tuple[Labels, Journal]] = []
        self._connections = Connections()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.flush)
        self._connections.connect(session.annotation_changed, self._on_annotation)
        layers = session.viewer.layers
        self._connections.connect(layers.events.inserted, self._on_inserted)
        self._connections.connect(layers.events.removed, self._on_removed)
        session.closing.connect(self._on_closing)
        for layer in layers:
            self._watch(layer)
        self._on_annotation(session.annotation)

    @property
    def journal(self) -> Journal | None:
        """The journal of the present annotation layer, once there is something to write."""
        return None if self._layer is None else self._journal_of(self._layer)

    def _journal_of(self, layer: Labels) -> Journal | None:
        for known, journal in self._journals:
            if same_layer(known, layer):
                return journal
        return None

    def flush(self) -> None:
        """Write what was painted; goes on a little later when it is much."""
        self._write(FLUSH_SECONDS)
        if any(journal.waiting for _layer, journal in self._journals):
            self._timer.start(_NEXT_ROUND_MS)

    def write_all(self) -> None:
        """Write everything that waits, whatever time it takes."""
        self._write(None)

    def _write(self, seconds: float | None) -> None:
        for layer, journal in list(self._journals):
            try:
                if _describes(journal.header, layer):
                    _bring_up_to_date(journal, layer, seconds)
                    continue
            except OSError as error:
                self._give_up(error)
                return
            # The layer got an array of another kind: its journal starts again.
            self._drop(journal)
            self._begin(layer)

    def begin(self) -> None:
        """Back up the present annotation as it is, without waiting for the first stroke."""
        if self._layer is not None and self.journal is None:
            self._begin(self._layer)

    def _on_annotation(self, layer: Labels | None) -> None:
        self._layer = layer
        if layer is not None:
            self._chosen.append(layer)
            self._watch(layer)

    def _on_inserted(self, event: Any) -> None:
        self._watch(event.value)

    def _watch(self, layer: Layer) -> None:
        if kind_of(layer) != "labels" or layer.multiscale:
            return
        if any(same_layer(watcher.layer, layer) for watcher, _connections in self._watched):
            return
        watcher, connections = PaintWatcher(layer, self), Connections()
        watcher.painted.connect(partial(self._on_painted, layer))
        watcher.maybe_changed.connect(partial(self._on_maybe_changed, layer))
        watcher.replaced.connect(partial(self._on_replaced, layer))
        # A long stroke says nothing of itself before it ends, but what it drew is redrawn.
        connections.connect(layer.events.labels_update, partial(self._on_drawn, layer))
        for name in ("name", *_PLACE):
            connections.connect(getattr(layer.events, name), partial(self._on_described, layer))
        self._watched.append((watcher, connections))

    def _stop_watching(self, layer: Labels | None = None) -> None:
        """Let go of one layer, or of all."""
        for entry in list(self._watched):
            watcher, connections = entry
            if layer is None or same_layer(watcher.layer, layer):
                watcher.stop()
                watcher.deleteLater()
                connections.clear()
                self._watched.remove(entry)

    def _begin(self, layer: Labels) -> None:
        number, start = this_process()
        image = self._session.image
        header = JournalHeader(
            name=layer.name,
            shape=tuple(int(n) for n in layer.data.shape),
            dtype=str(np.dtype(layer.data.dtype)),
            image=image_name(layer) or (image.name if image is not None else ""),
            placement=placement_of(layer),
            created=datetime.now().isoformat(timespec="seconds"),
            process=number,
            process_start=start,
            computer=this_computer(),
        )
        folder = _places.journal_folder()
        try:
            journal = new_journal(folder, header)
            tidy(folder)
        except OSError as error:
            self._give_up(error)
            return
        self._journals.append((layer, journal))
        # Arrays in files (zarr, memory maps) are safe as they are.
        if type(layer.data) is np.ndarray:
            journal.mark_all()
        self._start_timer()

    def _on_painted(self, layer: Labels, blocks: list[Block]) -> None:
        if self._journal_of(layer) is None:
            self._begin(layer)
        journal = self._journal_of(layer)
        if journal is not None and len(journal.header.shape) == layer.ndim:
            for block in blocks:
                journal.mark(block)
            self._start_timer()

    def _is_followed(self, layer: Labels) -> bool:
        """Whether any change counts; results of a segmentation change by themselves, too."""
        chosen = any(same_layer(known, layer) for known in self._chosen)
        return chosen or self._journal_of(layer) is not None

    def _on_drawn(self, layer: Labels, event: Any) -> None:
        """Mark the part of the visible plane that a stroke has redrawn so far."""
        if not self._is_followed(layer):
            return
        viewer = self._session.viewer
        if viewer.dims.ndisplay != 2:
            return
        if tuple(viewer.dims.displayed) != (viewer.dims.ndim - 2, viewer.dims.ndim - 1):
            return
        place = [round(float(p)) for p in layer.world_to_data(viewer.dims.point)[:-2]]
        rows, columns = (int(n) for n in event.offset)
        height, width = event.data.shape[:2]
        block = (
            *(slice(p, p + 1) for p in place),
            slice(rows, rows + height),
            slice(columns, columns + width),
        )
        self._on_painted(layer, [block])

    def _on_maybe_changed(self, layer: Labels) -> None:
        journal = self._journal_of(layer)
        if journal is not None:
            journal.mark_written()
            self._start_timer()

    def _on_replaced(self, layer: Labels) -> None:
        if not self._is_followed(layer):
            return
        journal = self._journal_of(layer)
        if journal is None:
            self._begin(layer)
        else:
            journal.mark_all()
            self._start_timer()

    def _on_described(self, layer: Labels, _event: Any = None) -> None:
        """Note a new name or place once the layer rests: dragging it says so all the time."""
        if self._journal_of(layer) is not None:
            self._timer.start(FLUSH_MS)

    def _start_timer(self) -> None:
        if not self._timer.isActive():
            self._timer.start(FLUSH_MS)

    def _on_removed(self, event: Any) -> None:
        """Close the journal of a layer that the user deleted (not of one that goes with napari)."""
        if kind_of(event.value) != "labels":
            return
        self._stop_watching(event.value)
        self._chosen = [known for known in self._chosen if not same_layer(known, event.value)]
        for layer, journal in list(self._journals):
            if same_layer(layer, event.value):
                self._end(layer, journal)

    def _end(self, layer: Labels, journal: Journal) -> None:
        """Write what still waits, the newest first, and close the journal."""
        if _describes(journal.header, layer):
            with contextlib.suppress(OSError):
                _bring_up_to_date(journal, layer, LAST_SECONDS)
        self._drop(journal)

    def _drop(self, journal: Journal) -> None:
        try:
            journal.close(in_order=True)
        except OSError as error:
            logger.warning("a journal was not closed: %s", error)
        self._journals = [entry for entry in self._journals if entry[1] is not journal]

    def _on_closing(self) -> None:
        self._timer.stop()
        self._connections.clear()
        self._stop_watching()
        for layer, journal in list(self._journals):
            self._end(layer, journal)

    def _give_up(self, error: OSError) -> None:
        logger.warning("painted labels are not backed up any more: %s", error)
        self._timer.stop()
        for _layer, journal in self._journals:
            with contextlib.suppress(OSError):
                journal.close(in_order=False)
        self._journals.clear()
        self._stop_watching()
        reason = error.strerror or str(error)
        self.failed.emit(f"What you paint is not backed up any more ({reason}); save it often.")


def _describes(header: JournalHeader, layer: Labels) -> bool:
    return (tuple(layer.data.shape), str(layer.data.dtype)) == (header.shape, header.dtype)


def _bring_up_to_date(journal: Journal, layer: Labels, seconds: float | None) -> None:
    journal.describe(name=layer.name, placement=placement_of(layer))
    journal.flush(layer.data, seconds=seconds)


def placement_of(layer: Labels) -> dict[str, Any]:
    """Return where a layer lies, as plain JSON values."""
    return {
        "scale": [float(n) for n in layer.scale],
        "translate": [float(n) for n in layer.translate],
        "rotate": np.asarray(layer.rotate, dtype=float).tolist(),
        "shear": np.asarray(layer.shear, dtype=float).tolist(),
        "affine": np.asarray(layer.affine.affine_matrix, dtype=float).tolist(),
        "units": [str(unit) for unit in layer.units],
        "axis_labels": [str(label) for label in layer.axis_labels],
    }
