"""The Annotate panel: make an annotation layer, paint, correct, see what is there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_unet.core.errors import AnnotationError
from napari_unet.core.settings import AnnotationSettings
from napari_unet.widgets._annotation_layer import (
    check_fits,
    copy_of_annotation,
    is_annotation_candidate,
    new_annotation,
    new_boxes,
)
from napari_unet.widgets._keys import bind_keys
from napari_unet.widgets._object_tools import ObjectTools
from napari_unet.widgets._paint_box import PaintBox
from napari_unet.widgets._parts import Clicks
from napari_unet.widgets._recovery import EarlierLabels, RecoveryOffer
from napari_unet.widgets._state_legend import StateLegend
from napari_unet.widgets._tips import explain
from napari_unet.widgets.channel_axis import ChannelAxis
from napari_unet.widgets.layer_chooser import LayerChooser
from napari_unet.widgets.panel import Panel
from napari_unet.widgets.settings_form import SettingsForm

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

#: Plain words for the choices of :class:`AnnotationSettings`.
TASK_WORDS = {"objects": "separate objects", "classes": "kinds of material"}
AREA_WORDS = {
    "around": "background nearby",
    "painted": "ignored",
    "boxes": "background in boxes",
    "all": "background everywhere",
}
#: Which pixels lengths of the training are counted in.
SEEN_PIXELS = (
    "Counted in pixels as the network sees them: where cells are larger or smaller than those "
    "that the model knows, the image is resized first."
)


def annotation_form(settings: AnnotationSettings) -> SettingsForm[AnnotationSettings]:
    """Return the form for what painted labels mean, in plain words."""
    return SettingsForm(
        settings,
        labels={"task": "I paint", "area": "Unpainted pixels are", "margin": "Nearby is within"},
        words={"task": TASK_WORDS, "area": AREA_WORDS},
        tips={
            "task": "Separate objects: each cell has a number of its own. Kinds of material: each "
            "number is a kind, such as nucleus or cytoplasm, in however many pieces.",
            "area": "What the network learns where nothing is painted: nothing (ignored), or that "
            "no object is there: near painted ones, in boxes that you draw, or everywhere.",
            "margin": "Unpainted pixels this close to a painted object are background. "
            f"{SEEN_PIXELS}",
        },
    )


def sensible(before: AnnotationSettings, now: AnnotationSettings) -> AnnotationSettings:
    """Take the meaning of unpainted pixels along when the user changes the task.

    There is no "nearby" for classes of material: what is not painted is ignored.
    """
    if now.task == "classes" and now.area == "around":
        return replace(now, area="painted")
    if before.task == "classes" and now.task == "objects" and now.area == "painted":
        return replace(now, area="around")
    return now


def next_step(painted: int, task: str) -> str:
    """Say what to do next when so many objects or classes are painted in the plane."""
    thing, enough = ("object", 3) if task == "objects" else ("class", 2)
    if painted == 0:
        return f"Paint a few {_plural(task)}. Press N for each next one."
    if painted < enough:
        return f"Press N and paint the next {thing}."
    return "Paint more, or go on to the Train tab. The Weights tab shows what will be learned."


def _plural(task: str) -> str:
    return "objects" if task == "objects" else "classes"


class AnnotatePanel(Panel):
    """Everything for painting a few objects, and for correcting many."""

    title = "Annotate"

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        session = self.session
        self.tools = ObjectTools(session, self)
        self.image_chooser = LayerChooser(
            session, ("image",), none_text="(no image)", follows="image"
        )
        self.annotation_chooser = LayerChooser(
            session,
            ("labels",),
            accepts=is_annotation_candidate(session),
            none_text="(none yet)",
            follows="annotation",
        )
        self.new_button = QPushButton("New")
        self._clicks = Clicks()
        self.copy_button = QPushButton("Copy")
        self.channels = ChannelAxis()
        self.paint_box = PaintBox(session, self.tools)
        self.form = annotation_form(session.annotation_settings)
        self.boxes_button = QPushButton("Draw boxes")
        self.legend = StateLegend()
        self.recovery = RecoveryOffer(session)
        self.earlier = EarlierLabels(session)
        self._lay_out()
        self._connect()
        self._on_settings()
        self._on_layers()
        self._show_counts()
        self.recovery.look()

    def make_annotation(self) -> None:
        """Add an empty annotation layer on the chosen image."""
        with self.errors_shown():
            image = self.session.image
            if image is None:
                raise AnnotationError("Open an image first, then press New.")
            new_annotation(self.session, image)

    def copy_annotation(self) -> None:
        """Copy the chosen labels into a new layer in memory that can be painted."""
        with self.errors_shown():
            copy_of_annotation(self.session, self.tools.layer())

    def draw_boxes(self) -> None:
        """Take the tool that draws boxes around completely annotated areas."""
        with self.errors_shown():
            labels = self.tools.layer()
            boxes = self.session.boxes or new_boxes(self.session, labels)
            settings = self.session.annotation_settings
            if settings.area != "boxes":
                self.session.annotation_settings = replace(settings, area="boxes")
            self.viewer.layers.selection.active = boxes
            boxes.visible = True  # napari takes the tool away from a hidden layer
            boxes.mode = "add_rectangle"
            self.show_status(
                "Draw boxes around areas where every object is painted; Delete removes the last."
            )

    def _lay_out(self) -> None:
        self.body.addWidget(self.recovery)
        layers = self.add_group("Layers")
        layers.addRow("Image", self.image_chooser)
        layers.addRow(self.channels)
        row = _row(self.annotation_chooser, self.new_button, self.copy_button, self.earlier)
        layers.addRow("Annotation", row)
        self.new_button.setToolTip("Make an empty annotation layer on the chosen image.")
        explain(
            self.copy_button,
            "Work on a copy of the chosen labels, for example of a layer that cannot be painted.",
        )
        self.add_group("Paint and correct").addRow(self.paint_box)
        meaning = self.add_group("What the paint means")
        meaning.addRow(self.form)
        meaning.addRow(self.boxes_button)
        explain(
            self.boxes_button,
            "Draw rectangles; everything unpainted inside them is background, everything outside "
            "is ignored. The Delete key removes the last one.",
        )
        self.add_group("What the network will see").addRow(self.legend)

    def _connect(self) -> None:
        session, connect = self.session, self.connections.connect
        self.new_button.clicked.connect(self._on_new)
        self.copy_button.clicked.connect(self.copy_annotation)
        self.boxes_button.clicked.connect(self.draw_boxes)
        self.channels.changed.connect(self._on_channels)
        self.form.changed.connect(self._on_form)
        self.paint_box.failed.connect(self._on_tool)
        self.tools.failed.connect(self._on_tool)
        self.tools.said.connect(self.show_status)
        self.tools.advised.connect(self._show_advice)
        self.paint_box.advised.connect(self._show_advice)
        for source in (self.recovery, self.earlier):
            source.said.connect(self.show_status)
            source.failed.connect(self.show_error)
        connect(session.backup.failed, self.show_error)
        connect(session.image_changed, self._on_layers)
        connect(session.annotation_changed, self._on_layers)
        connect(session.settings_changed, self._on_settings)
        connect(session.live.updated, self._show_counts)
        connect(session.live.failed, self._show_counts)
        self.connections.defer(self.tools.let_go)
        self.connections.defer(self.paint_box.let_go)
        tools = self.tools
        actions = {
            "N": tools.new_object,
            "G": lambda: self.paint_box.use("background"),
            "J": tools.join_under_pointer,
            "S": tools.split_under_pointer,
            "Delete": tools.delete_under_pointer,
            ",": lambda: tools.jump(-1),
            ".": lambda: tools.jump(1),
        }
        bind_keys(self.viewer, actions, self.connections)

    def _on_new(self) -> None:
        if not self._clicks.again():  # a double click makes one layer
            self.make_annotation()
            self._clicks.handled()

    def _on_layers(self, _layer: Layer | None = None) -> None:
        image, labels = self.session.image, self.session.annotation
        self.new_button.setEnabled(image is not None)
        self.copy_button.setEnabled(labels is not None)
        self.channels.show_layer(image)
        self._check_fit()
        self.show_status("")  # it spoke of other layers
        self._advise()

    def _check_fit(self) -> None:
        image, labels = self.session.image, self.session.annotation
        with self.errors_shown():
            if image is not None and labels is not None:
                check_fits(labels, image)

    def _on_tool(self, problem: str) -> None:
        """Show why a tool failed; one that works does not mend layers that do not fit."""
        if problem:
            self.show_error(problem)
        else:
            self._check_fit()

    def _show_advice(self, text: str) -> None:
        """Show what to paint now; the status spoke of something done before."""
        self.show_status("")
        self.show_hint(text)

    def _advise(self) -> None:
        target, task = self.session.live.target, self.session.annotation_settings.task
        painted = 0 if target is None else target.counts.objects
        if self.session.image is None:
            self.show_hint("Open an image to begin.")
        elif self.session.annotation is None:
            things = _plural(task)
            self.show_hint(f"Press New to make an annotation layer, then paint a few {things}.")
        else:
            self.show_hint(next_step(painted, task))

    def _on_channels(self) -> None:
        image = self.session.image
        if image is not None:
            self.session.image_changed.emit(image)

    def _on_form(self) -> None:
        with self.errors_shown():
            self.session.annotation_settings = sensible(
                self.session.annotation_settings, self.form.settings()
            )

    def _on_settings(self) -> None:
        settings = self.session.annotation_settings
        self.form.set_settings(settings)
        nearby = settings.area == "around" and settings.task == "objects"
        self.form.set_row_visible("margin", nearby)
        self.boxes_button.setVisible(settings.area == "boxes")
        self.paint_box.set_task(settings.task)
        self._show_counts()

    def _show_counts(self, _change: Any = None) -> None:
        self.legend.show_live(self.session.live, self.session.annotation_settings.task)
        self._advise()


def _row(*widgets: QWidget) -> QWidget:
    holder = QWidget()
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    for position, widget in enumerate(widgets):
        row.addWidget(widget, 1 if position == 0 else 0)
    return holder
