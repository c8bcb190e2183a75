"""The command line: everything the panels do, without a display."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from napari_unet.cli.console import BAD_INPUT, INTERRUPTED, fail, prepare_output
from napari_unet.cli.parser import build_parser
from napari_unet.core.errors import UNetError

_MODULES = {
    None: "viewer",
    "demo": "demo",
    "evaluate": "evaluate",
    "info": "info",
    "segment": "segment",
    "train": "train",
    "weight-map": "weight_map",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 2 bad input, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    prepare_output()
    if "" in words:
        # As a path it would mean the present folder, which nobody asked for.
        return fail("One of the arguments is empty; give a name (is a variable not set?).")
    try:
        options = build_parser(words).parse_args(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else BAD_INPUT
    level = logging.INFO if getattr(options, "verbose", False) else logging.WARNING
    logging.basicConfig(level=level, format="napari-unet: %(message)s")
    try:
        run = import_module(f"{__name__}.{_MODULES[options.command]}").run
        status: int = run(options)
    except UNetError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("\nnapari-unet: Interrupted.\n")
        return INTERRUPTED
    except MemoryError:
        return fail("There is not enough memory for this; close other programs or use less data.")
    except BrokenPipeError:
        # The reader of what we report is gone (`2>&1 | head`): nobody is left to tell.
        sys.stderr.close()
        return INTERRUPTED
    except OSError as error:
        where = f" for {error.filename!r}" if error.filename else ""
        return fail(f"The system reports{where}: {(error.strerror or str(error)).lower()}.")
    return status
