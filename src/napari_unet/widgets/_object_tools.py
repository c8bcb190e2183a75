"""Tools that act on whole objects of the annotation: by key, by click, always with undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_unet.core.errors import AnnotationError, UNetError
from napari_unet.widgets._annotation_layer import next_free, paintable
from napari_unet.widgets._connections import Connections
from napari_unet.widgets._edits import (
    delete_objects,
    merge_objects,
    middle_of,
    neighbour_number,
    split_object,
)
from napari_unet.widgets._label_plane import plane_index, plane_of
from napari_unet.widgets._painting import Block
from napari_unet.widgets.session import Session, same_layer

if TYPE_CHECKING:
    from napari.layers import Labels

#: A press that moves further than this on the screen is a drag, not a click.
_CLICK_PIXELS = 4


class ObjectTools(QObject):
    """Next free number, join, split, delete, and jumping from object to object.

    Signals
    -------
    said
        One sentence: what was done.
    advised
        One sentence: what the brush in hand is for.
    failed
        One sentence: why something could not be done; empty when the last action worked.
    picking_changed
        Name of the tool that waits for clicks ("join", "split", "delete") or "".
    """

    said = Signal(str)
    advised = Signal(str)
    failed = Signal(str)
    picking_changed = Signal(str)

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._picking = ""
        self._picked_layer: Labels | None = None
        self._kept = 0
        self._highest: int | None = None
        #: The last stroke: napari announces some before their pixels are in the array.
        self._unread: list[Block] = []
        self._layer_connections = Connections()
        session.annotation_changed.connect(self._on_layer)
        session.live.painted.connect(self._on_painted)
        session.closing.connect(self.let_go)
        self._on_layer(session.annotation)

    @property
    def picking(self) -> str:
        """The tool that waits for clicks, or ""."""
        return self._picking

    def layer(self) -> Labels:
        """Return the annotation layer.

        Raises
        ------
        AnnotationError
            If there is none.
        """
        layer = self._session.annotation
        if layer is None:
            raise AnnotationError("Choose an annotation layer, or press New to make one.")
        return layer

    @property
    def _whole_objects(self) -> bool:
        return self._session.annotation_settings.task == "objects"

    def _objects_layer(self) -> Labels:
        """Return the annotation layer, where its numbers stand for whole objects."""
        layer = self.layer()
        if not self._whole_objects:
            raise AnnotationError(
                "Join, split and delete are for separate objects: paint over kinds of material, "
                "or erase them."
            )
        return layer

    def free_number(self) -> int:
        """Return the next number that no object of the whole layer has.

        Raises
        ------
        AnnotationError
            If there is no layer, or it is multiscale.
        """
        layer = self.layer()
        paintable(layer, 1)
        if self._highest is None:
            self._highest = highest_number(layer.data)
        self._read_stroke(layer)
        index = plane_index(self._session.viewer, layer)
        # Something other than painting may have changed the plane in view.
        self._highest = max(self._highest, highest_number(plane_of(layer, index)))
        return next_free(self._highest)

    def new_object(self) -> None:
        """Select the next free number and take the brush."""
        with self._reported():
            layer = self.layer()
            number = self.free_number()
            paintable(layer, number)
            self.stop_picking()
            layer.selected_label = number
            layer.visible = True  # napari takes the brush away from a hidden layer
            layer.mode = "paint"
            self._session.viewer.layers.selection.active = layer
            self.advised.emit(f"Paint {'object' if self._whole_objects else 'class'} {number}.")

    def join_under_pointer(self) -> None:
        """Join the object under the mouse pointer to the selected one."""
        with self._reported():
            layer = self._objects_layer()
            self._join(layer, int(layer.selected_label), self._under_pointer(layer))

    def split_under_pointer(self) -> None:
        """Split the object under the mouse pointer."""
        with self._reported():
            layer = self._objects_layer()
            self._split(layer, self._under_pointer(layer))

    def delete_under_pointer(self) -> None:
        """Delete the object (or painted background) under the mouse pointer."""
        with self._reported():
            layer = self._objects_layer()
            self._delete(layer, self._under_pointer(layer))

    def jump(self, step: int) -> None:
        """Select the next (1) or previous (-1) object and move the view there."""
        with self._reported():
            layer = self.layer()
            viewer = self._session.viewer
            here = plane_index(viewer, layer)
            number = max(0, int(layer.selected_label))
            found = neighbour_number(plane_of(layer, here), number, step)
            place = here
            if found is None:
                place, found = self._in_other_planes(layer, here, step)
            if found is None:
                raise AnnotationError("There is no object to go to: nothing is painted yet.")
            layer.selected_label = found
            self._look_at(layer, place, middle_of(plane_of(layer, place), found))
            self.said.emit(f"Object {found}.")

    def pick(self, tool: str) -> None:
        """Wait for clicks on objects; the same tool again, or "", ends it."""
        if tool == self._picking or not tool:
            self.stop_picking()
            return
        with self._reported():
            layer = self._objects_layer()
            self.stop_picking()
            layer.visible = True
            layer.mode = "pan_zoom"
            self._session.viewer.layers.selection.active = layer
            layer.mouse_drag_callbacks.append(self._on_click)
            layer.events.mode.connect(self._on_mode)
            self._picked_layer, self._picking, self._kept = layer, tool, 0
            self.picking_changed.emit(tool)
            self.said.emit(
                {
                    "join": "Click the object to keep, then those that belong to it.",
                    "split": "Click the objects to split.",
                    "delete": "Click the objects to delete.",
                }[tool]
            )

    def stop_picking(self) -> None:
        """Stop waiting for clicks."""
        layer, self._picked_layer = self._picked_layer, None
        if layer is None:
            return
        layer.events.mode.disconnect(self._on_mode)
        if self._on_click in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(self._on_click)
        self._picking = ""
        self.picking_changed.emit("")

    def let_go(self) -> None:
        """Stop waiting for clicks and disconnect from the layer."""
        self.stop_picking()
        self._layer_connections.clear()

    def apply(self, layer: Labels, number: int) -> None:
        """Use the picking tool on the object ``number``, as a click on it does."""
        with self._reported():
            if self._picking == "split":
                self._split(layer, number)
            elif self._picking == "delete":
                self._delete(layer, number)
            elif self._picking == "join" and not self._kept:
                if number <= 0:
                    raise AnnotationError("Click on an object.")
                self._kept = number
                layer.selected_label = number
                self.said.emit(f"Now click what belongs to object {number}.")
            elif self._picking == "join":
                self._join(layer, self._kept, number)

    def _join(self, layer: Labels, keep: int, number: int) -> None:
        _object_there(number)
        if keep <= 0:
            raise AnnotationError("Choose the object to keep first, for example with Next.")
        if number == keep:
            raise AnnotationError(f"This already is object {keep}: point at another object.")
        index = plane_index(self._session.viewer, layer)
        self._guarded(layer, lambda: merge_objects(layer, index, keep, [number]))
        self.said.emit(f"Object {number} now belongs to object {keep}.")

    def _split(self, layer: Labels, number: int) -> None:
        _object_there(number)
        index = plane_index(self._session.viewer, layer)
        first = self.free_number()
        added = self._guarded(layer, lambda: split_object(layer, index, number, first))
        self.said.emit(f"Object {number} was split: new {', '.join(str(n) for n in added)}.")

    def _delete(self, layer: Labels, number: int) -> None:
        if number == 0:
            raise AnnotationError("There is no object under the mouse pointer.")
        index = plane_index(self._session.viewer, layer)
        self._guarded(layer, lambda: delete_objects(layer, index, [number]))
        name = f"Object {number}" if number > 0 else "Painted background"
        self.said.emit(f"{name} was deleted; Ctrl+Z brings it back.")

    def _guarded(self, layer: Labels, action: Callable[[], Any]) -> Any:
        """Run an edit; labels at several scales say in plain words that they take none."""
        if layer.multiscale:
            paintable(layer, 1)
        return action()

    def _under_pointer(self, layer: Labels) -> int:
        viewer = self._session.viewer
        value = layer.get_value(
            viewer.cursor.position,
            view_direction=None,
            dims_displayed=list(viewer.dims.displayed),
            world=True,
        )
        return _number_of(value)

    def _on_click(self, layer: Labels, event: Any) -> Iterator[None]:
        """Act on a click, not on a drag (which moves the view)."""
        start = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.array(event.pos) - start).max() > _CLICK_PIXELS:
            return
        value = layer.get_value(
            event.position,
            view_direction=event.view_direction,
            dims_displayed=list(event.dims_displayed),
            world=True,
        )
        self.apply(layer, _number_of(value))

    def _on_mode(self, event: Any) -> None:
        if str(event.mode) != "pan_zoom":
            self.stop_picking()

    def _on_layer(self, layer: Labels | None) -> None:
        self._layer_connections.clear()
        if layer is not None:
            self._layer_connections.connect(layer.events.data, self._on_data)
        self._on_data()
        self.stop_picking()

    def _on_data(self, _event: Any = None) -> None:
        self._highest = None
        self._unread = []

    def _on_painted(self, layer: Labels, blocks: list[Block]) -> None:
        if self._highest is not None and same_layer(layer, self._session.annotation):
            self._read_stroke(layer)
            self._unread = blocks

    def _read_stroke(self, layer: Labels) -> None:
        blocks, self._unread = self._unread, []
        for block in blocks:
            self._highest = max(self._highest or 0, highest_number(layer.data[block]))

    def _in_other_planes(
        self, layer: Labels, here: tuple[int, ...], step: int
    ) -> tuple[tuple[int, ...], int | None]:
        """Find an object in the planes after (before) this one, starting again at the end."""
        planes = list(np.ndindex(*layer.data.shape[:-2]))
        start = planes.index(here)
        ahead = range(1, len(planes) + 1)
        beyond = 0 if step > 0 else np.iinfo(np.int64).max
        for offset in ahead:
            place = planes[(start + step * offset) % len(planes)]
            found = neighbour_number(plane_of(layer, place), beyond, step)
            if found is not None:
                return place, found
        return here, None

    def _look_at(self, layer: Labels, index: tuple[int, ...], middle: tuple[float, float]) -> None:
        viewer = self._session.viewer
        world = layer.data_to_world([*index, *middle])
        offset = viewer.dims.ndim - layer.ndim
        shown = plane_index(viewer, layer)
        for axis in range(len(index)):
            if index[axis] != shown[axis]:  # else a slider of channels would move to its middle
                viewer.dims.set_point(axis + offset, float(world[axis]))
        if viewer.dims.ndisplay == 2:
            viewer.scene.camera.center = (0.0, float(world[-2]), float(world[-1]))

    def _reported(self) -> _Reported:
        return _Reported(self)


class _Reported:
    """Turns an error of this package into the ``failed`` signal."""

    def __init__(self, tools: ObjectTools) -> None:
        self._tools = tools

    def __enter__(self) -> None:
        self._tools.failed.emit("")

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> bool:
        if isinstance(error, UNetError):
            self._tools.failed.emit(str(error))
            return True
        return False


def _number_of(value: Any) -> int:
    """Return the number that napari found at a position; 0 outside the layer."""
    if isinstance(value, tuple):  # multiscale: (level, value)
        value = value[1]
    return 0 if value is None else int(value)


def _object_there(number: int) -> None:
    if number == 0:
        raise AnnotationError("There is no object under the mouse pointer.")
    if number < 0:
        raise AnnotationError("This is painted background, not an object.")


def highest_number(labels: Any) -> int:
    """Return the highest number in an array, read plane by plane where it is lazy."""
    if 0 in labels.shape:
        return 0
    if isinstance(labels, np.ndarray) or labels.ndim <= 2:
        return int(np.asarray(labels).max())
    return max(highest_number(labels[place]) for place in range(labels.shape[0]))
