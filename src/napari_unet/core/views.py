"""The mean answer to mirrored and turned views of an image (test-time augmentation).

What a U-Net says of a pixel depends a little on how the image lies: pixels are pooled in pairs,
and no training shows every object in every position. The mean over the eight views of a square's
symmetry is a little better, for as many times the work.

A view mirrors coordinates, ``y`` becomes ``-1 - y``, and swaps axes. All of it is said in absolute
coordinates of the image without end, so the mean is as free of seams as the network itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_unet.core.inference import InferenceNetwork, Interval
from napari_unet.core.unet import UNet

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """One way to look at an image: rows upside down, columns reversed, then axes swapped."""

    upside_down: bool
    reversed: bool
    swapped: bool

    def intervals(self, rows: Interval, columns: Interval) -> tuple[Interval, Interval]:
        """Return where rows and columns of the image lie in the view."""
        if self.upside_down:
            rows = mirrored(rows)
        if self.reversed:
            columns = mirrored(columns)
        return (columns, rows) if self.swapped else (rows, columns)

    def places(self, rows: Interval, columns: Interval) -> tuple[Interval, Interval]:
        """Return where rows and columns of the view lie in the image."""
        if self.swapped:
            rows, columns = columns, rows
        return (
            mirrored(rows) if self.upside_down else rows,
            mirrored(columns) if self.reversed else columns,
        )

    def show(self, pixels: Pixels) -> Pixels:
        """Return ``(C, y, x)`` pixels of the image as the view shows them."""
        shown = pixels[:, :: -1 if self.upside_down else 1, :: -1 if self.reversed else 1]
        return shown.swapaxes(1, 2) if self.swapped else shown

    def bring_back(self, values: Pixels) -> Pixels:
        """Return ``(K, y, x)`` values of the view as they lie in the image."""
        back = values.swapaxes(1, 2) if self.swapped else values
        return back[:, :: -1 if self.upside_down else 1, :: -1 if self.reversed else 1]


_ALL = [
    View(down, back, swapped) for swapped, down, back in itertools.product((False, True), repeat=3)
]
#: The views to take the mean of, by their number.
VIEWS = {1: _ALL[:1], 4: _ALL[:4], 8: _ALL}


def mirrored(interval: Interval) -> Interval:
    """Return where the pixels of a half-open interval lie after mirroring; its own inverse."""
    return -interval[1], -interval[0]


class AveragedNetwork(InferenceNetwork):
    """Class probabilities of a U-Net, averaged over views of the image.

    Parameters
    ----------
    net, device, half
        As for :class:`~napari_unet.core.inference.InferenceNetwork`.
    views
        A key of :data:`VIEWS`.
    """

    def __init__(
        self, net: UNet, device: torch.device | str = "cpu", half: bool = False, *, views: int
    ) -> None:
        super().__init__(net, device, half)
        self.views = VIEWS[views]

    def needs(self, start: int, stop: int) -> Interval:
        """Return the image pixels that the outputs ``[start, stop)`` depend on in any view."""
        straight = super().needs(start, stop)
        if len(self.views) == 1:
            return straight
        back = mirrored(super().needs(*mirrored((start, stop))))
        return min(straight[0], back[0]), max(straight[1], back[1])

    def __call__(
        self,
        pixels: Pixels,
        rows: Interval,
        columns: Interval,
        cancelled: Callable[[], bool] | None = None,
    ) -> Pixels:
        """Return the mean probabilities ``(K, y, x)`` on ``rows`` x ``columns``.

        Parameters and errors are those of the network itself.
        """
        held = self.needs(*rows)[0], self.needs(*columns)[0]
        total: Pixels | None = None
        for view in self.views:
            there = view.intervals(rows, columns)
            need = super().needs(*there[0]), super().needs(*there[1])
            down, across = view.places(*need)
            part = pixels[
                :,
                down[0] - held[0] : down[1] - held[0],
                across[0] - held[1] : across[1] - held[1],
            ]
            values = view.bring_back(super().__call__(view.show(part), *there, cancelled))
            if total is None:
                total = np.array(values)
            else:
                total += values
        assert total is not None
        total /= len(self.views)
        return total
