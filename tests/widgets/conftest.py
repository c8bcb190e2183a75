"""Viewers for panels; nothing may outlive a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QThreadPool

from napari_unet.widgets import _places
from napari_unet.widgets.session import Session


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    """A viewer with one small gray image."""
    viewer = make_napari_viewer()
    viewer.add_image(np.random.default_rng(0).random((64, 80)).astype(np.float32), name="cells")
    return viewer


@pytest.fixture
def settled(qtbot: Any) -> Callable[[Session], None]:
    """Wait until the live target shows the present annotation."""

    def wait(session: Session) -> None:
        qtbot.waitUntil(lambda: not session.live.busy, timeout=20_000)

    return wait


@pytest.fixture(autouse=True)
def _no_worker_survives() -> Iterator[None]:
    yield
    assert QThreadPool.globalInstance().waitForDone(5000)


@pytest.fixture(autouse=True)
def journals(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for backups: tests neither see nor leave the user's."""
    folder = tmp_path_factory.mktemp("journal")
    monkeypatch.setattr(_places, "journal_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def saved_models(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for models: tests do not see the user's."""
    folder = tmp_path_factory.mktemp("models")
    monkeypatch.setattr(_places, "models_folder", lambda: folder)
    return folder
