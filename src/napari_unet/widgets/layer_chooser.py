"""A drop-down list of layers that follows additions, removals, renames and the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_unet.widgets._connections import Connections
from napari_unet.widgets._elided_combo import ElidedComboBox
from napari_unet.widgets.session import Session, kind_of, same_layer

if TYPE_CHECKING:
    from napari.layers import Layer


class LayerChooser(ElidedComboBox):
    """Chooses one layer of some kinds; keeps hold of the layer, not of its name.

    Parameters
    ----------
    session
        The viewer's session.
    kinds
        Kinds of :func:`~napari_unet.widgets.session.kind_of` that are offered.
    accepts
        A further condition.
    none_text
        Text of the entry for "no layer".
    follows
        Name of a session property ("image", "annotation", "boxes") that is shown and set.
    """

    layer_chosen = Signal(object)

    def __init__(
        self,
        session: Session,
        kinds: tuple[str, ...],
        *,
        accepts: Callable[[Layer], bool] = lambda layer: True,
        none_text: str = "(none)",
        follows: str | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._kinds = kinds
        self._accepts = accepts
        self._none_text = none_text
        self._follows = follows
        self._layers: list[Layer | None] = []
        self._connections = connections = Connections()
        events = session.viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered, events.renamed):
            connections.connect(emitter, self._on_layers)
        if follows is not None:
            connections.connect(getattr(session, f"{follows}_changed"), self._show)
        session.closing.connect(connections.clear)
        # Never a lambda here: a widget that is collected in a cycle would call it half cleared.
        self.destroyed.connect(connections.clear)
        self._refill(getattr(session, follows) if follows else None)
        self.activated.connect(self._on_activated)

    @property
    def layer(self) -> Layer | None:
        """The chosen layer."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def set_layer(self, layer: Layer | None) -> None:
        """Choose a layer as the user would."""
        self._show(layer)
        self._announce()

    def _on_layers(self, event: Any = None) -> None:
        before = self.layer
        self._refill(getattr(self._session, self._follows) if self._follows else before)
        if self._follows is None and not same_layer(before, self.layer):
            self.layer_chosen.emit(self.layer)

    def _show(self, layer: Layer | None) -> None:
        self._refill(layer)

    def _refill(self, wanted: Layer | None) -> None:
        self._layers = [None]
        self._layers += [
            layer
            for layer in self._session.viewer.layers
            if kind_of(layer) in self._kinds and self._accepts(layer)
        ]
        blocked = self.blockSignals(True)
        self.clear()
        for layer in self._layers:
            self.addItem(self._none_text if layer is None else layer.name)
        found = [i for i, layer in enumerate(self._layers) if same_layer(layer, wanted)]
        self.setCurrentIndex(found[0] if found else 0)
        self.blockSignals(blocked)
        self.show_tip()

    def _on_activated(self, _index: int) -> None:
        self._announce()

    def _announce(self) -> None:
        if self._follows is not None:
            setattr(self._session, self._follows, self.layer)
        self.layer_chosen.emit(self.layer)
