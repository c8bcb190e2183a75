"""The drop-down list of layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_unet.widgets.layer_chooser import LayerChooser
from napari_unet.widgets.session import session_of


def texts(chooser: LayerChooser) -> list[str]:
    return [chooser.itemText(i) for i in range(chooser.count())]


def test_follows_added_renamed_and_removed_layers(viewer: Any, qtbot: Any) -> None:
    chooser = LayerChooser(session_of(viewer), ("image",), none_text="nothing")
    qtbot.addWidget(chooser)
    chosen: list[Any] = []
    chooser.layer_chosen.connect(chosen.append)
    second = viewer.add_image(np.zeros((4, 4)), name="second")
    viewer.add_labels(np.zeros((4, 4), int), name="labels")
    assert texts(chooser) == ["nothing", "cells", "second"]
    chooser.set_layer(second)
    second.name = "another name"
    assert chooser.layer is second and chooser.currentText() == "another name"
    viewer.layers.remove(second)
    assert chooser.layer is None and texts(chooser) == ["nothing", "cells"]
    assert chosen == [second, None]


def test_follows_the_session_both_ways(viewer: Any, qtbot: Any) -> None:
    session = session_of(viewer)
    chooser = LayerChooser(session, ("image",), follows="image")
    qtbot.addWidget(chooser)
    first = viewer.layers["cells"]
    second = viewer.add_image(np.zeros((4, 4)), name="second")
    assert chooser.layer is first
    chooser.set_layer(second)
    assert session.image is second
    session.image = first
    assert chooser.layer is first
    session.image = None
    assert chooser.layer is None


def test_replaced_layer_is_another_layer(viewer: Any, qtbot: Any) -> None:
    session = session_of(viewer)
    chooser = LayerChooser(session, ("labels",), follows="annotation")
    qtbot.addWidget(chooser)
    old = viewer.add_labels(np.zeros((4, 4), int), name="a")
    viewer.layers.remove(old)
    new = viewer.add_labels(np.zeros((4, 4), int), name="a")
    assert session.annotation is new and chooser.layer is new


def test_a_long_name_does_not_widen_the_panel(viewer: Any, qtbot: Any) -> None:
    chooser = LayerChooser(session_of(viewer), ("image",))
    qtbot.addWidget(chooser)
    before = chooser.minimumSizeHint().width()
    viewer.layers["cells"].name = "x" * 300
    assert chooser.minimumSizeHint().width() == before
