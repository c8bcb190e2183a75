"""The tool buttons of the Annotate panel; they follow the layer and the layer follows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledSlider

from napari_unet.core.errors import AnnotationError
from napari_unet.widgets._annotation_layer import (
    BACKGROUND,
    BACKGROUND_COLOR,
    annotation_colormap,
    paintable,
)
from napari_unet.widgets._connections import Connections
from napari_unet.widgets._object_tools import ObjectTools
from napari_unet.widgets._tips import explain
from napari_unet.widgets.session import same_layer

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet.widgets.session import Session

#: Name, text, key and help of each tool; the first row paints, the second corrects.
_TOOLS = (
    (
        ("brush", "Brush", "", "Paint the object whose number is shown below."),
        ("background", "Background", "G", "Paint what is certainly not an object."),
        ("erase", "Eraser", "", "Make pixels unpainted again."),
        ("move", "Move", "", "Drag the picture; nothing is painted."),
    ),
    (
        (
            "join",
            "Join",
            "J",
            "Click the object to keep, then those that belong to it. "
            "Key J: join the object under the mouse pointer to the chosen one.",
        ),
        (
            "split",
            "Split",
            "S",
            "Click objects: separate pieces become objects of their own, a "
            "single piece is cut at its waist. Key S: the object under the mouse pointer.",
        ),
        (
            "delete",
            "Delete",
            "Del",
            "Click objects to remove them. Delete key: the object under the mouse pointer.",
        ),
    ),
)
_MODE_OF = {"brush": "paint", "background": "paint", "erase": "erase", "move": "pan_zoom"}
_HELP = {name: help_ for tools in _TOOLS for name, _text, _key, help_ in tools}
_LARGEST = 2**31 - 1


class PaintBox(QWidget):
    """Buttons for painting and correcting the session's annotation layer.

    Signals
    -------
    failed
        One sentence: why a tool could not be taken; empty when it was.
    advised
        One sentence: what the tool in hand is for.
    """

    failed = Signal(str)
    advised = Signal(str)

    def __init__(self, session: Session, tools: ObjectTools) -> None:
        super().__init__()
        self._session = session
        self._tools = tools
        self._last_object = 1
        self._thing = "object"
        self.buttons: dict[str, QPushButton] = {}
        self._group = QButtonGroup(self)
        self._group.setExclusive(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.new_button = QPushButton("Next object   (N)")
        self.new_button.setToolTip("Take the brush with the next free number.")
        layout.addWidget(self.new_button)
        layout.addLayout(self._tool_rows())
        layout.addLayout(self._number_row())
        layout.addLayout(self._brush_row())
        layout.addLayout(self._undo_row())
        self.new_button.clicked.connect(tools.new_object)
        tools.picking_changed.connect(self._sync)
        self._layer_connections = Connections()
        self._connections = Connections()
        self._connections.connect(session.annotation_changed, self._watch)
        self._connections.connect(session.viewer.layers.selection.events.active, self._sync)
        session.closing.connect(self.let_go)
        # Never a lambda here: a widget that is collected in a cycle would call it half cleared.
        self.destroyed.connect(self._connections.clear)
        self._watch(session.annotation)

    def let_go(self) -> None:
        """Disconnect from layer and session."""
        self._layer_connections.clear()
        self._connections.clear()

    def set_task(self, task: str) -> None:
        """Use the words and tools of a task: whole objects can be corrected, classes cannot."""
        objects = task == "objects"
        self._thing = "object" if objects else "class"
        if not objects:
            self._tools.stop_picking()
        self.new_button.setText("Next object   (N)" if objects else "Next class   (N)")
        self._number_label.setText("Object" if objects else "Class")
        for name in ("join", "split", "delete"):
            self.buttons[name].setVisible(objects)
        self.previous_button.setVisible(objects)
        self.next_button.setVisible(objects)

    def use(self, tool: str) -> None:
        """Take a tool, as a click on its button does."""
        try:
            layer = self._tools.layer()
            if tool in ("join", "split", "delete"):
                self._tools.pick(tool)
            else:
                self._take(layer, tool)
            self.failed.emit("")
        except AnnotationError as error:
            self.failed.emit(str(error))
        self._sync()

    @property
    def tool(self) -> str:
        """The tool that is in use, or "": also while another layer is the active one."""
        layer = self._session.annotation
        if layer is None or not same_layer(layer, self._session.viewer.layers.selection.active):
            return ""
        if self._tools.picking:
            return self._tools.picking
        mode = str(layer.mode)
        if mode == "paint":
            return "background" if layer.selected_label == BACKGROUND else "brush"
        return {"erase": "erase", "pan_zoom": "move"}.get(mode, "")

    def _take(self, layer: Labels, tool: str) -> None:
        self._tools.stop_picking()
        if tool == "background":
            paintable(layer, BACKGROUND)
            self._show_background(layer)
            layer.selected_label = BACKGROUND
        elif tool == "brush":
            paintable(layer, 1)
            if layer.selected_label <= 0:
                layer.selected_label = self._last_object
        elif tool == "erase":
            paintable(layer, 0)
        self._session.viewer.layers.selection.active = layer
        if tool != "move":
            layer.visible = True  # napari takes the brush away from a hidden layer
        layer.mode = _MODE_OF[tool]
        number = int(layer.selected_label)
        self.advised.emit(f"Paint {self._thing} {number}." if tool == "brush" else _HELP[tool])

    def _show_background(self, layer: Labels) -> None:
        """Give painted background its own colour in a layer that was made elsewhere."""
        colors = getattr(layer.colormap, "colors", None)
        cyclic = colors is not None and not hasattr(layer.colormap, "color_dict")
        if cyclic and not np.allclose(layer.colormap.map(BACKGROUND), BACKGROUND_COLOR):
            layer.colormap = annotation_colormap()

    def _watch(self, layer: Labels | None) -> None:
        self._layer_connections.clear()
        self.setEnabled(layer is not None)
        if layer is None:
            return
        connect = self._layer_connections.connect
        connect(layer.events.mode, self._sync)
        connect(layer.events.selected_label, self._sync)
        connect(layer.events.brush_size, self._sync)
        connect(layer.events.preserve_labels, self._sync)
        self._sync()

    def _sync(self, _event: object = None) -> None:
        """Show what the layer says."""
        layer = self._session.annotation
        active = self.tool
        for name, button in self.buttons.items():
            button.setChecked(name == active)
        if layer is None:
            return
        if layer.selected_label > 0:
            self._last_object = int(layer.selected_label)
        for editor, value in (
            (self.number, min(_LARGEST, self._last_object)),
            (self.brush_size, min(self.brush_size.maximum(), round(layer.brush_size))),
        ):
            blocked = editor.blockSignals(True)
            editor.setValue(value)
            editor.blockSignals(blocked)
        blocked = self.preserve.blockSignals(True)
        self.preserve.setChecked(bool(layer.preserve_labels))
        self.preserve.blockSignals(blocked)

    def _set_number(self, number: int) -> None:
        layer = self._session.annotation
        if layer is None:
            return
        try:
            paintable(layer, number)
            layer.selected_label = number
            self._last_object = number
            self.failed.emit("")
        except AnnotationError as error:
            self.failed.emit(str(error))
        self._sync()

    def _set_brush_size(self, size: int) -> None:
        if self._session.annotation is not None:
            self._session.annotation.brush_size = size

    def _set_preserve(self, on: bool) -> None:
        if self._session.annotation is not None:
            self._session.annotation.preserve_labels = on

    def _undo(self) -> None:
        if self._session.annotation is not None:
            self._session.annotation.undo()

    def _redo(self) -> None:
        if self._session.annotation is not None:
            self._session.annotation.redo()

    def _tool_rows(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(4)
        for row, tools in enumerate(_TOOLS):
            span = 12 // len(tools)
            for column, (name, text, key, help_) in enumerate(tools):
                button = QPushButton(f"{text} ({key})" if key else text)
                button.setCheckable(True)
                explain(button, help_)
                button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
                button.setMinimumWidth(20)
                button.clicked.connect(lambda _on, tool=name: self.use(tool))
                self._group.addButton(button)
                self.buttons[name] = button
                grid.addWidget(button, row, column * span, 1, span)
        return grid

    def _number_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self._number_label = QLabel("Object")
        self.number = QSpinBox()
        self.number.setRange(1, _LARGEST)
        self.number.setToolTip("The number that the brush paints; each object has its own.")
        self.number.setKeyboardTracking(False)
        self.number.valueChanged.connect(self._set_number)
        self.previous_button = QPushButton("◀ Previous")
        self.previous_button.setToolTip("Go to the object with the next lower number.  Key: ,")
        self.previous_button.clicked.connect(lambda: self._tools.jump(-1))
        self.next_button = QPushButton("Next ▶")
        self.next_button.setToolTip("Go to the object with the next higher number.  Key: .")
        self.next_button.clicked.connect(lambda: self._tools.jump(1))
        row.addWidget(self._number_label)
        row.addWidget(self.number, 1)
        row.addWidget(self.previous_button)
        row.addWidget(self.next_button)
        return row

    def _brush_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        label = QLabel("Brush size")
        self.brush_size = QLabeledSlider(Qt.Orientation.Horizontal)
        self.brush_size.setRange(1, 60)
        self.brush_size.setToolTip("Diameter of the brush in pixels.  Keys: [ and ]")
        self.brush_size.valueChanged.connect(self._set_brush_size)
        row.addWidget(label)
        row.addWidget(self.brush_size, 1)
        return row

    def _undo_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.preserve = QCheckBox("Protect painted objects")
        self.preserve.setToolTip("The brush paints only on unpainted pixels.  Key: B")
        self.preserve.toggled.connect(self._set_preserve)
        self.undo_button = QPushButton("Undo")
        self.undo_button.setToolTip("Take back the last change of the annotation.  Ctrl+Z")
        self.undo_button.clicked.connect(self._undo)
        self.redo_button = QPushButton("Redo")
        self.redo_button.setToolTip("Do again what was taken back.  Ctrl+Shift+Z")
        self.redo_button.clicked.connect(self._redo)
        row.addWidget(self.preserve, 1)
        row.addWidget(self.undo_button)
        row.addWidget(self.redo_button)
        return row
