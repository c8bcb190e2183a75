"""The training target of the visible plane, kept right while the user paints."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.errors import UNetError
from napari_unet.core.live_target import LiveTarget
from napari_unet.core.pairs import relative_spacing
from napari_unet.jobs.events import JobFailed, JobFinished
from napari_unet.jobs.runner import JobRunner, Work
from napari_unet.widgets._connections import Connections
from napari_unet.widgets._label_plane import (
    boxes_on_plane,
    counts_blank,
    plane_index,
    plane_of,
)
from napari_unet.widgets._live_build import Meanings, build, follow, target_of
from napari_unet.widgets._painting import Block, PaintWatcher, box_on_plane, union
from napari_unet.widgets._source import pixel_size

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_unet.core.labels import Box
    from napari_unet.core.size_match import SizeMatch
    from napari_unet.widgets.session import Session

logger = logging.getLogger(__name__)

#: Pause after a stroke before the target follows, in milliseconds: strokes in quick succession
#: are taken together.
STROKE_MS = 40
#: Pause before a plane is compared or built anew, in milliseconds.
REBUILD_MS = 120
#: Pause after a stroke before the size of the painted objects is measured, in milliseconds.
SIZE_MS = 1000
_SIZE_TOLERANCE = 0.1
#: Planes up to this many pixels are built at once, larger ones in a thread.
AT_ONCE = 300 * 300
#: A change is taken over at once when up to this many pixels follow from it.
MOST_AT_ONCE = 400 * 400
#: Planes above this many pixels have no live target: it would take some 15 bytes per pixel.
LARGEST = 50_000_000


class LiveAnnotation(QObject):
    """Follows the session's annotation layer, its visible plane, boxes and settings.

    Signals
    -------
    updated
        The target changed: ``y0, x0, y1, x1`` of changed states, or None for everything
        (weights may change everywhere in both cases, through the class balance).
    painted
        A finished stroke: the layer and its list of blocks, at once and for all planes.
    failed
        One sentence about why there is no target; empty when there is one.
    """

    updated = Signal(object)
    painted = Signal(object, list)
    failed = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._runner = JobRunner(self)
        self._watcher: PaintWatcher | None = None
        self._dirty: list[Box] = []
        self._compare_all = False
        self.target: LiveTarget | None = None
        #: The plane that :attr:`target` describes.
        self.index: tuple[int, ...] = ()
        #: Network pixels per image pixel, by which lengths of the weight map were divided.
        self.scale = 1.0
        self.problem = ""
        self._stroke_timer = _timer(self, STROKE_MS, self.flush)
        self._rebuild_timer = _timer(self, REBUILD_MS, self._rebuild)
        self._size_timer = _timer(self, SIZE_MS, self._check_size)
        self._connections = Connections()
        connect = self._connections.connect
        connect(session.annotation_changed, self._watch)
        connect(session.settings_changed, self._on_settings)
        connect(session.image_changed, self._watch_image)
        connect(session.boxes_changed, self._watch_boxes)
        connect(session.viewer.dims.events.current_step, self._on_dims)
        self._layer_connections = Connections()
        self._image_connections = Connections()
        self._box_connections = Connections()
        self._stopped = False
        session.closing.connect(self.stop)
        self._watch_image(session.image)
        self._watch_boxes(session.boxes)
        self._watch(session.annotation)

    @property
    def busy(self) -> bool:
        """True while the target does not yet show the present annotation."""
        if self._stopped:
            return False
        return self._stroke_timer.isActive() or self._rebuild_timer.isActive() or self._runner.busy

    def stop(self) -> None:
        """Let go of layers, timers and the thread."""
        self._stopped = True
        self._stroke_timer.stop()
        self._rebuild_timer.stop()
        self._size_timer.stop()
        self._runner.shutdown()
        for connections in (
            self._connections,
            self._layer_connections,
            self._image_connections,
            self._box_connections,
        ):
            connections.clear()
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        self.target = None

    def flush(self) -> None:
        """Bring the target up to date now with all strokes that are known."""
        self._stroke_timer.stop()
        layer = self._session.annotation
        if layer is None or self._runner.busy:
            return
        if self.target is None:
            self._rebuild_timer.start()  # what stood in the way may have been corrected
            return
        if plane_index(self._session.viewer, layer) != self.index:
            self._rebuild_timer.start()
            return
        compared = self._compare_all
        box = None if compared else union(self._dirty)
        if box is None and not compared:
            return
        self._compare_all = False
        self._dirty.clear()
        target, plane = self.target, plane_of(layer, self.index)
        try:
            found = target.changed(plane, box)
            at_once = found is not None and target.cost(found) <= MOST_AT_ONCE
            changed = target.update(plane, found) if at_once else None
        except UNetError as error:
            self._report(str(error))
            self._rebuild_timer.start()
            return
        if found is None:
            return
        if at_once:
            self._report("")
            self.updated.emit(changed)
            self._check_meaning()
        elif not self._rebuild_timer.isActive():  # else everything is built anew in a moment
            self._follow(plane, found)
        if compared:
            self._session.annotation_edited.emit(layer)

    def _watch(self, layer: Labels | None) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.deleteLater()
            self._watcher = None
        self.target = None
        self._dirty.clear()
        self._layer_connections.clear()
        if layer is not None:
            self._layer_connections.connect_placement(layer, self._on_placement)
            self._watcher = PaintWatcher(layer, self)
            self._watcher.painted.connect(self._on_painted)
            self._watcher.maybe_changed.connect(self._on_maybe_changed)
            self._watcher.replaced.connect(self._on_maybe_changed)
        self._rebuild()

    def _watch_image(self, image: Image | None) -> None:
        self._image_connections.clear()
        if image is not None:
            self._image_connections.connect(image.events.scale, self._on_pixel_size)
        self._on_pixel_size()

    def _watch_boxes(self, shapes: Any) -> None:
        self._box_connections.clear()
        if shapes is not None:
            self._box_connections.connect(shapes.events.data, self._on_boxes)
            self._box_connections.connect_placement(shapes, self._on_boxes)
        self._on_boxes()

    def _on_painted(self, blocks: list[Block]) -> None:
        layer = self._session.annotation
        if layer is None:
            return
        self.painted.emit(layer, blocks)
        if self.target is None or self._compare_all:
            self._compare_all = True  # whatever is built next is compared when it is there
        else:
            boxes = [box_on_plane(block, self.index) for block in blocks]
            self._dirty += [box for box in boxes if box is not None]
        self._stroke_timer.start()
        self._size_timer.start()
        self._session.annotation_edited.emit(layer)

    def _on_maybe_changed(self) -> None:
        self._compare_all = True
        if not self._stroke_timer.isActive():
            self._stroke_timer.start()

    def _on_placement(self, _event: Any = None) -> None:
        self._rebuild_timer.start()

    def _on_pixel_size(self, _event: Any = None) -> None:
        if self._built_with != self._costly_settings():
            self._rebuild_timer.start()

    def _on_boxes(self, _event: Any = None) -> None:
        if self._session.annotation_settings.area == "boxes":
            self._rebuild_timer.start()

    def _on_dims(self, _event: Any = None) -> None:
        layer = self._session.annotation
        if layer is not None and plane_index(self._session.viewer, layer) != self.index:
            self._rebuild_timer.start()

    def _on_settings(self) -> None:
        """Take over new settings at once where that costs no distance work."""
        session, target = self._session, self.target
        if target is None or self._runner.busy or self._rebuild_timer.isActive():
            self._rebuild_timer.start()
            return
        if self._built_with is None or self._built_with != self._costly_settings():
            self._rebuild_timer.start()
            return
        target.change_weights(session.weight_settings)
        self.updated.emit(None)

    def _costly_settings(self) -> tuple[Any, ...]:
        """Return everything whose change means distances have to be measured again."""
        weights = self._session.weight_settings
        return (
            self._session.annotation_settings,
            weights.sigma,
            weights.ridge,
            self._size_match(),
            self._spacing(),
        )

    def _meanings(self, layer: Labels, index: tuple[int, ...]) -> Meanings:
        """Of a stack, training leaves out planes in which nothing is painted."""
        settings = self._session.annotation_settings
        drawn = settings.area == "boxes" and counts_blank(self._session.boxes, layer)
        left_out = bool(index) and settings.area in ("all", "boxes") and not drawn
        return settings, replace(settings, area="painted") if left_out else settings

    def _check_meaning(self) -> None:
        """Build anew when the first stroke was made in a plane, or the last one taken back."""
        layer, target = self._session.annotation, self.target
        if layer is None or target is None:
            return
        if target.settings != self._meanings(layer, self.index)[target.blank]:
            self._rebuild_timer.start()

    def _spacing(self) -> tuple[float, float] | None:
        """Return the proportions of a pixel; training takes them from the image, too."""
        layer = self._session.image or self._session.annotation
        return None if layer is None else relative_spacing(pixel_size(layer))

    def _size_match(self) -> SizeMatch | None:
        """Return how images are resampled; those of classes are not."""
        objects = self._session.annotation_settings.task == "objects"
        return self._session.size_match if objects else None

    def _check_size(self) -> None:
        """Build anew when the painted objects turned out larger or smaller than they were."""
        match = self._size_match()
        if match is None or self.target is None or self.busy:
            return
        scale = match.scale(self.target.diameter)
        if abs(np.log(scale / self.scale)) > _SIZE_TOLERANCE:
            self._rebuild()

    _built_with: tuple[Any, ...] | None = None

    def _rebuild(self) -> None:
        """Build the target of the visible plane from nothing, in a thread when it is large."""
        self._rebuild_timer.stop()
        layer = self._session.annotation
        if self._runner.busy:
            self._runner.cancel()
            self._rebuild_timer.start()
            return
        if layer is None:
            self._show(None)
            return
        index = plane_index(self._session.viewer, layer)
        plane = plane_of(layer, index)
        if int(np.prod(plane.shape)) > LARGEST:
            self._report("This image is too large for a live preview; training still works.")
            self._show(None)
            return
        session = self._session
        arguments = {
            "meanings": self._meanings(layer, index),
            "weights": session.weight_settings,
            "boxes": boxes_on_plane(session.boxes, layer, index),
            "spacing": self._spacing(),
        }
        self._dirty.clear()
        self._built_with = self._costly_settings()
        at_once = isinstance(plane, np.ndarray) and plane.size <= AT_ONCE
        if at_once and self._size_match() is None:
            self._build_now(plane, arguments, index)
            return
        self._start(index, build, plane, arguments, self._size_match())

    def _follow(self, plane: Any, box: Box) -> None:
        """Take over a large change, such as all objects of a result, in a thread."""
        self._start(self.index, follow, self.target, plane, box, self.scale)

    def _start(self, index: tuple[int, ...], work: Work, *arguments: Any) -> None:
        self._runner.start(
            "build",
            "The preview",
            work,
            *arguments,
            uses_torch=False,
            on_event=lambda built: self._on_target(built[0], built[1], index),
            on_finished=self._on_built,
            on_failed=self._on_failed,
        )

    def _build_now(self, plane: Any, arguments: dict[str, Any], index: tuple[int, ...]) -> None:
        try:
            target = target_of(plane, **arguments)
        except UNetError as error:
            self._report(str(error))
            self._show(None)
            return
        self._take_over(target, 1.0, index)

    def _on_target(self, target: LiveTarget, scale: float, index: tuple[int, ...]) -> None:
        if not self._rebuild_timer.isActive():  # else something newer was asked for meanwhile
            self._take_over(target, scale, index)

    def _take_over(self, target: LiveTarget, scale: float, index: tuple[int, ...]) -> None:
        self.index = index
        self.scale = scale
        self._report("")
        self._show(target)

    def _on_built(self, outcome: JobFinished) -> None:
        if outcome.cancelled or self._session.annotation is None:
            return
        # What was painted while the thread worked, and what changed besides.
        self._compare_all = True
        self.flush()
        self._check_meaning()
        if self._built_with != self._costly_settings():
            self._rebuild_timer.start()
        elif self.target is not None:
            self.target.change_weights(self._session.weight_settings)

    def _on_failed(self, outcome: JobFailed) -> None:
        self._report(outcome.message)
        self._show(None)

    def _show(self, target: LiveTarget | None) -> None:
        self.target = target
        self.updated.emit(None)

    def _report(self, sentence: str) -> None:
        if sentence != self.problem:
            self.problem = sentence
            self.failed.emit(sentence)


def _timer(parent: QObject, milliseconds: int, call: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(call)
    return timer
