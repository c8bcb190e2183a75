"""A journal of painted labels: what was painted a second ago survives any end of the program.

A journal is one file that only grows: a header, then one record per changed chunk of the label
array, compressed, with a checksum. A record says what the chunk holds now, so the latest record of
a chunk counts, and a record that was cut off by a crash is left out. The cost of writing follows
what was painted, not the size of the array. Nothing in it is executable (no pickle).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError

logger = logging.getLogger(__name__)

MAGIC = b"napari-unet-journal-1\n"
SUFFIX = ".labels-journal"
#: What the name of a file that is being rewritten has more.
REWRITTEN = ".new"
#: Side of a chunk along Y and X, in pixels.
CHUNK = 256
#: A file is rewritten when it holds this many times what is needed, but not below the least size.
_SLACK = 4
_LEAST_BYTES = 8_000_000
#: Axes that an array can have.
_MOST_AXES = 32
_RECORD = struct.Struct("<4sIII")
_CHUNK_RECORD = b"CHNK"
_CLOSED_RECORD = b"DONE"

ChunkId = tuple[int, ...]
Block = tuple[slice, ...]


@dataclass(frozen=True)
class JournalHeader:
    """What a label array is, so that it can be made again.

    Attributes
    ----------
    name
        Name of the layer.
    shape, dtype
        Of the label array.
    image
        Name of the image it was painted on.
    placement
        Plain JSON values that put the layer in its place (scale, translate, units, ...).
    created
        ISO date and time.
    process, process_start
        Number and start time of the program that writes; together they are unique on a computer.
    computer
        Name of the computer it runs on; empty in files from before it was noted.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    image: str = ""
    placement: dict[str, Any] = dataclasses.field(default_factory=dict)
    created: str = ""
    process: int = 0
    process_start: float = 0.0
    computer: str = ""

    def to_json(self) -> bytes:
        """Return the header as UTF-8 JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> JournalHeader:
        """Read a header.

        Raises
        ------
        InputError
            If it is not one.
        """
        try:
            values = json.loads(text)
            values["shape"] = tuple(int(n) for n in values["shape"])
            # A newer program may add some.
            known = {field.name for field in dataclasses.fields(cls)}
            header = cls(**{name: value for name, value in values.items() if name in known})
            header._check()
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise InputError("This journal has no readable header.") from error
        return header

    def _check(self) -> None:
        """Raise ValueError where damage has made values that no program writes."""
        texts = (self.name, self.image, self.created, self.computer)
        pixels = math.prod(self.shape)
        sound = (
            all(isinstance(text, str) for text in texts)
            and isinstance(self.placement, dict)
            and isinstance(self.process, int)
            and 0 <= self.process < 2**31
            and isinstance(self.process_start, (int, float))
            and 2 <= len(self.shape) <= _MOST_AXES
            and all(size > 0 for size in self.shape)
            and np.dtype(self.dtype).kind in "biu"
            and pixels * np.dtype(self.dtype).itemsize < 2**62
        )
        if not sound:
            raise ValueError("no header of a label array")


@dataclass(frozen=True)
class Recovered:
    """What a journal holds: the labels, and whether its layer was closed in order."""

    header: JournalHeader
    labels: npt.NDArray[np.integer[Any]]
    closed: bool


class Journal:
    """Writes the journal of one label array.

    Parameters
    ----------
    path
        A file that does not exist yet.
    header
        Describes the array.

    Raises
    ------
    OSError
        If the file cannot be written, here and in :meth:`flush`.
    """

    def __init__(self, path: Path, header: JournalHeader) -> None:
        self.path = path
        self.header = header
        self._dirty: dict[ChunkId, None] = {}
        #: Where the latest record of each chunk is, and the checksum of what it says.
        self._written: dict[ChunkId, tuple[int, int, int]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("xb")
        self._file.write(_head(header))
        self._file.flush()

    @property
    def waiting(self) -> bool:
        """Whether something was marked that is not in the file yet."""
        return bool(self._dirty)

    def mark(self, block: Block) -> None:
        """Note that pixels of a block may have changed."""
        for chunk in chunks_of(block, self.header.shape):
            # The newest goes last and is written first: see flush.
            self._dirty.pop(chunk, None)
            self._dirty[chunk] = None

    def mark_written(self) -> None:
        """Note that any chunk written so far may have changed (an undo says nothing more)."""
        older = dict.fromkeys(chunk for chunk in self._written if chunk not in self._dirty)
        self._dirty = older | self._dirty

    def mark_all(self) -> None:
        """Note that everything may have changed."""
        older = [c for c in _all_chunks(self.header.shape) if c not in self._dirty]
        self._dirty = dict.fromkeys(older) | self._dirty

    def flush(self, labels: Any, *, seconds: float | None = None) -> int:
        """Write what was marked, the newest first.

        Parameters
        ----------
        labels
            The array as it is now.
        seconds
            Stop after about so long; the rest stays marked.

        Returns
        -------
        int
            Bytes written; they are the system's then, and survive the end of this program.
        """
        start, before = perf_counter(), self._file.tell()
        while self._dirty:
            chunk, _ = self._dirty.popitem()
            self._write(chunk, labels)
            if seconds is not None and perf_counter() - start > seconds:
                break
        written = self._file.tell() - before
        self._file.flush()
        needed = sum(length for _place, length, _sum in self._written.values())
        if self._file.tell() > max(_LEAST_BYTES, _SLACK * needed):
            self._rewrite(self.header)
        return written

    def describe(self, *, name: str, placement: dict[str, Any]) -> None:
        """Note that the layer was renamed or moved."""
        header = dataclasses.replace(self.header, name=name, placement=placement)
        if header != self.header:
            self._rewrite(header)

    def close(self, *, in_order: bool) -> None:
        """Close the file; ``in_order`` notes that the user closed the layer on purpose."""
        if self._file.closed:
            return
        if in_order:
            self._file.write(_RECORD.pack(_CLOSED_RECORD, 0, 0, 0))
        self._file.close()

    def discard(self) -> None:
        """Close and delete the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _write(self, chunk: ChunkId, labels: Any) -> None:
        pixels = np.asarray(labels[block_of_chunk(chunk, labels.shape)])
        known = self._written.get(chunk)
        if known is None and not pixels.any():
            return
        raw = pixels.tobytes()
        checksum = zlib.crc32(raw)
        if known is not None and known[2] == checksum:
            return
        payload = zlib.compress(raw, 1)
        place = self._file.tell()
        self._file.write(_record(chunk, payload))
        self._written[chunk] = (place, self._file.tell() - place, checksum)

    def _rewrite(self, header: JournalHeader) -> None:
        """Keep only the latest record of each chunk; the old file stays until the new one is."""
        self._file.flush()
        fresh = self.path.with_name(self.path.name + REWRITTEN)
        kept: dict[ChunkId, tuple[int, int, int]] = {}
        try:
            with self.path.open("rb") as old, fresh.open("wb") as new:
                new.write(_head(header))
                for chunk, (place, length, checksum) in self._written.items():
                    old.seek(place)
                    kept[chunk] = (new.tell(), length, checksum)
                    new.write(old.read(length))
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        self._file.close()
        fresh.replace(self.path)
        self.header, self._written = header, kept
        self._file = self.path.open("ab")


def read_header(path: Path) -> JournalHeader:
    """Read only what a journal is about.

    Raises
    ------
    InputError
        If the file is not a journal.
    """
    with path.open("rb") as file:
        return _read_head(file)


def read_journal(path: Path) -> Recovered:
    """Read a journal up to the last record that is whole.

    Raises
    ------
    InputError
        If the file is not a journal.
    """
    with path.open("rb") as file:
        header = _read_head(file)
        labels = np.zeros(header.shape, header.dtype)
        closed = False
        for kind, chunk, payload in _records(file, len(header.shape)):
            if kind == _CLOSED_RECORD:
                closed = True
                continue
            block = block_of_chunk(chunk, header.shape)
            target = labels[block]
            try:
                values = np.frombuffer(zlib.decompress(payload), header.dtype)
            except (zlib.error, ValueError):
                values = np.empty(0, header.dtype)
            if values.size != target.size:
                logger.warning("%s: a record does not fit its chunk and was left out", path.name)
                continue
            target[...] = values.reshape(target.shape)
    return Recovered(header, labels, closed)


def is_closed(path: Path) -> bool:
    """Say whether the last record tells that the layer was closed in order."""
    mark = _RECORD.pack(_CLOSED_RECORD, 0, 0, 0)
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        if file.tell() < len(mark):
            return False
        file.seek(-len(mark), os.SEEK_END)
        return file.read() == mark


def chunks_of(block: Block, shape: tuple[int, ...]) -> Iterator[ChunkId]:
    """Return the chunks that a block meets; parts outside the array are left out."""
    ranges: list[Iterable[int]] = []
    for axis, (part, size) in enumerate(zip(block, shape, strict=True)):
        step = _chunk_side(axis, len(shape))
        start = max(0, part.start or 0)
        stop = size if part.stop is None else min(size, part.stop)
        ranges.append(range(start // step, -(-stop // step)) if stop > start else ())
    yield from product(*ranges)


def block_of_chunk(chunk: ChunkId, shape: tuple[int, ...]) -> Block:
    """Return the pixels of a chunk."""
    sides = [_chunk_side(axis, len(shape)) for axis in range(len(shape))]
    return tuple(
        slice(number * side, min((number + 1) * side, size))
        for number, side, size in zip(chunk, sides, shape, strict=True)
    )


def _chunk_side(axis: int, ndim: int) -> int:
    return CHUNK if axis >= ndim - 2 else 1


def _all_chunks(shape: tuple[int, ...]) -> Iterator[ChunkId]:
    return chunks_of(tuple(slice(0, size) for size in shape), shape)


def _head(header: JournalHeader) -> bytes:
    text = header.to_json()
    return MAGIC + struct.pack("<I", len(text)) + text


def _read_head(file: BinaryIO) -> JournalHeader:
    if file.read(len(MAGIC)) != MAGIC:
        raise InputError("This file is not a journal of painted labels.")
    size = file.read(4)
    if len(size) < 4:
        raise InputError("This journal has no readable header.")
    return JournalHeader.from_json(file.read(struct.unpack("<I", size)[0]))


def _record(chunk: ChunkId, payload: bytes) -> bytes:
    place = struct.pack(f"<{len(chunk)}q", *chunk)
    body = place + payload
    return _RECORD.pack(_CHUNK_RECORD, len(chunk), len(payload), zlib.crc32(body)) + body


def _records(file: BinaryIO, ndim: int) -> Iterator[tuple[bytes, ChunkId, bytes]]:
    """Return whole records; the first one that is cut off or damaged ends the file."""
    while len(head := file.read(_RECORD.size)) == _RECORD.size:
        kind, axes, length, checksum = _RECORD.unpack(head)
        if kind == _CLOSED_RECORD:
            yield kind, (), b""
            continue
        if kind != _CHUNK_RECORD or axes != ndim:
            return
        body = file.read(8 * axes + length)
        if len(body) < 8 * axes + length or zlib.crc32(body) != checksum:
            return
        yield kind, struct.unpack(f"<{axes}q", body[: 8 * axes]), body[8 * axes :]
