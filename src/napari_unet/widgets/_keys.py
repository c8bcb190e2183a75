"""Keys on a viewer that are given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from napari_unet.widgets._connections import Connections

if TYPE_CHECKING:
    from napari import Viewer


def bind_keys(
    viewer: Viewer, actions: Mapping[str, Callable[[], Any]], connections: Connections
) -> None:
    """Bind keys until ``connections`` is cleared; what was bound before is put back then.

    The layer that is active goes first in napari: its own keys keep their meaning.
    """
    for key, action in actions.items():
        before = viewer.bind_key(key, _pressed(action), overwrite=True)
        connections.defer(_restore(viewer, key, before))


def _pressed(action: Callable[[], Any]) -> Callable[[Any], None]:
    def pressed(_viewer: Any) -> None:
        action()

    return pressed


def _restore(viewer: Viewer, key: str, before: Any) -> Callable[[], None]:
    def restore() -> None:
        viewer.bind_key(key, None)
        if before is not None:
            viewer.bind_key(key, before, overwrite=True)

    return restore
