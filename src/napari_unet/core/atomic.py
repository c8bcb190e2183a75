"""Write a file or folder completely or not at all, and say in one sentence why it did not work."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import platform
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from napari_unet.core.errors import OutputError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: Seconds for which a folder that failed is watched for files that other threads still add.
_LATE_WRITES = 1.0
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
#: Bytes of a name that its temporary neighbour repeats; file systems allow 255 for all of it.
_NAME_BYTES = 80
#: A temporary neighbour: computer and number of the program that writes it, and a random part.
_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}\.part", re.DOTALL)


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Translate an operating system error met while writing ``path`` into one sentence."""
    target = Path(path)
    # numpy reports a write that was cut short without an error number.
    cut_short = error.errno is None and "written" in str(error)
    if error.errno in _NO_ROOM or cut_short:
        why = "there is no room left for it; free some space or choose another folder"
    elif error.errno in _NOT_ALLOWED:
        why = f"writing to {str(target.parent)!r} is not allowed; choose another folder"
    elif error.errno == errno.ENOENT:
        why = f"the folder {str(target.parent)!r} does not exist; create it or choose another one"
    elif error.errno == errno.ENOTDIR:
        why = f"{str(target.parent)!r} is not a folder; choose another one"
    elif error.errno == errno.EEXIST:
        why = "a file is in the way of it or of its folder; choose another folder or name"
    elif error.errno in (errno.EISDIR, errno.ENOTEMPTY):
        why = "a folder of that name is in the way; choose another name"
    elif error.errno == errno.ENAMETOOLONG:
        why = "its name is too long; choose a shorter one"
    else:
        why = f"the system reports: {error.strerror or error}; check the disk and try again"
    return OutputError(f"{target.name!r} was not written: {why}.")


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder that replaces ``path`` when the block succeeds.

    The block must create the temporary file. When it raises, ``path`` is left as it was and
    nothing else stays behind. A symbolic link is followed, so its target is replaced.

    Parameters
    ----------
    path
        The file that is to be written.

    Raises
    ------
    OutputError
        If the operating system refuses (no room, not allowed, no such folder).
    """
    target = Path(os.path.realpath(path))
    _remove_leftovers(target.parent)
    temporary = _neighbour(target, "part")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        yield temporary
        _flush_to_disk(temporary)
        temporary.replace(target)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder that replaces the folder ``path`` when the block succeeds.

    When the block raises, an older folder ``path`` is left as it was. (A folder cannot be
    exchanged in one step everywhere: should the program die between the two renames, the older
    folder survives under a name that ends in ``.old``.)

    Raises
    ------
    OutputError
        If the operating system refuses, or a plain file of that name exists.
    """
    target = Path(os.path.realpath(path))
    _remove_leftovers(target.parent)
    temporary, old = _neighbour(target, "part"), _neighbour(target, "old")
    try:
        if target.exists() and not target.is_dir():
            raise FileExistsError(errno.EEXIST, "a file of that name is in the way")
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.replace(old)
            try:
                temporary.replace(target)
            except OSError:
                old.replace(target)
                raise
        else:
            temporary.replace(target)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        _remove_folder(temporary)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file at once, or leave the old one as it was.

    Raises
    ------
    OutputError
        See :func:`atomic_file`.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file at once, or leave the old one as it was.

    Raises
    ------
    OutputError
        See :func:`atomic_file`.
    """
    write_bytes(path, text.encode("utf-8"))


def _remove_folder(folder: Path) -> None:
    """Remove a folder that threads may still be writing into (Zarr's do, after an error)."""
    deadline = time.monotonic() + _LATE_WRITES
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            break
        time.sleep(_LATE_WRITES / 20)


@functools.lru_cache(maxsize=64)
def _remove_leftovers(folder: Path) -> None:
    """Remove what programs that were killed left half written; once per folder, for speed.

    Only those of this computer can be known to be gone.
    """
    import psutil

    with contextlib.suppress(OSError):  # what is wrong with the folder is said when it is used
        for path in folder.iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if not found or found[1] != _computer() or psutil.pid_exists(int(found[2])):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _computer() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _neighbour(target: Path, ending: str) -> Path:
    # Cut by bytes, in which letters of other scripts and emoji are long.
    name = target.name.encode(errors="ignore")[:_NAME_BYTES].decode(errors="ignore")
    writer = f"{_computer()}-{os.getpid()}-{secrets.token_hex(4)}"
    return target.with_name(f".{name}.{writer}.{ending}")


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
