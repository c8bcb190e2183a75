"""What a finished training says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from napari_unet.widgets._training_report import finished_sentence


def test_steps_are_counted_in_words() -> None:
    event: Any = SimpleNamespace(reason="finished", seconds=12.2, steps=1, decision="It is kept.")
    assert finished_sentence(event) == "Trained for 12 s (1 step). It is kept."
    event.steps = 1200
    assert "(1,200 steps)" in finished_sentence(event)
