"""The list of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_unet.core.model import Model
from napari_unet.widgets.model_chooser import ModelChooser, shipped_names
from napari_unet.widgets.session import session_of


@pytest.fixture
def session(make_napari_viewer: Any) -> Any:
    session = session_of(make_napari_viewer())
    yield session
    session.close()


def test_shipped_models_come_first_and_scratch_last(session: Any, qtbot: Any) -> None:
    chooser = ModelChooser(session, scratch=True)
    qtbot.addWidget(chooser)
    texts = [chooser.itemText(k) for k in range(chooser.count())]
    assert texts[-1] == "Open a model file…"
    assert "scratch" in texts[-3]
    for name in shipped_names():
        assert any(name in text for text in texts)
    assert chooser.choice is not None


def test_a_trained_model_is_taken_only_where_that_is_wanted(
    session: Any, qtbot: Any, bright_model: Model
) -> None:
    start, use = ModelChooser(session, scratch=True), ModelChooser(session, take_new=True)
    for chooser in (start, use):
        qtbot.addWidget(chooser)
    before = start.choice
    chosen: list[Any] = []
    use.model_chosen.connect(chosen.append)
    session.model = bright_model
    assert start.choice == before
    assert use.choice.source is bright_model
    assert [choice.source for choice in chosen] == [bright_model]
    start.choose("trained:bright")
    newer = bright_model.with_name("bright")
    session.model = newer  # trained again under the same name: the entry follows
    assert start.choice.source is newer


def test_files_are_listed_once(session: Any, qtbot: Any, tmp_path: Path) -> None:
    chooser = ModelChooser(session)
    qtbot.addWidget(chooser)
    chooser.choose_file(tmp_path / "mine.safetensors")
    chooser.choose_file(tmp_path / "other.safetensors")
    chooser.choose_file(tmp_path / "mine.safetensors")
    texts = [chooser.itemText(k) for k in range(chooser.count())]
    assert texts.count("mine") == 1
    assert chooser.choice.source == str(tmp_path / "mine.safetensors")


def test_cancelling_the_file_dialog_changes_nothing(
    session: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chooser = ModelChooser(session, scratch=True)
    qtbot.addWidget(chooser)
    before = chooser.choice
    dialog = "napari_unet.widgets.model_chooser.QFileDialog.getOpenFileName"
    monkeypatch.setattr(dialog, lambda *args: ("", ""))
    chooser.setCurrentIndex(chooser.count() - 1)
    chooser.activated.emit(chooser.count() - 1)
    assert chooser.choice == before
    monkeypatch.setattr(dialog, lambda *args: (str(tmp_path / "new.safetensors"), ""))
    chooser.activated.emit(chooser.count() - 1)
    assert chooser.choice.text == "new"


def test_cancelling_the_file_dialog_keeps_one_of_two_files_of_the_same_name(
    session: Any,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    bright_model: Model,
) -> None:
    """Also when a training ends while the dialog is open."""
    chooser = ModelChooser(session)
    qtbot.addWidget(chooser)
    for day in ("monday", "friday"):
        chooser.choose_file(tmp_path / day / "mine.safetensors")
    chooser.setCurrentIndex(1)
    chooser.activated.emit(1)
    dialog = "napari_unet.widgets.model_chooser.QFileDialog.getOpenFileName"
    monkeypatch.setattr(dialog, lambda *_: ("", setattr(session, "model", bright_model)))
    chooser.setCurrentIndex(chooser.count() - 1)
    chooser.activated.emit(chooser.count() - 1)
    assert "bright (yours)" in [chooser.itemText(k) for k in range(chooser.count())]
    assert chooser.choice.source == str(tmp_path / "monday" / "mine.safetensors")
