"""The base of all panels: a scrolling column, a status line and an error line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFormLayout, QFrame, QGroupBox, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_unet.core.errors import InputError, UNetError
from napari_unet.widgets._connections import Connections
from napari_unet.widgets._focus import FocusReturn, show_focus
from napari_unet.widgets._wheel import WheelGuard
from napari_unet.widgets.session import session_of

if TYPE_CHECKING:
    from napari import Viewer


class Panel(QWidget):
    """One panel; a subclass fills :attr:`body` in :meth:`build` and connects in its ``__init__``.

    The column scrolls, so nothing is cut off on a small screen; the status and error lines below
    it are always in sight.

    Parameters
    ----------
    napari_viewer
        The viewer; napari passes it by this name.
    """

    #: Title of the panel's tab and dock widget.
    title: ClassVar[str] = ""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.session = session_of(napari_viewer)
        #: Undone when the panel or the viewer closes.
        self.connections = Connections()
        self._focus_return = FocusReturn(self, napari_viewer.window.main_menu.window())
        self._scroll, self.body = _scrolling_column()
        self._hint = ""
        self._status = _line("status")
        self._error = _line("error")
        self._error.setStyleSheet("color: #e0483e; font-weight: bold;")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.addWidget(self._scroll, 1)
        layout.addWidget(self._error)
        layout.addWidget(self._status)
        connections = self.connections
        self.session.closing.connect(connections.clear)
        # Never a lambda here: a widget that is collected in a cycle would call it half cleared.
        self.destroyed.connect(connections.clear)

    def add_group(self, title: str) -> QFormLayout:
        """Append a titled group and return its form layout."""
        box = QGroupBox(title)
        form = QFormLayout(box)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self.body.addWidget(box)
        return form

    def show_status(self, text: str) -> None:
        """Say what goes on; an empty text hides the line."""
        self._status.setText(text)
        self._status.setVisible(bool(text))

    def show_hint(self, text: str) -> None:
        """Say what to do first, unless the status line has something to tell."""
        if self.status in ("", self._hint):
            self.show_status(text)
            self._hint = text

    def show_error(self, text: str) -> None:
        """Say in one sentence what went wrong; an empty text hides the line."""
        self._error.setText(text)
        self._error.setVisible(bool(text))

    @property
    def status(self) -> str:
        """The status line."""
        return self._status.text()

    @property
    def error(self) -> str:
        """The error line; empty when all is well."""
        return self._error.text()

    @contextlib.contextmanager
    def errors_shown(self) -> Iterator[None]:
        """Show an error of this package in the error line; let unexpected ones through."""
        self.show_error("")
        try:
            yield
        except UNetError as error:
            self.show_error(str(error))

    def check_free(self, key: str) -> None:
        """Decline to start what another panel of this viewer, or a closed one, still runs.

        Raises
        ------
        InputError
            If a job with this key runs.
        """
        job = self.session.jobs.running(key)
        if job is not None:
            raise InputError(f"{job.title} is still running in this viewer; wait until it ends.")

    def event(self, event: QEvent | None) -> bool:
        """Let go of the viewer when napari takes the panel out of its dock for good."""
        removed = event is not None and event.type() == QEvent.Type.ParentChange
        handled = super().event(event)
        if removed and self.parent() is None:
            self.dismiss()
        return bool(handled)

    def focusNextPrevChild(self, next: bool) -> bool:  # noqa: N802 (Qt's names)
        """Show the focus to who moves it by key."""
        moved = super().focusNextPrevChild(next)
        show_focus(self)
        return bool(moved)

    def dismiss(self) -> None:
        """Let go of the viewer: the panel was closed."""
        self.leave()
        self.connections.clear()

    def leave(self) -> None:
        """Tidy up before the panel goes; the default does nothing."""


def _scrolling_column() -> tuple[QScrollArea, QVBoxLayout]:
    content = QWidget()
    body = QVBoxLayout(content)
    body.setContentsMargins(6, 6, 6, 6)
    body.setSpacing(6)
    body.setAlignment(Qt.AlignmentFlag.AlignTop)
    scroll = _Column()
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
    scroll.setWidget(content)
    return scroll, body


#: Widths between which a panel cannot be made narrower than what is in it.
_NARROW, _WIDE = 280, 380


class _Column(QScrollArea):
    """Scrolls what is too high, and asks for the width at which nothing is cut off."""

    def __init__(self) -> None:
        super().__init__()
        self._wheel = WheelGuard(self)
        self._needed = 0

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Notice fields that are added to the content, as Qt does."""
        content = self.widget()
        if content is not None and event is not None and event.type() == QEvent.Type.LayoutRequest:
            self._wheel.watch(content)
            if self._needed != self._width():
                self._needed = self._width()
                self.updateGeometry()
        return super().eventFilter(watched, event)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return Qt's usual size, wide enough for the content beside a scroll bar."""
        hint = super().sizeHint()
        hint.setWidth(max(hint.width(), self._width()))
        return hint

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return the smallest size at which no button is cut off at the side."""
        hint = super().minimumSizeHint()
        hint.setWidth(min(max(_NARROW, self._width()), _WIDE))
        return hint

    def _width(self) -> int:
        content, bar = self.widget(), self.verticalScrollBar()
        if content is None or bar is None:
            return 0
        return content.minimumSizeHint().width() + bar.sizeHint().width()


def _line(name: str) -> QLabel:
    label = WrappedLabel()
    label.setObjectName(name)
    label.setContentsMargins(6, 0, 6, 0)
    label.hide()
    return label


# Paths and names of microscopes' files have no spaces; longer words than this are broken.
_LONG_WORD = 24
_WORD = re.compile(rf"[^\s<>&;]{{{_LONG_WORD + 1},}}")
_BREAK = "\u200b"


class WrappedLabel(QLabel):
    """Plain words that wrap, also inside a long name: it must not widen the panel."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._plain = ""
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setText(text)

    def setText(self, text: str | None) -> None:  # noqa: N802
        """Show a text; :meth:`text` returns it without the places to break at."""
        self._plain = text or ""
        super().setText(_WORD.sub(_breakable, self._plain))

    def text(self) -> str:
        """Return the text as it was set."""
        return self._plain


def _breakable(word: re.Match[str]) -> str:
    return re.sub(rf"(.{{1,{_LONG_WORD}}})", rf"\1{_BREAK}", word.group())


def note(text: str) -> QLabel:
    """Return a label of plain words that wraps and can be copied."""
    return WrappedLabel(text)
