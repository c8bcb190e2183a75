"""Asking for a file to write, so that nothing is replaced without a question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_unet.widgets._places import is_there


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
    return path if may_replace(parent, title, [path], Path(chosen)) else None


def may_replace(parent: QWidget, title: str, files: Iterable[Path], asked: Path) -> bool:
    """Ask about files that will be replaced, but for the one that the dialog has asked about."""
    names = [file.name for file in files if file != asked and is_there(file)]
    if not names:
        return True
    one = len(names) == 1
    question = f"exist{'s' if one else ''} already. Replace {'it' if one else 'them'}?"
    answer = QMessageBox.question(parent, title, f"{' and '.join(names)} {question}")
    return bool(answer == QMessageBox.StandardButton.Yes)
