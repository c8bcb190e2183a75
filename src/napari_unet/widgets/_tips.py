"""Explanations that are shown when the pointer rests on something."""

from __future__ import annotations

import textwrap

from qtpy.QtWidgets import QWidget

_WIDTH = 56


def explain(widget: QWidget, *paragraphs: str) -> None:
    """Give a widget a tooltip; Qt shows one without line breaks as a line across the picture."""
    widget.setToolTip(
        "\n".join(
            textwrap.fill(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)
            for paragraph in paragraphs
            if paragraph
        )
    )
