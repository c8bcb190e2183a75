"""A folder of journals: which were cut off, which were closed in order, which may go."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import secrets
from collections.abc import Callable
from pathlib import Path

from napari_unet.core.errors import InputError
from napari_unet.io.journal import (
    REWRITTEN,
    SUFFIX,
    Journal,
    JournalHeader,
    is_closed,
    read_header,
)

logger = logging.getLogger(__name__)


def new_journal(folder: Path, header: JournalHeader) -> Journal:
    """Begin a journal in a folder, in a file of its own."""
    return Journal(folder / f"{secrets.token_hex(8)}{SUFFIX}", header)


def unfinished(folder: Path) -> list[Path]:
    """Return the journals whose program is gone without closing them, the newest first.

    A program of another computer that shares the folder cannot be asked: see :func:`elsewhere`.
    """
    return _newest_first(folder, _was_cut_off)


def elsewhere(folder: Path) -> list[Path]:
    """Return the journals that another computer writes or did not close, the newest first."""
    return _newest_first(folder, _is_open_elsewhere)


def closed_in_order(folder: Path) -> list[Path]:
    """Return the journals whose layers were closed on purpose, the newest first."""
    return _newest_first(folder, is_closed)


def tidy(folder: Path, *, keep: int = 10) -> None:
    """Delete all but the newest journals that were closed in order, and what a crash left of one.

    Whoever is killed while a journal is rewritten leaves the old one, which counts, and a part of
    the new one.
    """
    parts = [
        part
        for part in folder.glob(f"*{SUFFIX}{REWRITTEN}")
        if not _is_open_somewhere(part.with_suffix(""))
    ]
    for path in [*closed_in_order(folder)[keep:], *parts]:
        with contextlib.suppress(OSError):  # somebody else's, or open elsewhere
            path.unlink(missing_ok=True)


def this_process() -> tuple[int, float]:
    """Return number and start time of this program."""
    import psutil

    return os.getpid(), float(psutil.Process().create_time())


def this_computer() -> str:
    """Return the name of this computer, without the network it is in at the moment."""
    return platform.node().split(".")[0].lower()


def _newest_first(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """List journals; what cannot be looked at, or has just gone in another program, is left out."""
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):  # the folder
        for path in folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):
                if wanted(path):
                    found.append((path.stat().st_mtime, path))
    return [path for _time, path in sorted(found, reverse=True)]


def _was_cut_off(path: Path) -> bool:
    import psutil

    try:
        header = read_header(path)
        if is_closed(path) or _is_of_another_computer(header):
            return False
        started = psutil.Process(header.process).create_time()
    except psutil.NoSuchProcess:
        return True
    except (InputError, OSError, psutil.Error) as error:
        logger.info("%s is no journal that can be judged: %s", path.name, error)
        return False
    # Another program may have got the number of the one that is gone.
    return bool(abs(started - header.process_start) > 1.0)


def _is_open_elsewhere(path: Path) -> bool:
    try:
        return _is_of_another_computer(read_header(path)) and not is_closed(path)
    except InputError:
        return False


def _is_open_somewhere(path: Path) -> bool:
    try:
        return path.exists() and not (is_closed(path) or _was_cut_off(path))
    except OSError:
        return True


def _is_of_another_computer(header: JournalHeader) -> bool:
    return header.computer not in ("", this_computer())
