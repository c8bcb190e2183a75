"""The list of models."""

from __future__ import annotations

import os
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


def test_models_that_were_trained_before_are_listed(
    session: Any, qtbot: Any, bright_model: Model, saved_models: Path
) -> None:
    """The next morning nobody knows where the model of yesterday is."""

    def texts() -> list[str]:
        return [chooser.itemText(k) for k in range(chooser.count())]

    def save(name: str, age: int) -> Path:
        path = saved_models / f"{name}.safetensors"
        path.touch()
        os.utime(path, (10_000 - age, 10_000 - age))
        return path

    first, second = save("monday", 200), save("friday", 100)
    save(".half.12-34", 0), (saved_models / "notes.txt").touch()
    chooser = ModelChooser(session, scratch=True)
    qtbot.addWidget(chooser)
    shipped = chooser.choice
    assert shipped is not None and shipped.source in ("auto", *shipped_names())
    assert [text for text in texts() if text in ("friday", "monday", "notes")] == [
        "friday",
        "monday",
    ]
    assert not any("half" in text for text in texts())
    index = texts().index("monday")
    chooser.setCurrentIndex(index)
    chooser.activated.emit(index)
    assert chooser.choice.source == str(first)
    # Files come and go while napari is open; what was chosen stays chosen.
    first.unlink()
    second.rename(saved_models / "renamed.safetensors")
    save("bright", 0)
    session.model = bright_model
    chooser.showPopup()
    assert chooser.choice.source == str(first) and texts().count("monday") == 1
    assert "renamed" in texts() and "friday" not in texts()
    assert [text for text in texts() if "bright" in text] == ["bright (yours)"]
    for number in range(20):
        save(f"many {number}", number)
    chooser.showPopup()
    assert sum(text.startswith("many") for text in texts()) == 8
    chooser.hidePopup()


def test_training_longer_again_and_again_fills_no_memory(
    session: Any, qtbot: Any, bright_model: Model, saved_models: Path
) -> None:
    """A model may take a hundred megabytes; one that could not be saved is kept all the same."""
    chooser = ModelChooser(session)
    qtbot.addWidget(chooser)
    for number in range(9):
        if number != 4:
            (saved_models / f"run {number}.safetensors").touch()
        session.model = bright_model.with_name(f"run {number}")
        if number == 2:
            chooser.choose("trained:run 2")
    texts = [chooser.itemText(k) for k in range(chooser.count())]
    assert [text for text in texts if "yours" in text] == [
        f"run {number} (yours)" for number in (8, 7, 6, 4, 2)
    ]
    assert {f"run {number}" for number in (0, 1, 3, 5)} <= set(texts)
    assert chooser.choice.source.name == "run 2"


def test_the_file_dialog_opens_where_models_are_saved(
    session: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, saved_models: Path
) -> None:
    chooser = ModelChooser(session)
    qtbot.addWidget(chooser)
    asked: list[Any] = []
    dialog = "napari_unet.widgets.model_chooser.QFileDialog.getOpenFileName"
    monkeypatch.setattr(dialog, lambda *args: (asked.append(args[2]), ("", ""))[1])
    chooser.activated.emit(chooser.count() - 1)
    saved_models.rmdir()
    chooser.activated.emit(chooser.count() - 1)
    assert asked == [str(saved_models), ""]
