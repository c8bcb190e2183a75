"""A Labels layer that fills tile by tile without holding up the viewer."""

from __future__ import annotations

import logging
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.widgets._connections import Connections

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Labels

    from napari_unet.widgets._frames import Frames

logger = logging.getLogger(__name__)

#: Arrays above this share of the free memory are kept in a temporary file.
MEMORY_SHARE = 0.25
_UINT16_MAX = 65_535


def allocate(
    shape: tuple[int, ...], dtype: npt.DTypeLike, free: int | None = None
) -> npt.NDArray[Any]:
    """Return an array of zeros, in memory or, when large, in a temporary file.

    Parameters
    ----------
    shape, dtype
        As for ``numpy.zeros``.
    free
        Free memory in bytes; measured when not given. The file has no name and vanishes with
        the array.
    """
    needed = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if free is None:
        import psutil

        free = int(psutil.virtual_memory().available)
    if needed <= MEMORY_SHARE * free:
        return np.zeros(shape, dtype=dtype)
    with tempfile.TemporaryFile() as file:
        # The map keeps its own handle: the space is given back when the array is dropped.
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


class StreamingLabels:
    """Writes blocks of labels into a new layer; all methods belong to the main thread.

    The array is uint16, which napari shows without converting, until a number needs more. While
    blocks arrive the layer cannot be edited, so there is nothing that an undo could replay over
    them. Renaming, moving or hiding the layer is fine; deleting it or giving it other data ends
    the stream (:attr:`alive`).

    Parameters
    ----------
    viewer
        The viewer that gets the layer.
    frames
        When it is drawn.
    shape
        Shape of the label array: leading axes and (Y, X).
    name
        Name of the layer.
    placement
        Keyword arguments of the layer that put it where the image is (scale, translate, ...).
    metadata
        Kept in ``layer.metadata``.
    """

    def __init__(
        self,
        viewer: Viewer,
        frames: Frames,
        shape: tuple[int, ...],
        name: str,
        *,
        placement: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._viewer, self._frames = viewer, frames
        self._array = allocate(shape, np.uint16)
        self._streaming = self._empty = True
        self._changing_data = False
        active = viewer.layers.selection.active
        # To build a layer's visuals and to draw them for the first time, which compiles shaders,
        # holds napari up for a tenth of a second each: not both in one go.
        self.layer: Labels = viewer.add_labels(
            self._array,
            name=name,
            metadata=dict(metadata or {}),
            visible=False,
            **(placement or {}),
        )
        self._shown = False
        frames.request(self._show)
        if active is not None:
            # Whoever paints goes on painting where they were; the new layer does not take over.
            viewer.layers.selection.active = active
        #: Whether somebody else changed the layer's pixels since it was filled last.
        self.edited = False
        self.layer.editable = False
        self._connections = Connections()
        self._connections.connect(self.layer.events.editable, self._stay_locked)
        self._connections.connect(self.layer.events.paint, self._note_edit)
        self._connections.connect(self.layer.events.data, self._note_edit)

    @property
    def alive(self) -> bool:
        """False once the layer was removed or shows other data."""
        return self.layer in self._viewer.layers and self.layer.data is self._array

    @property
    def array(self) -> npt.NDArray[Any]:
        """The labels themselves."""
        return self._array

    @property
    def streaming(self) -> bool:
        """Whether blocks may still arrive."""
        return self._streaming

    def write(
        self,
        index: tuple[int, ...],
        slices: tuple[slice, slice],
        labels: npt.NDArray[np.integer],
    ) -> None:
        """Put one block into the plane ``index``; redraws soon if it can be seen."""
        if not self.alive:
            return
        if labels.size and int(labels.max()) > _UINT16_MAX:
            self._widen()
        self._block(index, slices)[...] = labels
        if self._visible(index):
            self._frames.request(self._refresh, at_once=self._empty)
            self._empty = False

    def clear(self, index: tuple[int, ...], slices: tuple[slice, slice]) -> None:
        """Empty one block."""
        if self.alive:
            self._block(index, slices)[...] = 0

    def write_all(self, labels: npt.NDArray[np.integer]) -> None:
        """Replace every plane (objects were linked)."""
        if not self.alive:
            return
        if labels.size and int(labels.max()) > _UINT16_MAX:
            self._widen()
        self._array[...] = labels
        self._frames.request(self._refresh)

    def shift(self, index: tuple[int, ...], by: int) -> None:
        """Add ``by`` to every object number of one plane."""
        if not self.alive:
            return
        plane = self._block(index, (slice(None), slice(None)))
        if by + int(plane.max(initial=0)) > _UINT16_MAX:
            self._widen()
            plane = self._block(index, (slice(None), slice(None)))
        np.add(plane, by, out=plane, where=plane > 0, casting="unsafe")
        if self._visible(index):
            self._frames.request(self._refresh)

    def lock(self) -> None:
        """Blocks will arrive again: no editing until :meth:`finish`."""
        self._streaming = True
        if self.alive:
            self.layer.editable = False

    def finish(self) -> None:
        """Draw once more in full and let the user edit."""
        self._streaming = False
        self._show()
        self._frames.forget(self._refresh)
        if self.alive:
            self.layer.editable = True
            self.layer.refresh()

    def close(self) -> None:
        """Let go of timers and events; the layer stays as it is."""
        self._streaming = False
        self._show()
        self._frames.forget(self._show)
        self._frames.forget(self._refresh)
        self._connections.clear()

    def _block(self, index: tuple[int, ...], slices: tuple[slice, slice]) -> npt.NDArray[Any]:
        plane: npt.NDArray[Any] = self._array[index] if index else self._array
        return plane[slices]

    def _widen(self) -> None:
        if self._array.dtype != np.uint16:
            return
        wider = allocate(self._array.shape, np.int32)
        wider[...] = self._array
        self._array = wider
        self._changing_data = True
        try:
            self.layer.data = wider
        finally:
            self._changing_data = False
        if self._streaming:
            self.layer.editable = False
        logger.info("more than %d objects: labels are kept as 32-bit numbers", _UINT16_MAX)

    def _visible(self, index: tuple[int, ...]) -> bool:
        if not index or self._viewer.dims.ndisplay == 3:
            return True
        shown = self.layer.world_to_data(self._viewer.dims.point)
        return all(round(float(shown[axis])) == where for axis, where in enumerate(index))

    def _show(self) -> None:
        """Make the layer visible, once: from then on the eye is the user's."""
        if not self._shown:
            self._shown = True
            self.layer.visible = True

    def _refresh(self) -> None:
        if self.alive:
            # The lean form: 3 ms at 4096 x 4096 in uint16.
            self.layer.refresh(thumbnail=False, extent=False, highlight=False)

    def _stay_locked(self, _event: Any = None) -> None:
        # napari makes a layer editable again, for example when the number of shown axes changes.
        if self._streaming and self.layer.editable and self.alive:
            self.layer.editable = False

    def _note_edit(self, _event: Any = None) -> None:
        if not self._changing_data:
            self.edited = True
