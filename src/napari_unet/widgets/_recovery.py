"""The offer to bring back labels that were painted when the program ended without warning."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QMenu, QPushButton, QToolButton, QVBoxLayout

from napari_unet.core.errors import InputError
from napari_unet.io.journal import JournalHeader, Recovered, read_header, read_journal
from napari_unet.io.journal_folder import closed_in_order, elsewhere, this_computer, unfinished
from napari_unet.widgets import _places
from napari_unet.widgets._annotation_layer import annotation_colormap
from napari_unet.widgets.panel import note
from napari_unet.widgets.session import METADATA_KEY

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet.widgets.session import Session

logger = logging.getLogger(__name__)


class RecoveryOffer(QFrame):
    """A line that appears when a journal was cut off: bring back, or throw away.

    Signals
    -------
    said, failed
        One sentence for the panel's status or error line.
    """

    said = Signal(str)
    failed = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._waiting: list[Path] = []
        self.setObjectName("recovery")
        self.setStyleSheet("#recovery { border: 1px solid #d08a1c; border-radius: 4px; }")
        self.text = note("")
        self.restore_button = QPushButton("Bring back")
        self.restore_button.setToolTip("Add the painted labels as a layer and go on painting.")
        self.discard_button = QPushButton("Throw away")
        self.discard_button.setToolTip("Delete this backup for good.")
        buttons = QHBoxLayout()
        buttons.addWidget(self.restore_button)
        buttons.addWidget(self.discard_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self.text)
        layout.addLayout(buttons)
        self.restore_button.clicked.connect(self.restore)
        self.discard_button.clicked.connect(self.discard)
        self.hide()

    def look(self) -> None:
        """Look for journals that were cut off, and offer the newest."""
        self._waiting = unfinished(_places.journal_folder())
        self._show_next()

    def restore(self) -> None:
        """Add the offered labels as annotation; the old journal goes when a new one holds them."""
        if not self._waiting:
            return
        path = self._waiting.pop(0)
        try:
            recovered = read_journal(path)
        except FileNotFoundError:
            self.failed.emit("This backup is gone: it was brought back or thrown away elsewhere.")
        except (InputError, OSError, MemoryError) as error:
            logger.warning("%s was not read: %s", path, error)
            self.failed.emit("This backup cannot be read; it was left where it is.")
        else:
            layer = add_recovered(self._session, recovered)
            backup = self._session.backup
            backup.begin()
            backup.write_all()
            if backup.journal is not None:
                self._delete(path)
            self.said.emit(f"{layer.name!r} is back.")
        self._show_next()

    def discard(self) -> None:
        """Delete the offered journal."""
        if self._waiting:
            self._delete(self._waiting.pop(0))
        self._show_next()

    def _delete(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            self.failed.emit(f"The backup cannot be deleted ({reason}); it stays in {path.parent}.")

    def _show_next(self) -> None:
        while self._waiting:
            try:
                header = read_header(self._waiting[0])
                when = _time_of(self._waiting[0])
            except (InputError, OSError):
                self._waiting.pop(0)
                continue
            where = f" on {header.image!r}" if header.image else ""
            self.text.setText(
                f"napari ended without warning while {header.name!r}{where} was painted ({when}). "
                "Bring the painted labels back?"
            )
            self.show()
            return
        self.hide()


class EarlierLabels(QToolButton):
    """A button whose menu lists labels that were painted earlier and closed, saved or not.

    Labels that another computer with the same home folder has open, or had when it stopped, are
    listed too: nobody here can tell which, so a copy is what can be had.

    Signals
    -------
    said, failed
        One sentence for the panel's status or error line.
    """

    said = Signal(str)
    failed = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.setText("⋯")
        # The dots say enough; napari would draw its arrow over them.
        self.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self.setToolTip("Bring back labels that were painted earlier, also when never saved.")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._menu = QMenu(self)
        self._menu.aboutToShow.connect(self.fill)
        self.setMenu(self._menu)

    def fill(self) -> None:
        """List what there is."""
        self._menu.clear()
        folder = _places.journal_folder()
        for path in [*closed_in_order(folder), *elsewhere(folder)]:
            try:
                header = read_header(path)
                text = f"{header.name}   {_time_of(path)}"
            except (InputError, OSError):
                continue
            if header.computer not in ("", this_computer()):
                text += f"   on {header.computer}"
            # Qt would take an & for the mark of a shortcut.
            action = self._menu.addAction(text.replace("&", "&&"))
            assert action is not None  # Qt's own annotation allows None
            action.triggered.connect(lambda _on=False, path=path: self.bring_back(path))
        if self._menu.isEmpty():
            nothing = self._menu.addAction("nothing was painted earlier")
            assert nothing is not None
            nothing.setEnabled(False)

    def bring_back(self, path: Path) -> None:
        """Add the labels of a journal as annotation; the journal stays."""
        try:
            recovered = read_journal(path)
        except (InputError, OSError, MemoryError) as error:
            logger.warning("%s was not read: %s", path, error)
            self.failed.emit("These labels cannot be read any more.")
            return
        layer = add_recovered(self._session, recovered)
        self.said.emit(f"{layer.name!r} is back.")


def _time_of(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime).strftime("%d %B, %H:%M")


def add_recovered(session: Session, recovered: Recovered) -> Labels:
    """Add recovered labels as a layer and choose them as annotation."""
    header = recovered.header
    try:
        layer = _layer_of(recovered, **_placement(header))
    # Written by another napari, with a user's units, or damaged.
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        logger.warning("%r was brought back without its place: %s", header.name, error)
        layer = _layer_of(recovered)
    session.viewer.add_layer(layer)
    layer.colormap = annotation_colormap()
    layer.opacity = 0.6
    session.annotation = layer
    return layer


def _layer_of(recovered: Recovered, **placement: Any) -> Labels:
    from napari.layers import Labels

    header = recovered.header
    return Labels(
        recovered.labels,
        name=header.name,
        metadata={METADATA_KEY: {"role": "annotation", "image": header.image}},
        **placement,
    )


def _placement(header: JournalHeader) -> dict[str, Any]:
    return {
        name: np.asarray(value) if name in ("rotate", "shear", "affine") else tuple(value)
        for name, value in header.placement.items()
    }
