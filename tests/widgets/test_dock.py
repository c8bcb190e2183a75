"""The tabbed dock: panels on demand, one state, nothing cut off on a laptop."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from qtpy.QtWidgets import QScrollArea

from napari_unet.widgets.dock import PANELS, UNetDock
from napari_unet.widgets.segment import SegmentPanel
from napari_unet.widgets.session import session_of


def test_panels_are_made_when_first_shown(viewer: Any) -> None:
    dock = UNetDock(viewer)
    assert [dock.tabs.tabText(i) for i in range(dock.tabs.count())] == [p[0] for p in PANELS]
    assert list(dock._panels) == [0]
    dock.tabs.setCurrentIndex(1)
    assert list(dock._panels) == [0, 1]
    assert dock.panel("Weights") is dock._panels[1]


@pytest.mark.parametrize("title", [panel[0] for panel in PANELS])
def test_every_panel_fits_a_small_laptop(viewer: Any, title: str) -> None:
    """Complaint 25: usable at 1366 x 768."""
    dock = UNetDock(viewer)
    viewer.window.add_dock_widget(dock, name="U-Net", area="right")
    panel = dock.show_panel(title)
    assert dock.minimumSizeHint().height() < 600
    assert dock.minimumSizeHint().width() <= 420
    assert panel.findChildren(QScrollArea)
    assert panel.session is session_of(viewer)


def test_removing_the_dock_lets_go_of_the_viewer(viewer: Any) -> None:
    before = dict(viewer.keymap)
    dock = UNetDock(viewer)
    viewer.window.add_dock_widget(dock, name="U-Net", area="right")
    assert dict(viewer.keymap) != before
    viewer.window.remove_dock_widget(dock)
    assert dict(viewer.keymap) == before


def test_the_first_tab_does_not_pay_for_torch() -> None:
    import subprocess

    code = (
        "import sys; import napari_unet.widgets.dock, napari_unet.widgets.annotate, "
        "napari_unet.widgets.weight_map; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_cut_off_at_the_side_of_a_narrow_dock(viewer: Any, qtbot: Any) -> None:
    """As beside a second dock: what is too high is scrolled, what is too wide is shortened."""
    dock = UNetDock(viewer)
    viewer.window.add_dock_widget(dock, name="U-Net", area="right")
    for title, *_ in PANELS:
        panel: Any = dock.show_panel(title)
        if title == "Segment":
            panel.options.unfold()
        if title == "Train":
            panel.expert.unfold()
        qtbot.wait(10)
        area = panel.findChild(QScrollArea)
        needed = area.widget().minimumSizeHint().width()
        narrowest = panel.minimumSizeHint().width()
        bar = area.verticalScrollBar().sizeHint().width()
        assert needed + bar <= narrowest <= 380, (title, needed, bar)


def test_a_panel_by_itself_asks_for_the_width_of_what_is_in_it(viewer: Any) -> None:
    panel = SegmentPanel(viewer)
    content = panel.findChild(QScrollArea).widget()
    assert panel.sizeHint().width() >= content.minimumSizeHint().width()
    panel.close()
