"""Which journals of a folder were cut off, and which of the others stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_unet.io.journal import SUFFIX, JournalHeader
from napari_unet.io.journal_folder import (
    closed_in_order,
    new_journal,
    this_process,
    tidy,
    unfinished,
)

#: No program has this number.
NOBODY = 2**22 + 7


def header(process: int | None = None, start: float | None = None) -> JournalHeader:
    number, now = this_process()
    return JournalHeader(
        "cells annotation",
        (2, 300, 520),
        "int32",
        process=number if process is None else process,
        process_start=now if start is None else start,
    )


def test_only_journals_of_dead_programs_are_unfinished(tmp_path: Path) -> None:
    running = new_journal(tmp_path, header())
    closed = new_journal(tmp_path, header(NOBODY))
    closed.close(in_order=True)
    cut = new_journal(tmp_path, header(NOBODY))
    cut.close(in_order=False)
    reused = new_journal(tmp_path, header(start=1.0))
    reused.close(in_order=False)
    (tmp_path / "foreign.labels-journal").write_bytes(b"something else")
    assert set(unfinished(tmp_path)) == {cut.path, reused.path}
    running.discard()


def test_tidy_keeps_the_newest_and_the_unfinished(tmp_path: Path) -> None:
    journals = [new_journal(tmp_path, header(NOBODY)) for _ in range(6)]
    for age, journal in enumerate(journals):
        journal.close(in_order=age != 5)
        os.utime(journal.path, (1000 - age, 1000 - age))
    tidy(tmp_path, keep=2)
    assert {p.name for p in tmp_path.iterdir()} == {journals[i].path.name for i in (0, 1, 5)}


def test_journals_that_cannot_be_looked_at_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's, or deleted by another program a moment ago; also the whole folder."""
    for _number in range(3):
        new_journal(tmp_path, header()).close(in_order=True)
    (tmp_path / f"gone{SUFFIX}").symlink_to(tmp_path / "nothing")
    assert len(closed_in_order(tmp_path)) == 3 and unfinished(tmp_path) == []

    def refused(*_arguments: object, **_more: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        tidy(tmp_path, keep=1)
    tidy(tmp_path, keep=1)
    assert len(closed_in_order(tmp_path)) == 1
    monkeypatch.setattr(Path, "glob", refused)
    assert closed_in_order(tmp_path) == unfinished(tmp_path) == []
