"""Runs of panels that are slow enough to be disturbed, and waiting for them."""

from __future__ import annotations

from typing import Any

from napari_unet.core.settings import (
    AnnotationSettings,
    NetworkSettings,
    TileSettings,
    TrainSettings,
)

#: A tiny network whose training does not end by itself.
ENDLESS = TrainSettings(
    steps=100_000,
    crop=32,
    batch=2,
    device="cpu",
    network=NetworkSettings(base_channels=4, depth=2),
)
#: Many small tiles: there is time to do harm.
MANY_TILES = TileSettings(tile=16, device="cpu")


def train_from_scratch(panel: Any, settings: TrainSettings = ENDLESS) -> None:
    """Set a Train panel so that the number of steps decides when it ends."""
    panel.expert.set_settings(settings)
    panel.seconds.setValue(3600)
    panel.base.choose("scratch")
    panel.session.annotation_settings = AnnotationSettings(area="all")


def segment_many_tiles(panel: Any) -> None:
    """Set a Segment panel to the whole plane in small tiles."""
    panel.options.tiles.set_settings(MANY_TILES)
    panel.form.set_part("plane")


def ended(panel: Any, qtbot: Any) -> None:
    """Wait until the panel's job is over."""
    qtbot.waitUntil(lambda: not panel.running, timeout=120_000)


def stop(panel: Any, qtbot: Any) -> None:
    """Press Stop; the panel must be ready for the next click."""
    panel.stop()
    ended(panel, qtbot)
    assert panel.error == ""
    assert not panel.button.running
