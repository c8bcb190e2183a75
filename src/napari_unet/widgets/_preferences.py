"""The plugin's entries in napari's Preferences."""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)

PLUGIN = "napari-unet-finetune"
SECTION = "unet"


def preference(name: str, default: Any) -> Any:
    """Return a preference, or the default where the plugin is not registered with napari."""
    from napari.settings import get_plugin_settings

    try:
        return getattr(getattr(get_plugin_settings(PLUGIN), SECTION), name)
    except (KeyError, AttributeError):
        logger.debug("no preference %r: the plugin is not registered", name)
        return default
