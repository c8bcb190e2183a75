"""Long names stay told apart in a narrow panel."""

from __future__ import annotations

from pytestqt.qtbot import QtBot

from napari_unet.widgets._elided_combo import ElidedComboBox


def test_long_names_that_differ_at_the_end_are_told_apart(qtbot: QtBot) -> None:
    chooser = ElidedComboBox()
    qtbot.addWidget(chooser)
    names = [f"{'long-experiment-name-' * 4}{end}" for end in ("image", "painted")]
    chooser.addItems(names)
    assert chooser.sizeHint().width() < 300
    chooser.resize(180, chooser.sizeHint().height())
    shown, pictures = [], []
    for index in range(2):
        chooser.setCurrentIndex(index)
        shown.append(chooser.shown_text())
        pictures.append(chooser.grab().toImage())
    assert shown[0].endswith("image") and shown[1].endswith("painted")
    assert all("…" in text and len(text) < len(names[0]) for text in shown)
    assert pictures[0] != pictures[1]
    assert chooser.currentText() == names[1]


def test_a_short_name_is_shown_whole(qtbot: QtBot) -> None:
    chooser = ElidedComboBox()
    qtbot.addWidget(chooser)
    chooser.addItem("nuclei")
    chooser.resize(180, chooser.sizeHint().height())
    assert chooser.shown_text() == "nuclei"


def test_the_tooltip_tells_the_whole_name_and_what_is_chosen(qtbot: QtBot) -> None:
    combo = ElidedComboBox()
    qtbot.addWidget(combo)
    combo.addItems(["first", "a name that is too long to be shown in a narrow panel"])
    combo.describe("Which one is taken.")
    assert combo.toolTip() == "first\nWhich one is taken."
    combo.setCurrentIndex(1)
    assert combo.toolTip().startswith("a name that is too long")
    assert combo.toolTip().endswith("\nWhich one is taken.")
