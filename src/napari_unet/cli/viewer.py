"""`napari-unet` without a command: open napari with the panels."""

from __future__ import annotations

import argparse

from napari_unet.cli.console import OK
from napari_unet.core.errors import UNetError


def run(options: argparse.Namespace) -> int:
    """Open napari and return when its window is closed."""
    del options
    _check_qt()
    from napari_unet.widgets.application import open_viewer

    open_viewer()
    return OK


def _check_qt() -> None:
    try:
        import qtpy.QtWidgets  # noqa: F401
    except ImportError as error:
        raise UNetError(
            "napari needs Qt to open a window; install it with "
            "'pip install \"napari-unet-finetune[gui]\"', or use the commands in "
            "'napari-unet --help', which need no window."
        ) from error
