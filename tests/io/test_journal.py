"""The journal of painted labels: whatever cuts it off, what was flushed comes back."""

from __future__ import annotations

import errno
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet.core.errors import InputError
from napari_unet.io.journal import (
    CHUNK,
    MAGIC,
    Journal,
    JournalHeader,
    block_of_chunk,
    chunks_of,
    read_header,
    read_journal,
)
from napari_unet.io.journal_folder import elsewhere, new_journal, this_process, unfinished

SHAPE = (2, 300, 520)


def header(shape: tuple[int, ...] = SHAPE, dtype: str = "int32", **more: object) -> JournalHeader:
    number, start = this_process()
    values: dict[str, object] = {"process": number, "process_start": start, **more}
    return JournalHeader("cells annotation", shape, dtype, **values)  # type: ignore[arg-type]


def test_strokes_come_back(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.int32)
    journal = new_journal(tmp_path, header(image="cells", placement={"scale": [1.0, 0.5, 0.5]}))
    labels[1, 10:20, 250:270] = 7
    labels[0, 299, 519] = -1
    journal.mark((slice(1, 2), slice(10, 20), slice(250, 270)))
    journal.mark((slice(0, 1), slice(299, 300), slice(519, 520)))
    assert journal.waiting
    assert journal.flush(labels) > 0
    assert not journal.waiting
    recovered = read_journal(journal.path)  # the file is still open for writing
    assert np.array_equal(recovered.labels, labels) and recovered.labels.dtype == np.int32
    assert recovered.header == journal.header and not recovered.closed
    journal.close(in_order=True)
    assert read_journal(journal.path).closed


@given(data=st.data())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_cut_off_anywhere_gives_an_earlier_state(tmp_path: Path, data: st.DataObject) -> None:
    """Truncated at any byte after the header, the file holds one of the states it went through."""
    labels = np.zeros((40, 300), np.uint16)
    path = tmp_path / f"{os.urandom(6).hex()}.labels-journal"
    journal = Journal(path, header(labels.shape, "uint16"))
    head = path.stat().st_size
    states = [labels.copy()]
    for stroke in range(4):
        left = data.draw(st.integers(0, 290))
        labels[stroke * 10 : stroke * 10 + 5, left : left + 9] = stroke + 1
        journal.mark((slice(0, 40), slice(left, left + 9)))
        while journal.waiting:
            journal.flush(labels, seconds=0)
            mixed = read_journal(path).labels
            states.append(mixed.copy())
    journal.close(in_order=False)
    whole = path.read_bytes()
    cut = data.draw(st.integers(head, len(whole)))
    path.write_bytes(whole[:cut])
    assert any(np.array_equal(read_journal(path).labels, state) for state in states)
    assert np.array_equal(states[-1], labels)


def test_a_damaged_record_ends_the_file(tmp_path: Path) -> None:
    labels = np.zeros((10, 300), np.int32)
    journal = new_journal(tmp_path, header(labels.shape))
    labels[:, :5] = 1
    journal.mark((slice(0, 10), slice(0, 5)))
    journal.flush(labels)
    size = journal.path.stat().st_size
    labels[:, 290:] = 2
    journal.mark((slice(0, 10), slice(290, 300)))
    journal.flush(labels)
    journal.close(in_order=False)
    content = bytearray(journal.path.read_bytes())
    content[size + 40] ^= 0xFF
    journal.path.write_bytes(content)
    assert np.array_equal(np.unique(read_journal(journal.path).labels), [0, 1])


def test_unchanged_and_empty_chunks_cost_nothing(tmp_path: Path) -> None:
    """Complaint 16: the cost follows what changed."""
    labels = np.zeros((1024, 1024), np.int32)
    labels[5, 5] = 1
    journal = new_journal(tmp_path, header(labels.shape))
    journal.mark_all()
    first = journal.flush(labels)
    assert 0 < first < 5000  # one chunk of sixteen
    journal.mark_all()
    assert journal.flush(labels) == 0
    labels[5, 5] = 0
    journal.mark_written()
    assert journal.flush(labels) > 0
    assert not read_journal(journal.path).labels.any()
    journal.discard()
    assert not journal.path.exists()


def test_a_budget_leaves_the_rest_for_later_newest_first(tmp_path: Path) -> None:
    labels = np.ones((CHUNK * 4, CHUNK), np.int32)
    journal = new_journal(tmp_path, header(labels.shape))
    journal.mark_all()
    journal.mark((slice(CHUNK, CHUNK + 1), slice(0, 1)))
    journal.flush(labels, seconds=0)
    assert journal.waiting
    assert np.array_equal(np.unique(np.nonzero(read_journal(journal.path).labels)[0] // CHUNK), [1])
    rounds = 0
    while journal.waiting:
        journal.flush(labels, seconds=0)
        rounds += 1
    assert rounds == 3
    assert read_journal(journal.path).labels.all()
    journal.close(in_order=False)


def test_the_file_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_unet.io.journal._LEAST_BYTES", 100_000)
    random = np.random.default_rng(0)
    labels = np.zeros((CHUNK, CHUNK), np.int32)
    journal = new_journal(tmp_path, header(labels.shape))
    for _ in range(20):
        labels[:] = random.integers(0, 2**30, labels.shape)
        journal.mark_all()
        journal.flush(labels)
    assert journal.path.stat().st_size < 6 * labels.nbytes
    assert np.array_equal(read_journal(journal.path).labels, labels)
    labels[0] = 1
    journal.mark_all()
    journal.flush(labels)
    journal.close(in_order=True)
    assert np.array_equal(read_journal(journal.path).labels, labels)
    assert list(tmp_path.iterdir()) == [journal.path]


def test_a_full_disk_while_the_file_is_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written stays, and no half copy takes the room that is missing."""
    labels = np.ones((CHUNK, CHUNK), np.int32)
    journal = new_journal(tmp_path, header(labels.shape))
    journal.mark_all()
    journal.flush(labels)

    def refuse(_header: JournalHeader) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("napari_unet.io.journal._LEAST_BYTES", 0)
    monkeypatch.setattr("napari_unet.io.journal._SLACK", 0)
    monkeypatch.setattr("napari_unet.io.journal._head", refuse)
    with pytest.raises(OSError, match="No space left"):
        journal.flush(labels)
    journal.close(in_order=False)
    assert list(tmp_path.iterdir()) == [journal.path]
    assert np.array_equal(read_journal(journal.path).labels, labels)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 not a journal",
        b"napari-unet-journal-1\n\x05",
        b"napari-unet-journal-1\n\x05\x00\x00\x00hello",
        b'napari-unet-journal-1\n\x31\x00\x00\x00{"name": "x", "shape": [4, 4], "dtype": "object"}',
    ],
)
def test_foreign_files_are_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.labels-journal"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"journal.*\.$"):
        read_header(path)
    with pytest.raises(InputError):
        read_journal(path)
    assert unfinished(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        {"shape": [-4, 4]},
        {"shape": [0, 4]},
        {"shape": [10**12, 10**12]},
        {"shape": [1e400, 4]},
        {"shape": [4]},
        {"shape": [1] * 80},
        {"process": "12"},
        {"process": 2**70},
        {"process_start": None},
        {"placement": [1, 2]},
        {"computer": 5},
        {"name": ["cells"]},
    ],
)
def test_a_damaged_header_is_refused_in_one_sentence(
    tmp_path: Path, damage: dict[str, object]
) -> None:
    text = json.dumps({**json.loads(header((4, 4)).to_json()), **damage}).encode()
    path = tmp_path / "x.labels-journal"
    path.write_bytes(MAGIC + struct.pack("<I", len(text)) + text)
    with pytest.raises(InputError, match=r"journal.*\.$"):
        read_journal(path)
    assert unfinished(tmp_path) == [] and elsewhere(tmp_path) == []


def test_what_a_newer_program_adds_to_the_header_is_left_out(tmp_path: Path) -> None:
    text = json.dumps({**json.loads(header((4, 4)).to_json()), "future": [1]}).encode()
    path = tmp_path / "x.labels-journal"
    path.write_bytes(MAGIC + struct.pack("<I", len(text)) + text)
    assert read_header(path) == header((4, 4))


def test_a_new_name_and_place_are_in_the_file_and_nothing_is_lost(tmp_path: Path) -> None:
    labels = np.zeros((40, 300), np.uint16)
    journal = new_journal(tmp_path, header(labels.shape, "uint16"))
    labels[3, 3], labels[9, 299] = 5, 6
    journal.mark_all()
    journal.flush(labels)
    journal.describe(name="renamed", placement={"scale": [2.0, 2.0]})
    labels[20, 280] = 7
    journal.mark_all()
    journal.flush(labels)
    recovered = read_journal(journal.path)
    assert (recovered.header.name, recovered.header.placement) == ("renamed", {"scale": [2, 2]})
    assert np.array_equal(recovered.labels, labels)
    before = journal.path.stat()
    journal.describe(name="renamed", placement={"scale": [2.0, 2.0]})
    assert journal.path.stat().st_ino == before.st_ino
    journal.close(in_order=True)
    assert read_journal(journal.path).closed
    assert list(tmp_path.iterdir()) == [journal.path]


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 600), st.integers(1, 600)),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_chunks_cover_a_block(shape: tuple[int, int, int], data: st.DataObject) -> None:
    block = []
    for size in shape:
        start = data.draw(st.integers(0, size - 1))
        block.append(slice(start, data.draw(st.integers(start + 1, size + 50))))
    seen = np.zeros(shape, bool)
    for chunk in chunks_of(tuple(block), shape):
        seen[block_of_chunk(chunk, shape)] = True
    assert seen[tuple(block)].all()
