"""Asking for a file to write, so that nothing is replaced without a question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget


def with_ending(path: str | Path, endings: Sequence[str]) -> Path:
    """Return the path with the first of these endings, unless its name has one of them."""
    path = Path(path)
    known = path.name.lower().endswith(tuple(endings))
    return path if known else path.with_name(f"{path.name}{endings[0]}")


def ask_for_file(
    parent: QWidget, title: str, start: Path, filters: str, endings: Sequence[str]
) -> Path | None:
    """Let the user choose a file to write; its name gets an ending where none was typed.

    The dialog asks before a file is replaced, but some leave the ending to us and then look for
    another file than the one that will be written.
    """
    chosen, _ = QFileDialog.getSaveFileName(parent, title, str(start), filters)
    if not chosen:
        return None
    path = with_ending(chosen, endings)
    if path != Path(chosen) and path.exists():
        question = f"{path.name} exists already. Replace it?"
        if QMessageBox.question(parent, title, question) != QMessageBox.StandardButton.Yes:
            return None
    return path
