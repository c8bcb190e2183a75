"""The preview layers of the Weights panel: weights, and what will be trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.annotation_rules import State
from napari_unet.core.weight_map import class_weights
from napari_unet.widgets._connections import Connections
from napari_unet.widgets._label_plane import visible_box
from napari_unet.widgets._state_legend import STATE_COLORS, STATE_NAMES
from napari_unet.widgets.session import METADATA_KEY, Session, same_layer

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_unet.core.annotation import StateCounts
    from napari_unet.core.labels import Box
    from napari_unet.core.live_target import LiveTarget
    from napari_unet.core.settings import Task, WeightMapSettings

View = Literal["weights", "states", ""]
_NAMES = {"weights": "Weights (preview)", "states": "Trained on (preview)"}
#: Pixels that are brought up to date in one go; more would be felt while painting.
_STRIP_PIXELS = 1_500_000


class PreviewLayers(QObject):
    """Shows one of two views of the session's live annotation as a layer of its own.

    What can be seen is brought up to date first, at once; the rest follows in strips while the
    viewer is idle.

    Signals
    -------
    closed
        The user removed the preview layer.
    drawn
        Everything is up to date.
    """

    closed = Signal()
    drawn = Signal()

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._view: View = ""
        self._layer: Image | Labels | None = None
        self._array: npt.NDArray[Any] = np.zeros((0, 0), np.float32)
        self._placed: tuple[Any, ...] = ()
        self._shown: LiveTarget | None = None
        self._strips: Iterator[tuple[slice, slice]] = iter(())
        self._unfinished = False
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._next_strip)
        self._connections = Connections()
        self._connections.connect(session.live.updated, self.update)
        self._connections.connect(session.viewer.layers.events.removed, self._on_removed)
        session.closing.connect(self.let_go)

    @property
    def view(self) -> View:
        """The view that is shown."""
        return self._view

    @property
    def layer(self) -> Image | Labels | None:
        """The preview layer, while there is one."""
        return self._layer

    @property
    def up_to_date(self) -> bool:
        """Whether every pixel of the preview is right (or there is none)."""
        if not self._view:
            return True
        return not self._unfinished and self._shown is self._session.live.target

    def show(self, view: View) -> None:
        """Show the weights, the state map, or nothing."""
        if view == self._view and (self._layer is not None or not view):
            return
        self._remove()
        self._view = view
        self.update(None)

    def let_go(self) -> None:
        """Stop drawing; the layer itself stays."""
        self._timer.stop()
        self._connections.clear()
        self._layer = None

    def hide(self) -> None:
        """Remove the preview layer and stop following."""
        self._remove()
        self.let_go()

    def update(self, box: Box | None) -> None:
        """Draw what changed: a box of states, or everything."""
        target = self._session.live.target
        if not self._view:
            return
        if target is None or self._session.annotation is None:
            self._shown = None
            self._remove()
            return
        if self._layer is None or self._placement() != self._placed:
            before = self._layer
            self._remove()
            self._add(target)
            if before is not None and self._layer is not None:
                # The user hid it, or made it fainter: another plane is no reason to undo that.
                self._layer.visible, self._layer.opacity = before.visible, before.opacity
            return
        if target is not self._shown:
            self._shown, box = target, None
        if box is not None and self._view == "states":
            y0, x0, y1, x1 = box
            self._fill(target, (slice(y0, y1), slice(x0, x1)))
            self._refresh()
            self.drawn.emit()
            return
        # A stroke changes the class balance, and with it the weights of all pixels.
        seen = visible_box(self._session.viewer, self._layer)
        window = slice(seen[0], seen[2]), slice(seen[1], seen[3])
        self._fill(target, window)
        self._set_limits(target)
        self._refresh()
        rest = list(strips(target.shape, window))
        self._strips, self._unfinished = iter(rest), bool(rest)
        if rest:
            self._timer.start()
        else:
            self._timer.stop()
            self.drawn.emit()

    def _next_strip(self) -> None:
        target = self._session.live.target
        strip = next(self._strips, None)
        if strip is not None and target is not None and target is self._shown and self._layer:
            self._fill(target, strip)
            return
        self._timer.stop()
        self._unfinished = False
        if self._layer is not None and self._shown is not None:
            self._refresh()
            self.drawn.emit()

    def _fill(self, target: LiveTarget, window: tuple[slice, slice]) -> None:
        part = target.weight(window) if self._view == "weights" else target.state(window)
        self._array[window] = part

    def _refresh(self) -> None:
        if self._layer is not None:
            # The lean form: napari has no public call that redraws only a box.
            self._layer.refresh(thumbnail=False, extent=False, highlight=False)

    def _add(self, target: LiveTarget) -> None:
        self._shown = target
        self._placed = self._placement()
        labels = self._session.annotation
        assert labels is not None
        dtype = np.float32 if self._view == "weights" else np.uint8
        self._array = np.empty(target.shape, dtype)
        self._fill(target, (slice(0, target.shape[0]), slice(0, target.shape[1])))
        make = _weights_layer if self._view == "weights" else _states_layer
        stack = self._array[(None,) * (labels.ndim - 2)]
        layer = make(stack, self._placed_at(labels))
        layers = self._session.viewer.layers
        active = layers.selection.active
        # Weights are seen around the painted objects, states instead of them; of classes the
        # painted pixels are all that has a weight.
        around = self._view == "weights" and self._session.annotation_settings.task == "objects"
        above = 0 if around else 1
        layers.insert(layers.index(labels) + above, layer)
        self._layer = layer
        self._set_limits(target)
        # A new layer becomes the active one: the brush must stay where it was.
        layers.selection.active = active
        self.drawn.emit()

    def _set_limits(self, target: LiveTarget) -> None:
        """Let the colours span the weights that can occur; 0 and below stay transparent."""
        if self._view != "weights" or self._layer is None:
            return
        task = self._session.annotation_settings.task
        top, _clipped = weight_range(target.counts, self._session.weight_settings, task)
        # Rounded up: a stroke moves the class balance a little, and new limits cost 10 ms.
        top = float(np.ceil(10 * top) / 10)
        if self._layer.contrast_limits[1] != top:
            self._layer.contrast_limits_range = (0.0, top)
            self._layer.contrast_limits = (0.0, top)

    def _placement(self) -> tuple[Any, ...]:
        """Return everything that, when it changes, asks for another layer."""
        live, labels = self._session.live, self._session.annotation
        if live.target is None or labels is None:
            return ()
        where = _affine_of_plane(labels, live.index)
        task = self._session.annotation_settings.task
        return labels.name, live.target.shape, live.index, where.tobytes(), task

    def _placed_at(self, labels: Labels) -> dict[str, Any]:
        return {
            "affine": _affine_of_plane(labels, self._session.live.index),
            "units": labels.units,
            "axis_labels": labels.axis_labels,
            "name": _NAMES[self._view],
            "metadata": {METADATA_KEY: {"role": "preview"}},
        }

    def _remove(self) -> None:
        self._timer.stop()
        self._unfinished = False
        layer, self._layer = self._layer, None
        layers = self._session.viewer.layers
        if layer is not None and layer in layers:
            active = layers.selection.active
            layers.remove(layer)
            if active is not None and active in layers:
                layers.selection.active = active

    def _on_removed(self, event: Any) -> None:
        if self._layer is not None and same_layer(event.value, self._layer):
            self._layer = None
            self._timer.stop()
            self._unfinished = False
            self._view = ""
            self.closed.emit()


def weight_range(
    counts: StateCounts, settings: WeightMapSettings, task: Task
) -> tuple[float, bool]:
    """Return the upper end of the colour scale, and whether some weights lie above it.

    The scale reaches the weight in a narrow gap. Where balancing gives a rare class an enormous
    weight, it stops at three times that, or nothing else would show any colour. Classes of
    material have no gaps: their scale reaches the highest weight.
    """
    per_class = class_weights(counts.classes, settings.class_balance)
    present = [float(w) for w, n in zip(per_class, counts.classes, strict=True) if n]
    highest = max(present, default=1.0)
    if task == "classes":
        return highest, False
    in_gap = settings.w0 + float(per_class[0])
    top = max(in_gap, min(highest, 3 * in_gap))
    return top, highest > top


def strips(shape: tuple[int, int], done: tuple[slice, slice]) -> Iterator[tuple[slice, slice]]:
    """Cut what lies outside the window ``done`` into strips of bounded size."""
    height, width = shape
    rows, columns = done
    rest = (
        (slice(0, rows.start), slice(0, width)),
        (slice(rows.stop, height), slice(0, width)),
        (rows, slice(0, columns.start)),
        (rows, slice(columns.stop, width)),
    )
    for part in rest:
        across = part[1].stop - part[1].start
        if across <= 0:
            continue
        step = max(1, _STRIP_PIXELS // across)
        for top in range(part[0].start, part[0].stop, step):
            yield slice(top, min(top + step, part[0].stop)), part[1]


def _affine_of_plane(labels: Labels, index: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the transform that puts a stack of one plane where ``labels[index]`` is."""
    ndim = labels.ndim
    origin = np.asarray(labels.data_to_world([*index, 0, 0]), dtype=float)
    matrix = np.eye(ndim + 1)
    for axis in range(ndim):
        step = np.array([*index, 0, 0], dtype=float)
        step[axis] += 1
        matrix[:ndim, axis] = np.asarray(labels.data_to_world(step), dtype=float) - origin
    matrix[:ndim, ndim] = origin
    return matrix


def _weights_layer(array: npt.NDArray[Any], placed: dict[str, Any]) -> Image:
    from napari.layers import Image
    from napari.utils.colormaps import Colormap, ensure_colormap

    viridis = ensure_colormap("viridis")
    colormap = Colormap(
        viridis.colors, controls=viridis.controls, name="weights", low_color=(0, 0, 0, 0)
    )
    return Image(
        array,
        colormap=colormap,
        contrast_limits=(0.0, 1.0),
        blending="translucent_no_depth",
        opacity=0.7,
        interpolation2d="nearest",
        **placed,
    )


def _states_layer(array: npt.NDArray[Any], placed: dict[str, Any]) -> Labels:
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap

    # Objects hide the paint below them, whose colours would mix with the one in the legend.
    cover = {State.OBJECT: 0.95, State.IGNORED: 0.0}
    colors: dict[int | None, Any] = {
        int(state): (*color[:3], cover.get(state, 0.75)) for state, color in STATE_COLORS.items()
    }
    colors[None] = (0.0, 0.0, 0.0, 0.0)
    layer = Labels(
        array,
        colormap=DirectLabelColormap(color_dict=colors),
        # napari shows these words for the pixel under the mouse pointer.
        features={
            "index": [int(state) for state in STATE_NAMES],
            "trained on as": list(STATE_NAMES.values()),
        },
        blending="translucent_no_depth",
        opacity=1.0,
        **placed,
    )
    layer.editable = False
    return layer
