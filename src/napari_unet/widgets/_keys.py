"""Keys on a viewer that are given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_unet.widgets._connections import Connections

if TYPE_CHECKING:
    from napari import Viewer


def bind_keys(
    viewer: Viewer, actions: Mapping[str, Callable[[], Any]], connections: Connections
) -> None:
    """Bind keys until ``connections`` is cleared; what was bound before is put back then.

    Several panels may bind the same key: the newest that is still there has it, in whatever order
    they go. The layer that is active goes first in napari: its own keys keep their meaning.
    """
    for key, action in actions.items():
        binding = _Binding(action)
        binding.before = viewer.bind_key(key, binding, overwrite=True)
        connections.defer(partial(_give_back, viewer, key, binding))


class _Binding:
    """An action on a key, and what the key did before."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action
        self.before: Any = None
        # napari takes what is on a key for a function, which has a name.
        self.__name__ = getattr(action, "__name__", "action")

    def __call__(self, _viewer: Any) -> None:
        self._action()


def _give_back(viewer: Viewer, key: str, binding: _Binding) -> None:
    present: Any = viewer.bind_key(key, None)
    if present is binding:
        present = binding.before
    above = present
    while isinstance(above, _Binding):
        if above.before is binding:
            above.before = binding.before
        above = above.before
    if present is not None:
        viewer.bind_key(key, present, overwrite=True)
