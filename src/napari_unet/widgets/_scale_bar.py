"""A horizontal colour scale with its two ends written beside it."""

from __future__ import annotations

import numpy as np
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

_HEIGHT = 10


class ColorScale(QWidget):
    """Shows which colour of the weights layer stands for which weight."""

    def __init__(self, colormap: str = "viridis") -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._low, self._high = QLabel("0"), QLabel("")
        strip = QLabel()
        strip.setPixmap(_strip(colormap))
        strip.setScaledContents(True)
        strip.setFixedHeight(_HEIGHT)
        strip.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        strip.setToolTip("Weight of a pixel; ignored pixels have none and are transparent.")
        row.addWidget(self._low)
        row.addWidget(strip, 1)
        row.addWidget(self._high)

    def set_range(self, top: float, clipped: bool) -> None:
        """Write the weight at the right end; ``clipped`` when there are higher ones."""
        self._high.setText(f"{top:.1f} +" if clipped else f"{top:.1f}")


def _strip(colormap: str) -> QPixmap:
    from napari.utils.colormaps import ensure_colormap

    colors = ensure_colormap(colormap).map(np.linspace(0, 1, 128))
    pixels = np.ascontiguousarray(np.round(255 * colors).astype(np.uint8)[None])
    image = QImage(pixels.tobytes(), 128, 1, 4 * 128, QImage.Format.Format_RGBA8888)
    return QPixmap.fromImage(image.copy())
