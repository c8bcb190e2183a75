"""Where models are saved."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from napari_unet.widgets._places import models_folder, new_model_file, safe_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [("my cells", "my_cells"), ("a/b\\c:d", "a_b_c_d"), ("...", "image"), ("é" * 90, "é" * 60)],
)
def test_names_are_safe_on_every_system(text: str, expected: str) -> None:
    assert safe_name(text) == expected


def test_an_existing_model_is_never_overwritten(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5)
    first = new_model_file("cells", tmp_path, now)
    assert first.name == "cells_2026-01-02_03-04-05.safetensors"
    first.touch()
    second = new_model_file("cells", tmp_path, now)
    assert second != first
    assert not second.exists()


def test_a_folder_that_may_not_be_read_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on, and its result can be saved elsewhere."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.stat", refused)
    path = new_model_file("cells", tmp_path)
    monkeypatch.undo()
    assert path.parent == tmp_path


def test_the_folder_of_the_preferences_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_unet.widgets._places.preference", lambda name, default: "")
    assert models_folder().name == "models"
    monkeypatch.setattr(
        "napari_unet.widgets._places.preference", lambda name, default: str(tmp_path)
    )
    assert models_folder() == tmp_path
