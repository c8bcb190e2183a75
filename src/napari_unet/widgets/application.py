"""The command `napari-unet`: napari with all panels, and a guide at the first start."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFrame, QHBoxLayout, QToolButton, QWidget

from napari_unet.widgets._preferences import preference
from napari_unet.widgets.dock import UNetDock
from napari_unet.widgets.panel import note
from napari_unet.widgets.sample_layers import nuclei_layers

if TYPE_CHECKING:
    from napari import Viewer

logger = logging.getLogger(__name__)

GUIDE = (
    "<b>1.</b> Annotate: press New, paint five cells, N after each.<br>"
    "<b>2.</b> Train: press Train and watch it learn for a minute.<br>"
    "<b>3.</b> Segment: press Segment, correct, train again."
)


class Guide(QFrame):
    """Three lines that say what to do; a cross takes them away."""

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.text = note(GUIDE)
        close = QToolButton()
        close.setText("✕")
        close.setAutoRaise(True)
        close.setToolTip("Hide this guide")
        close.clicked.connect(self.hide)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(6, 4, 4, 4)
        layout.addWidget(self.text, 1)
        layout.addWidget(close)


def open_viewer(*, show: bool = True) -> None:
    """Open napari with the panels and stay until its window is closed."""
    import napari

    viewer = napari.Viewer(title="napari-unet", show=show)
    add_panels(viewer, welcome=first_start())
    if show:
        napari.run()


def add_panels(viewer: Viewer, *, welcome: bool = False) -> UNetDock:
    """Dock all panels; with ``welcome``, open a sample and show the guide."""
    if welcome:
        for data, options, kind in nuclei_layers():
            add = viewer.add_labels if kind == "labels" else viewer.add_image
            add(data, **options)
    dock = UNetDock(viewer)
    if welcome:
        _show_guide(dock)
    viewer.window.add_dock_widget(dock, name="U-Net", area="right")
    if welcome:
        viewer.layers.selection.active = dock.session.image
        # When the dock has taken its place beside the canvas, the sample is fitted into the rest.
        QTimer.singleShot(0, viewer.reset_view)
    return dock


def first_start(folder: Path | None = None) -> bool:
    """Return True at the first call on this computer, if the preferences allow a welcome."""
    if not preference("welcome", True):
        return False
    place = folder or Path(platformdirs.user_state_dir("napari-unet-finetune", appauthor=False))
    marker = place / "welcomed"
    if marker.exists():
        return False
    try:
        place.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:  # a guide too often is better than no viewer
        logger.info("the first start cannot be remembered: %s", error)
    return True


def _show_guide(dock: QWidget) -> None:
    layout = dock.layout()
    if layout is not None:
        layout.insertWidget(0, Guide())  # type: ignore[attr-defined]
