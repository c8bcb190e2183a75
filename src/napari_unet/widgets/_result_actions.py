"""What can be done with a result: take objects over into the annotation, look for seams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.core.errors import AnnotationError, InputError
from napari_unet.jobs.size_job import seams_job
from napari_unet.widgets._accept import accept_classes, accept_objects
from napari_unet.widgets._annotation_layer import new_annotation
from napari_unet.widgets._elided_combo import ElidedComboBox
from napari_unet.widgets._label_plane import boxes_on_plane, plane_index, plane_of
from napari_unet.widgets._parts import row, small_button
from napari_unet.widgets._source import limited, shown_index, shown_middle, shown_region, source_of
from napari_unet.widgets.annotate import TASK_WORDS
from napari_unet.widgets.session import METADATA_KEY, kind_of, same_layer

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet.jobs.events import JobFailed
    from napari_unet.widgets.segment import SegmentPanel

SEAMS_KEY = "seams"
#: Longest side of the part of the view that is predicted in one piece, in pixels.
SEAMS_SIDE = 768
_PICK = "Click the object in the result, then press Use as annotation."
PLANE, SELECTED, BOXES, EVERYTHING = "plane", "selected", "boxes", "everything"
_SCOPES = (
    ("all objects of this plane", PLANE),
    ("the picked object", SELECTED),
    ("objects in the boxes", BOXES),
    ("all objects of all planes", EVERYTHING),
)


class ResultActions(QWidget):
    """Two buttons; :meth:`use` connects them to a panel."""

    def __init__(self) -> None:
        super().__init__()
        self._panel: SegmentPanel | None = None
        self.accept = small_button(
            "Use as annotation",
            "Copy objects that are right into your annotation, to correct them and train again",
        )
        self.scope = ElidedComboBox()
        self.scope.describe("Which objects are copied.")
        for text, value in _SCOPES:
            self.scope.addItem(text, value)
        self.seams = small_button(
            "Check seams",
            "Predict what you see once in tiles and once in one piece, and compare",
        )
        self.scope.activated.connect(self._on_scope)
        self.accept.clicked.connect(self.use_as_annotation)
        self.seams.clicked.connect(self.check_seams)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(row(self.accept, self.scope))
        layout.addWidget(self.seams)

    def use(self, panel: SegmentPanel) -> None:
        """Act for this panel."""
        self._panel = panel

    def set_scope(self, scope: str) -> None:
        """Choose which objects are copied."""
        self.scope.setCurrentIndex(self.scope.findData(scope))

    def use_as_annotation(self) -> None:
        """Copy objects of the result into the annotation."""
        panel = self._panel
        if panel is None:
            return
        with panel.errors_shown():
            panel.show_status("")  # what was copied before is not what is copied now
            result = self._result(panel)
            here = plane_index(panel.viewer, result)
            scope = self.scope.currentData()
            leading = result.data.shape[:-2]
            indices = list(np.ndindex(*leading)) if scope == EVERYTHING else [here]
            _check_has_objects(result, indices)
            task = panel.session.annotation_settings.task
            _check_task(result, task)
            numbers = {_picked(result)} if scope == SELECTED else None
            annotation = self._annotation(panel, result)
            boxes = None
            if scope == BOXES:
                boxes = {here: boxes_on_plane(panel.session.boxes, result, here)}
            parts: dict[str, Any] = {"numbers": numbers, "boxes": boxes}
            if task == "classes":
                accepted = accept_classes(result, annotation, indices, **parts)
            else:
                model = _entry(result).get("model", "")
                parts["origin"] = f"model {model}" if model else f"layer {result.name}"
                accepted = accept_objects(result, annotation, indices, **parts)
            panel.session.annotation_edited.emit(annotation)
            all_taken = scope == EVERYTHING or (scope == PLANE and not leading)
            if all_taken:
                self._turn_to(panel, annotation, result)
            elif scope == SELECTED:  # the next one is picked there too, not painted over
                panel.viewer.layers.selection.active = result
            panel.show_status(accepted.sentence(hidden=result.name if all_taken else ""))

    def _on_scope(self, _position: int) -> None:
        """Hand over napari's tool that picks an object."""
        panel = self._panel
        if panel is None or self.scope.currentData() != SELECTED:
            return
        with panel.errors_shown():
            result = self._result(panel)
            panel.viewer.layers.selection.active = result
            result.selected_label = 0
            result.mode = "pick"
            panel.show_status(_PICK)

    def _turn_to(self, panel: SegmentPanel, annotation: Labels, result: Labels) -> None:
        """Let the user correct the copies: the result lies over them and would hide strokes."""
        result.visible = False
        annotation.visible = True
        panel.viewer.layers.selection.active = annotation

    def check_seams(self) -> None:
        """Compare tiles with no tiles where the user looks."""
        panel = self._panel
        if panel is None or panel.session.jobs.running(SEAMS_KEY) is not None:
            return
        with panel.errors_shown():
            layer, model = panel.chosen_image(), panel.chosen_model()
            axis = panel.form.channels.axis
            index = shown_index(panel.viewer, layer, axis)
            plane, channel_axis = source_of(layer, axis).plane(index)
            middle = shown_middle(panel.viewer, layer)
            region = limited(shown_region(panel.viewer, layer), middle, SEAMS_SIDE)
            panel.show_status("Comparing tiles with one piece …")
            self.seams.setEnabled(False)
            job = panel.session.jobs.start(
                SEAMS_KEY,
                "Checking for seams",
                seams_job,
                model,
                plane,
                channel_axis,
                region,
                self._diameter(panel, index),
                panel.options.tiles.settings(),
                on_event=lambda report: panel.show_status(report.sentence()),
                on_failed=self._on_failed,
            )
            job.ended.connect(lambda _outcome: self.seams.setEnabled(True))

    def _diameter(self, panel: SegmentPanel, index: tuple[int, ...]) -> float | None:
        size = panel.form.cell_size()
        if size != "auto":
            return float(size)
        known = panel.sizes.known().get(index)
        return known if panel.run is None else panel.run.diameter_of(index) or known

    def _on_failed(self, outcome: JobFailed) -> None:
        if self._panel is not None:
            self._panel.show_status("")
            self._panel.show_error(outcome.message)

    def _result(self, panel: SegmentPanel) -> Labels:
        """Return the layer to copy from: the active one if it is labels, or the last result."""
        if panel.running or panel.thresholds.busy:
            raise InputError("Wait until the objects are complete, or press Stop first.")
        active: Any = panel.viewer.layers.selection.active
        is_source = (
            active is not None
            and kind_of(active) == "labels"
            and not same_layer(active, panel.session.annotation)
            and _entry(active).get("role") not in ("preview", "annotation")
        )
        if is_source and not active.multiscale:
            return active
        if panel.run is not None and panel.run.alive:
            return panel.run.stream.layer
        raise InputError("There is no result yet; press Segment, or select a Labels layer.")

    def _annotation(self, panel: SegmentPanel, result: Labels) -> Labels:
        session = panel.session
        annotation = session.annotation
        if annotation is None:
            return new_annotation(session, panel.chosen_image())
        if same_layer(annotation, result):
            raise AnnotationError(
                "This result is your annotation already; train with it, or choose another "
                "annotation in the Annotate tab."
            )
        return annotation


def _picked(result: Labels) -> int:
    """Return the number of the picked object."""
    number = int(result.selected_label)
    if number <= 0:
        raise AnnotationError(_PICK)
    return number


def _check_task(result: Labels, task: str) -> None:
    """Decline to take classes for objects, or the other way round."""
    found = _entry(result).get("task", task)
    if found != task:
        raise AnnotationError(
            f"{result.name!r} holds {TASK_WORDS[found]}; choose that under 'I paint' in the "
            "Annotate tab first."
        )


def _check_has_objects(result: Labels, indices: list[tuple[int, ...]]) -> None:
    """Decline to copy nothing, before an annotation layer is made for it."""
    if not any(bool((np.asarray(plane_of(result, index)) > 0).any()) for index in indices):
        where = "this plane" if len(indices) == 1 else "any plane"
        raise AnnotationError(
            f"{result.name!r} has no objects in {where}: lower the detection threshold, or paint "
            "a few cells in the Annotate tab and train."
        )


def _entry(layer: Any) -> dict[str, Any]:
    entry = layer.metadata.get(METADATA_KEY)
    return entry if isinstance(entry, dict) else {}
