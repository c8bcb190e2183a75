"""The tabbed "U-Net" dock: all panels of one viewer; each is made when its tab is first shown."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_unet.widgets._focus import show_focus
from napari_unet.widgets.session import session_of

if TYPE_CHECKING:
    from napari import Viewer

    from napari_unet.widgets.panel import Panel

#: Tab title, module and class of each panel, in the order of work.
PANELS = (
    ("Annotate", "annotate", "AnnotatePanel"),
    ("Weights", "weight_map", "WeightMapPanel"),
    ("Train", "train", "TrainPanel"),
    ("Segment", "segment", "SegmentPanel"),
    ("Export", "export", "ExportPanel"),
)


# napari's tabs leave hardly any room around their words.
_TABS_STYLE = "QTabBar::tab { padding: 4px 9px; }"


class UNetDock(QWidget):
    """All panels behind tabs; they share the viewer's session.

    Parameters
    ----------
    napari_viewer
        The viewer; napari passes it by this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.session = session_of(napari_viewer)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.setUsesScrollButtons(True)
        self.tabs.setStyleSheet(_TABS_STYLE)
        self._panels: dict[int, Panel] = {}
        for title, _module, _name in PANELS:
            page = QWidget()
            column = QVBoxLayout(page)
            column.setContentsMargins(0, 0, 0, 0)
            self.tabs.addTab(page, title)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 5, 0, 0)  # napari's title bar reaches a little into the dock
        layout.addWidget(self.tabs)
        self.tabs.currentChanged.connect(self._ensure)
        self._ensure(self.tabs.currentIndex())

    def panel(self, title: str) -> Panel:
        """Return the panel behind a tab, making it when needed."""
        index = [entry[0] for entry in PANELS].index(title)
        self._ensure(index)
        return self._panels[index]

    def show_panel(self, title: str) -> Panel:
        """Bring a tab to the front and return its panel."""
        panel = self.panel(title)
        self.tabs.setCurrentWidget(panel.parentWidget())
        return panel

    def focusNextPrevChild(self, next: bool) -> bool:  # noqa: N802 (Qt's names)
        """Show the focus to who moves it by key, on the tabs too."""
        moved = super().focusNextPrevChild(next)
        show_focus(self)
        return bool(moved)

    def event(self, event: QEvent | None) -> bool:
        """Dismiss all panels when napari takes the dock away for good."""
        removed = event is not None and event.type() == QEvent.Type.ParentChange
        handled = super().event(event)
        if removed and self.parent() is None:
            for panel in self._panels.values():
                panel.dismiss()
        return bool(handled)

    def _ensure(self, index: int) -> None:
        if index in self._panels or index < 0:
            return
        _title, module, name = PANELS[index]
        panel_class = getattr(import_module(f"napari_unet.widgets.{module}"), name)
        panel: Panel = panel_class(self.viewer)
        self._panels[index] = panel
        page = self.tabs.widget(index)
        layout = None if page is None else page.layout()
        if layout is not None:
            layout.addWidget(panel)
