"""An image of any kind as a job reads it: a snapshot that outlives the layer it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_unet.core.planes import lazy_part

#: Rows and columns of a plane, half open.
Region = tuple[slice, slice]


@dataclass(frozen=True)
class ImageSource:
    """How an array is to be read; nothing is copied.

    Attributes
    ----------
    array
        The pixels in full resolution: leading axes, Y, X and, for RGB, a last axis of 3 or 4.
    rgb
        Whether the last axis holds colours.
    channel_axis
        The leading axis that holds channels, or None.
    """

    array: Any = field(repr=False)
    rgb: bool = False
    channel_axis: int | None = None

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """Leading axes without channels, then Y, X: labels as core and files have them."""
        sizes = list(self.array.shape[:-1] if self.rgb else self.array.shape)
        if self.channel_axis is not None:
            del sizes[self.channel_axis]
        return tuple(int(size) for size in sizes)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of a label array that is laid over this image.

        napari matches the axes of layers from the last one backwards. Channels that are the first
        axis can be left out; those behind another axis leave an axis of length 1.
        """
        sizes = list(self.stack_shape)
        if self.held_axis is not None:
            sizes.insert(self.held_axis, 1)
        return tuple(sizes)

    @property
    def held_axis(self) -> int | None:
        """The axis of length 1 that stands in :attr:`label_shape` for the channels, or None."""
        return self.channel_axis or None

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.label_shape[-2:]
        return height, width

    @property
    def indices(self) -> Iterator[tuple[int, ...]]:
        """Positions of all planes along the leading axes, in order."""
        return iter(np.ndindex(*self.label_shape[:-2]))

    def plane(self, index: tuple[int, ...]) -> tuple[Any, int | None]:
        """Return one plane, unread where the array is lazy, and its channel axis."""
        where: list[Any] = list(index)
        channel_axis = None
        if self.channel_axis is not None:
            if self.held_axis is not None:
                del where[self.held_axis]
            where.insert(self.channel_axis, slice(None))
            channel_axis = 0
        if not index:
            return self.array, channel_axis
        where += [slice(None)] * (len(self.array.shape) - len(where))
        return lazy_part(self.array, tuple(where)), channel_axis

    def without_held_axis(self, labels: Any) -> Any:
        """Return labels of :attr:`label_shape` in :attr:`stack_shape`, and others as they are."""
        if self.held_axis is None or tuple(labels.shape) != self.label_shape:
            return labels
        where: list[Any] = [slice(None)] * len(self.label_shape)
        where[self.held_axis] = 0
        return lazy_part(labels, tuple(where))
