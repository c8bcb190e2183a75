"""Which journals of a folder were cut off, and which of the others stay."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from napari_unet.io.journal import SUFFIX, JournalHeader
from napari_unet.io.journal_folder import (
    closed_in_order,
    elsewhere,
    new_journal,
    this_computer,
    this_process,
    tidy,
    unfinished,
)

#: No program has this number.
NOBODY = 2**22 + 7


def header(
    process: int | None = None, start: float | None = None, computer: str | None = None
) -> JournalHeader:
    number, now = this_process()
    return JournalHeader(
        "cells annotation",
        (2, 300, 520),
        "int32",
        process=number if process is None else process,
        process_start=now if start is None else start,
        computer=this_computer() if computer is None else computer,
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


def test_journals_of_another_computer_are_not_taken_for_those_of_a_crash(tmp_path: Path) -> None:
    """A home folder on a server: the number of a program there says nothing here."""
    before = new_journal(tmp_path, header(NOBODY, computer=""))
    there = new_journal(tmp_path, header(NOBODY, computer="microscope-2"))
    done = new_journal(tmp_path, header(NOBODY, computer="microscope-2"))
    done.close(in_order=True)
    (tmp_path / f"foreign{SUFFIX}").write_bytes(b"something else")
    assert unfinished(tmp_path) == [before.path]
    assert elsewhere(tmp_path) == [there.path]
    assert closed_in_order(tmp_path) == [done.path]
    tidy(tmp_path, keep=0)
    assert there.path.exists() and not done.path.exists()
    for journal in (before, there):
        journal.discard()


def test_the_name_of_a_computer_does_not_follow_its_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = []
    for node in ("Marias-MacBook.local", "marias-macbook.lab.example.org"):
        monkeypatch.setattr(platform, "node", lambda node=node: node)
        names.append(this_computer())
    assert names == ["marias-macbook"] * 2


def test_tidy_keeps_the_newest_and_the_unfinished(tmp_path: Path) -> None:
    journals = [new_journal(tmp_path, header(NOBODY)) for _ in range(6)]
    for age, journal in enumerate(journals):
        journal.close(in_order=age != 5)
        os.utime(journal.path, (1000 - age, 1000 - age))
    tidy(tmp_path, keep=2)
    assert {p.name for p in tmp_path.iterdir()} == {journals[i].path.name for i in (0, 1, 5)}


def test_tidy_removes_what_a_crash_left_of_a_journal_that_was_rewritten(tmp_path: Path) -> None:
    mine = new_journal(tmp_path, header())
    killed = new_journal(tmp_path, header(process=NOBODY))
    other = new_journal(tmp_path, header(computer="elsewhere"))
    parts = [Path(f"{journal.path}.new") for journal in (mine, killed, other)]
    for part in (*parts, tmp_path / f"gone{SUFFIX}.new"):
        part.touch()
    tidy(tmp_path)
    assert set(tmp_path.glob("*.new")) == {parts[0], parts[2]}
    assert unfinished(tmp_path) == [killed.path]
    for journal in (mine, killed, other):
        journal.discard()


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
