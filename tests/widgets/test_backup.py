"""Complaint 14: what was painted a second ago survives kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Layer

from napari_unet.io import journal as journal_file
from napari_unet.io.journal import read_header, read_journal
from napari_unet.io.journal_folder import new_journal, this_computer, unfinished
from napari_unet.widgets import _backup
from napari_unet.widgets._annotation_layer import new_annotation
from napari_unet.widgets._recovery import EarlierLabels, RecoveryOffer
from napari_unet.widgets.session import Session, session_of


@pytest.fixture
def session(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(_backup, "FLUSH_MS", 20)
    session = session_of(viewer)
    session.backup  # noqa: B018
    new_annotation(session, session.image)
    return session


def wait_written(qtbot: Any, session: Session) -> None:
    backup = session.backup
    qtbot.waitUntil(lambda: backup.journal is not None, timeout=5000)
    qtbot.waitUntil(lambda: not backup.journal.waiting and not backup._timer.isActive())


def test_nothing_is_written_before_the_first_stroke(session: Session, journals: Path) -> None:
    session.backup.flush()
    assert list(journals.iterdir()) == []


def test_strokes_undo_and_new_data_are_in_the_file(session: Session, qtbot: Any) -> None:
    layer = session.annotation
    for action in (
        lambda: layer.paint((20, 20), 1),
        lambda: layer.paint((20, 70), -1),
        layer.undo,
        layer.redo,
        lambda: setattr(layer, "data", np.full_like(layer.data, 3)),
    ):
        action()
        wait_written(qtbot, session)
        assert np.array_equal(read_journal(session.backup.journal.path).labels, layer.data)


def test_a_stroke_that_goes_on_is_written_before_it_ends(
    make_napari_viewer: Callable[..., Any], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """napari tells about a stroke when the mouse button is released, seconds later perhaps."""
    monkeypatch.setattr(_backup, "FLUSH_MS", 20)
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((3, 300, 400)))
    viewer.dims.set_current_step(0, 2)
    session = session_of(viewer)
    session.backup  # noqa: B018
    layer = new_annotation(session, session.image)
    with layer.block_history():
        for column in range(20, 380, 20):
            layer.paint((2, 290, column), 5)
        wait_written(qtbot, session)
        assert np.array_equal(read_journal(session.backup.journal.path).labels, layer.data)
        assert layer.data[2].any()


def test_strokes_on_the_annotation_of_another_image_are_in_the_file(
    session: Session, qtbot: Any, journals: Path
) -> None:
    """Two images are learned from: a click in the layer list, and the other one is painted."""
    first = session.annotation
    first.paint((20, 20), 1)
    wait_written(qtbot, session)
    path = session.backup.journal.path
    new_annotation(session, session.image).paint((5, 5), 1)
    first.paint((40, 40), 2)
    wait_written(qtbot, session)
    assert np.array_equal(read_journal(path).labels, first.data)
    third = new_annotation(session, session.image)
    session.image = session.viewer.add_image(np.zeros((64, 80)), name="other")
    new_annotation(session, session.image)
    third.paint((40, 40), 2)
    qtbot.waitUntil(lambda: len(list(journals.iterdir())) == 3)
    assert {read_header(path).image for path in journals.iterdir()} == {"cells"}
    session.viewer.layers.remove(first)
    first.paint((50, 50), 3)
    assert read_journal(path).closed and not session.backup._journal_of(first)


def test_corrections_of_a_result_are_in_the_file(
    session: Session, qtbot: Any, journals: Path
) -> None:
    """Not everybody presses Use as annotation before correcting; a result by itself is no work."""
    result = session.viewer.add_labels(
        np.full((64, 80), 3, np.uint16), metadata={"napari_unet": {"role": "result"}}
    )
    assert session.annotation is not result
    result.data[:8] = 5
    result.refresh()
    result.data = result.data.astype(np.int32)
    result.name = "corrected"
    qtbot.wait(60)
    assert list(journals.iterdir()) == []
    result.paint((20, 20), 9)
    qtbot.waitUntil(lambda: len(list(journals.iterdir())) == 1)
    (path,) = journals.iterdir()
    qtbot.waitUntil(lambda: np.array_equal(read_journal(path).labels, result.data))
    assert read_header(path).name == "corrected" and read_header(path).image == "cells"
    result.undo()
    qtbot.waitUntil(lambda: np.array_equal(read_journal(path).labels, result.data))


def test_a_new_shape_or_type_begins_a_new_journal(session: Session, qtbot: Any) -> None:
    layer = session.annotation
    layer.paint((20, 20), 1)
    wait_written(qtbot, session)
    first = session.backup.journal
    layer.data = np.ones((30, 40), np.int32)
    qtbot.waitUntil(lambda: session.backup.journal is not first)
    wait_written(qtbot, session)
    assert np.array_equal(read_journal(session.backup.journal.path).labels, layer.data)


def test_labels_that_were_there_before_are_in_the_file(viewer: Any, qtbot: Any) -> None:
    session = session_of(viewer)
    labels = np.zeros((64, 80), np.uint16)
    labels[5:9, 5:9] = 9
    layer = viewer.add_labels(labels)
    session.annotation = layer
    session.backup  # noqa: B018
    layer.paint((40, 40), 2)
    wait_written(qtbot, session)
    assert np.array_equal(read_journal(session.backup.journal.path).labels, layer.data)


def test_labels_that_nobody_painted_are_in_the_file_too(
    make_napari_viewer: Callable[..., Any], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script wrote into the new layer, or it is a duplicate of one that was painted."""
    monkeypatch.setattr(_backup, "FLUSH_MS", 20)
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((300, 700)))
    session = session_of(viewer)
    session.backup  # noqa: B018
    layer = new_annotation(session, session.image)
    layer.data[:20, :20] = 4
    layer.refresh()
    duplicate = Layer.create(*deepcopy(layer.as_layer_data_tuple()))
    viewer.add_layer(duplicate)
    for painted in (layer, duplicate):
        session.annotation = painted
        painted.paint((290, 690), 2)
        wait_written(qtbot, session)
        assert np.array_equal(read_journal(session.backup.journal.path).labels, painted.data)


def test_deleting_the_layer_or_closing_napari_closes_the_journal(
    session: Session, qtbot: Any, journals: Path
) -> None:
    session.annotation.paint((20, 20), 1)
    wait_written(qtbot, session)
    path = session.backup.journal.path
    session.viewer.layers.remove(session.annotation)
    assert read_journal(path).closed
    new_annotation(session, session.image).paint((5, 5), 1)
    wait_written(qtbot, session)
    path = session.backup.journal.path
    session.viewer.close()
    assert read_journal(path).closed
    assert unfinished(journals) == []


def test_a_layer_that_is_renamed_and_moved_comes_back_as_it_was_last(
    session: Session, qtbot: Any
) -> None:
    layer = session.annotation
    layer.paint((20, 20), 1)
    wait_written(qtbot, session)
    layer.name = "nuclei of mouse 3"
    layer.scale, layer.translate = (0.5, 0.25), (7, 9)
    wait_written(qtbot, session)  # no stroke follows
    header = read_header(session.backup.journal.path)
    assert header.name == "nuclei of mouse 3"
    assert header.placement["scale"] == [0.5, 0.25] and header.placement["translate"] == [7, 9]
    path = session.backup.journal.path
    layer.name = "renamed at last"
    session.viewer.layers.remove(layer)
    recovered = read_journal(path)
    assert recovered.header.name == "renamed at last" and recovered.closed
    assert np.array_equal(recovered.labels, layer.data)


@pytest.mark.parametrize("end", ["the layer", "napari"])
def test_a_stroke_just_before_the_end_is_in_the_file(
    viewer: Any, journals: Path, qtbot: Any, end: str
) -> None:
    session = session_of(viewer)
    session.backup  # noqa: B018
    layer = new_annotation(session, session.image)
    layer.paint((20, 20), 1)
    if end == "napari":
        viewer.close()
    else:
        viewer.layers.remove(layer)
    (path,) = journals.iterdir()
    recovered = read_journal(path)
    assert recovered.closed and np.array_equal(recovered.labels, layer.data) and layer.data.any()


def test_a_full_disk_is_said_once_and_painting_goes_on(
    session: Session, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    session.backup.failed.connect(said.append)
    session.annotation.paint((20, 20), 1)

    def full(*_arguments: Any, **_more: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_file.Journal, "flush", full)
    qtbot.waitUntil(lambda: bool(said))
    session.annotation.paint((30, 30), 2)
    qtbot.wait(60)
    assert len(said) == 1 and "No space left" in said[0]
    assert session.annotation.data[30, 30] == 2


_PAINTER = """
    import sys
    import numpy as np
    from pathlib import Path
    import napari
    from qtpy.QtCore import QTimer
    from napari_unet.widgets import _places
    _places.journal_folder = lambda: Path(sys.argv[1])
    from napari_unet.widgets.annotate import AnnotatePanel

    viewer = napari.Viewer(show=False)
    viewer.add_image(np.zeros((3, 300, 700)), name="cells", scale=(2, 0.5, 0.5))
    panel = AnnotatePanel(viewer)
    panel.make_annotation()
    layer = panel.session.annotation
    layer.paint((0, 50, 60), 1)
    layer.paint((0, 50, 90), 2)
    layer.undo()
    layer.paint((2, 290, 690), -1)
    np.save(sys.argv[2], layer.data)
    QTimer.singleShot(1000, lambda: print("painted", flush=True))
    napari.run()
"""


def test_painted_labels_survive_sigkill(
    make_napari_viewer: Callable[..., Any], tmp_path: Path, journals: Path, qtbot: Any
) -> None:
    """A program is killed one second after a stroke; the next one offers to bring it back."""
    script, truth = tmp_path / "painter.py", tmp_path / "truth.npy"
    script.write_text(textwrap.dedent(_PAINTER))
    process = subprocess.Popen(
        [sys.executable, str(script), str(journals), str(truth)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "painted"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    time.sleep(0.05)
    assert len(unfinished(journals)) == 1

    viewer = make_napari_viewer()
    offer = RecoveryOffer(session_of(viewer))
    qtbot.addWidget(offer)
    offer.look()
    assert not offer.isHidden() and "'cells'" in offer.text.text()
    offer.restore()
    layer = viewer.layers["cells annotation"]
    assert np.array_equal(layer.data, np.load(truth))
    assert tuple(layer.scale) == (2, 0.5, 0.5)
    assert session_of(viewer).annotation is layer
    assert offer.isHidden()
    # The old file is gone and a new one holds the same labels.
    assert unfinished(journals) == []
    (path,) = journals.iterdir()
    assert np.array_equal(read_journal(path).labels, layer.data)


def test_an_offer_can_be_refused(viewer: Any, journals: Path, qtbot: Any) -> None:
    header = journal_file.JournalHeader("old", (4, 4), "int32", process=2**22 + 7)
    for _ in range(2):
        new_journal(journals, header).close(in_order=False)
    offer = RecoveryOffer(session_of(viewer))
    qtbot.addWidget(offer)
    offer.look()
    offer.discard()
    assert not offer.isHidden()
    offer.discard()
    assert offer.isHidden() and list(journals.iterdir()) == []


def test_a_backup_that_cannot_be_deleted_is_named(
    viewer: Any, journals: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = journal_file.JournalHeader("old", (4, 4), "int32", process=2**22 + 7)
    new_journal(journals, header).close(in_order=False)
    offer = RecoveryOffer(session_of(viewer))
    qtbot.addWidget(offer)
    failed: list[str] = []
    offer.failed.connect(failed.append)
    offer.look()

    def refused(*_arguments: Any, **_more: Any) -> None:
        raise PermissionError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        offer.discard()
    assert offer.isHidden() and "Read-only file system" in failed[0]


def test_a_backup_that_another_panel_took_is_gone(viewer: Any, journals: Path, qtbot: Any) -> None:
    header = journal_file.JournalHeader("old", (4, 4), "int32", process=2**22 + 7)
    new_journal(journals, header).close(in_order=False)
    offers = [RecoveryOffer(session_of(viewer)) for _ in range(2)]
    failed: list[str] = []
    for offer in offers:
        qtbot.addWidget(offer)
        offer.failed.connect(failed.append)
        offer.look()
    offers[0].discard()
    offers[1].restore()
    assert len(failed) == 1 and "is gone" in failed[0] and offers[1].isHidden()


def test_an_unreadable_backup_is_left_alone(viewer: Any, journals: Path, qtbot: Any) -> None:
    header = journal_file.JournalHeader("old", (4, 4), "int32", process=2**22 + 7)
    journal = new_journal(journals, header)
    journal.close(in_order=False)
    offer = RecoveryOffer(session_of(viewer))
    qtbot.addWidget(offer)
    failed: list[str] = []
    offer.failed.connect(failed.append)
    offer.look()
    journal.path.write_bytes(b"damaged")
    offer.restore()
    assert len(failed) == 1 and journal.path.exists() and offer.isHidden()


@pytest.mark.parametrize(
    "placement",
    [
        {"units": ["passus", "passus"]},
        {"scale": 3},
        {"scale": ["a", "b"]},
        {"affine": "damaged"},
        {"rotate": [[[1]]]},
        {"future": [1, 2]},
    ],
)
def test_labels_come_back_also_where_their_place_means_nothing(
    viewer: Any, journals: Path, qtbot: Any, placement: dict[str, Any]
) -> None:
    """Units that the user defined, or another version of napari."""
    header = journal_file.JournalHeader(
        "old", (4, 4), "int32", process=2**22 + 7, placement=placement
    )
    journal = new_journal(journals, header)
    journal.mark_all()
    journal.flush(np.full((4, 4), 5, np.int32))
    journal.close(in_order=False)
    session = session_of(viewer)
    offer = RecoveryOffer(session)
    qtbot.addWidget(offer)
    offer.look()
    offer.restore()
    assert (session.annotation.data == 5).all() and offer.isHidden()


def test_an_earlier_name_is_listed_as_it_is(viewer: Any, journals: Path, qtbot: Any) -> None:
    header = journal_file.JournalHeader("R&D", (4, 4), "int32")
    new_journal(journals, header).close(in_order=True)
    earlier = EarlierLabels(session_of(viewer))
    qtbot.addWidget(earlier)
    earlier.fill()
    (action,) = earlier.menu().actions()
    assert action.text().startswith("R&&D ")  # one & is the mark of a shortcut


def test_labels_closed_without_saving_can_be_brought_back(
    session: Session, qtbot: Any, journals: Path
) -> None:
    earlier = EarlierLabels(session)
    qtbot.addWidget(earlier)
    said, failed = [], []
    earlier.said.connect(said.append)
    earlier.failed.connect(failed.append)
    earlier.fill()
    (nothing,) = earlier.menu().actions()
    assert not nothing.isEnabled()
    session.annotation.paint((20, 20), 7)
    wait_written(qtbot, session)
    painted = session.annotation.data.copy()
    session.viewer.layers.remove(session.annotation)
    earlier.fill()
    (action,) = earlier.menu().actions()
    assert action.text().startswith("cells annotation")
    action.trigger()
    assert np.array_equal(session.annotation.data, painted) and len(said) == 1
    (path,) = journals.iterdir()
    path.write_bytes(b"damaged")
    action.trigger()
    assert len(failed) == 1


def test_labels_open_on_another_computer_are_copied_and_left_alone(
    viewer: Any, journals: Path, qtbot: Any
) -> None:
    """The home folder is on a server, and the same person paints at the microscope."""
    header = journal_file.JournalHeader("there", (4, 4), "int32", process=3, computer="scope")
    journal = new_journal(journals, header)
    journal.mark_all()
    journal.flush(np.full((4, 4), 5, np.int32))
    session = session_of(viewer)
    offer, earlier = RecoveryOffer(session), EarlierLabels(session)
    for widget in (offer, earlier):
        qtbot.addWidget(widget)
    offer.look()
    assert offer.isHidden()
    earlier.fill()
    (action,) = earlier.menu().actions()
    assert action.text().endswith("on scope")
    action.trigger()
    assert (session.annotation.data == 5).all() and journal.path.exists()
    journal.discard()


def test_a_backup_says_which_computer_writes_it(session: Session, qtbot: Any) -> None:
    session.annotation.paint((20, 20), 1)
    wait_written(qtbot, session)
    assert session.backup.journal.header.computer == this_computer()
