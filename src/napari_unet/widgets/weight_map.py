"""The Weights panel: what the network will be trained on, before it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QWidget

from napari_unet.core.settings import WeightMapSettings
from napari_unet.widgets._preview_layers import PreviewLayers, View, weight_range
from napari_unet.widgets._scale_bar import ColorScale
from napari_unet.widgets._state_legend import StateLegend
from napari_unet.widgets._tips import explain
from napari_unet.widgets.annotate import SEEN_PIXELS, annotation_form, sensible
from napari_unet.widgets.panel import Panel
from napari_unet.widgets.settings_form import SettingsForm

if TYPE_CHECKING:
    from napari import Viewer

_VIEWS: tuple[tuple[View, str, str], ...] = (
    ("states", "What is learned", "Colour each pixel by what the network will learn there."),
    ("weights", "Weights", "Colour each pixel by how much a mistake there will count."),
    ("", "Off", "Remove the preview."),
)


def weight_form(settings: WeightMapSettings) -> SettingsForm[WeightMapSettings]:
    """Return the form for the weight map, in plain words."""
    return SettingsForm(
        settings,
        labels={
            "w0": "Emphasis of gaps (w0)",
            "sigma": "Reach (sigma, px)",
            "class_balance": "Balance classes",
            "ridge": "Dividing line (px)",
        },
        sliders={"w0": (0, 50), "sigma": (0.5, 30), "ridge": (0, 9)},
        tips={
            "w0": "How much more a mistake counts in the gap between two neighbouring objects. "
            "Raise it when neighbours are merged.",
            "sigma": "How far apart two objects may be for the gap between them to count more. "
            f"{SEEN_PIXELS}",
            "class_balance": "Objects and background (or all classes) count the same in total, "
            "however many pixels are painted of each.",
            "ridge": "Width of the line of background that is put between objects that touch, so "
            f"that the network learns to keep them apart. {SEEN_PIXELS}",
        },
    )


class WeightMapPanel(Panel):
    """A live preview of the weight map and of the four pixel states."""

    title = "Weights"

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        session = self.session
        self.preview = PreviewLayers(session, self)
        self.view_buttons: dict[str, QPushButton] = {}
        self._views = QButtonGroup(self)
        self.form = weight_form(session.weight_settings)
        self.meaning = annotation_form(session.annotation_settings)
        self.meaning.set_row_visible("task", False)
        self.scale = ColorScale()
        self.legend = StateLegend()
        self._lay_out()
        self._connect()
        self._on_settings()
        self._on_view("")
        self._show_counts()
        self._on_annotation(session.annotation)

    def show_view(self, view: View) -> None:
        """Show one of the two views, or none (``""``)."""
        self.preview.show(view)
        self._on_view(view)

    def _lay_out(self) -> None:
        show = self.add_group("Preview")
        show.addRow(self._view_row())
        show.addRow(self.scale)
        weights = self.add_group("How much a mistake counts")
        weights.addRow(self.form)
        meaning = self.add_group("What the paint means")
        meaning.addRow(self.meaning)
        self.add_group("What the network will see").addRow(self.legend)

    def _view_row(self) -> QWidget:
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        for view, text, help_ in _VIEWS:
            button = QPushButton(text)
            button.setCheckable(True)
            explain(button, help_)
            button.clicked.connect(lambda _on, view=view: self.show_view(view))
            self._views.addButton(button)
            self.view_buttons[view] = button
            row.addWidget(button)
        return holder

    def _connect(self) -> None:
        session, connect = self.session, self.connections.connect
        self.form.changed.connect(self._on_form)
        self.meaning.changed.connect(self._on_meaning)
        self.preview.closed.connect(lambda: self._on_view(""))
        connect(session.settings_changed, self._on_settings)
        connect(session.live.updated, self._show_counts)
        connect(session.live.failed, self._show_counts)
        connect(session.annotation_changed, self._on_annotation)
        self.connections.defer(self.preview.let_go)

    def leave(self) -> None:
        """Remove the preview: nothing would keep it right any more."""
        self.preview.hide()

    def _on_annotation(self, layer: Any) -> None:
        if layer is None:
            self.show_status("Choose or make an annotation layer in the Annotate tab first.")
        else:
            self.show_status("")
            self._advise()

    def _on_form(self) -> None:
        with self.errors_shown():
            self.session.weight_settings = self.form.settings()

    def _on_meaning(self) -> None:
        with self.errors_shown():
            self.session.annotation_settings = sensible(
                self.session.annotation_settings, self.meaning.settings()
            )

    def _on_settings(self) -> None:
        settings = self.session.annotation_settings
        self.form.set_settings(self.session.weight_settings)
        self.meaning.set_settings(settings)
        nearby = settings.area == "around" and settings.task == "objects"
        self.meaning.set_row_visible("margin", nearby)
        for name in ("w0", "sigma", "ridge"):
            self.form.set_row_visible(name, settings.task == "objects")

    def _on_view(self, view: View) -> None:
        self.view_buttons[view].setChecked(True)
        self.scale.setVisible(view == "weights")
        self._show_counts()
        self._advise()

    def _advise(self) -> None:
        """Say what the preview is for while it is off."""
        off = self.session.annotation is not None and self.view_buttons[""].isChecked()
        self.show_hint("Press What is learned to colour the image by it." if off else "")

    def _show_counts(self, _change: Any = None) -> None:
        live, task = self.session.live, self.session.annotation_settings.task
        self.legend.show_live(live, task)
        if live.target is not None:
            top, clipped = weight_range(live.target.counts, self.session.weight_settings, task)
            self.scale.set_range(top, clipped)
