"""How images are resampled so that objects have the size a network knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Object diameters (px) at which a network from scratch is trained without resampling.
COMFORTABLE_DIAMETERS = (14.0, 28.0)
#: Resampling by less than this (natural logarithm) costs sharpness and gains nothing.
_SMALLEST_CHANGE = 0.05
_LARGEST_FACTOR = 20.0


@dataclass(frozen=True)
class SizeMatch:
    """The object sizes of a network, and how images are brought to them.

    Attributes
    ----------
    low, high
        Object diameters between which the network is at home, in its pixels; a trained model
        knows one.
    given
        Object diameter in the image by the user, in place of that of the painted objects.
    """

    low: float
    high: float
    given: float | None = None

    def network_diameter(self, painted: float) -> float:
        """Return the diameter in network pixels that objects of a diameter in the image get."""
        return float(np.clip(self.given or painted, self.low, self.high))

    def scale(self, painted: float | None) -> float:
        """Return network pixels per image pixel for objects of the painted diameter, if known."""
        if painted is None:
            return 1.0
        factor = self.network_diameter(painted) / (self.given or painted)
        factor = float(np.clip(factor, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR))
        return 1.0 if abs(np.log(factor)) < _SMALLEST_CHANGE else factor
