"""Files and folders appear completely or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from napari_unet.core.atomic import (
    atomic_file,
    atomic_folder,
    output_error,
    write_bytes,
    write_text,
)
from napari_unet.core.errors import OutputError


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    write_text(path, "µm")
    assert path.read_text(encoding="utf-8") == "µm"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_keeps_the_old_file(tmp_path, small_disk):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(OutputError, match=r"'a\.bin' was not written: there is no room left"):
        write_bytes(path, bytes(100_000))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_any_error_in_the_block_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def half_written():
        with atomic_file(path) as temporary:
            temporary.write_bytes(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        half_written()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")
def test_a_link_is_followed(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old", encoding="utf-8")
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="modes are a Unix feature")
def test_a_new_file_has_ordinary_permissions(tmp_path):
    write_text(tmp_path / "a.txt", "")
    (tmp_path / "b.txt").touch()
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_a_folder_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.zarr"
    for text in ("old", "new"):
        with atomic_folder(path) as temporary:
            (temporary / text).touch()
    assert [p.name for p in path.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_failed_folder_goes_even_when_a_thread_still_writes_into_it(tmp_path):
    """Zarr's threads finish their chunks after one of them met a full disk."""
    writers = []

    def write_late(folder):
        def late():
            time.sleep(0.03)
            folder.mkdir(exist_ok=True)
            (folder / "chunk").touch()

        writers.append(threading.Thread(target=late))
        writers[0].start()

    def fails():
        with atomic_folder(tmp_path / "a.zarr") as temporary:
            write_late(temporary)
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OutputError, match="no room"):
        fails()
    writers[0].join()
    assert not list(tmp_path.iterdir())


def test_a_failed_folder_keeps_the_old_one(tmp_path, small_disk):
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / "old").touch()

    def too_large():
        with atomic_folder(path) as temporary:
            (temporary / "new").write_bytes(bytes(100_000))

    with pytest.raises(OutputError, match="no room left"):
        too_large()
    assert [p.name for p in path.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_folder_does_not_replace_a_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"mine")

    def write():
        with atomic_folder(path):
            pytest.fail("must not start")

    with pytest.raises(OutputError):
        write()
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("letter", ["x", "ä", "細", "🔬"])
def test_names_as_long_as_the_file_system_allows(tmp_path, letter):
    name = letter * ((255 - len(".tif")) // len(letter.encode())) + ".tif"
    path = tmp_path / name
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system allows less")
    write_text(path, "masks")
    assert path.read_text(encoding="utf-8") == "masks"
    with atomic_folder(tmp_path / name.replace(".tif", ".zar")):
        pass
    assert len(list(tmp_path.iterdir())) == 2


_KILLED = """
    import os, sys
    from napari_unet.core.atomic import atomic_file, atomic_folder
    with atomic_file(sys.argv[1]) as file, atomic_folder(sys.argv[2]) as folder:
        file.write_bytes(b"half")
        (folder / "chunk").write_bytes(b"half")
        if len(sys.argv) > 3:
            print("waiting", flush=True)
            sys.stdin.read()
        os._exit(9)
"""


def test_what_a_killed_program_left_half_written_goes_with_the_next_one(tmp_path):
    script, folder = tmp_path / "killed.py", tmp_path / "results"
    script.write_text(textwrap.dedent(_KILLED))
    folder.mkdir()
    mine = folder / ".notes.part"
    mine.touch()
    command = [sys.executable, str(script), str(folder / "a.tif"), str(folder / "a.zarr")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    alive = subprocess.Popen(
        [*command, "stay"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with alive:
        alive.stdout.readline()
        subprocess.run(command, env=environment, check=False)
        assert len(list(folder.iterdir())) == 5
        write_text(folder / "b.txt", "")
        left = {path for path in folder.iterdir() if path not in (mine, folder / "b.txt")}
        assert len(left) == 2 and all(f"-{alive.pid}-" in path.name for path in left)
        alive.stdin.close()
    assert mine.exists()


def test_a_file_does_not_replace_a_folder(tmp_path):
    with pytest.raises(OutputError, match="a folder of that name is in the way"):
        write_text(tmp_path, "")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"'missing' does not exist|missing' does not exist"):
        write_text(tmp_path / "missing" / "a.txt", "")


@pytest.mark.parametrize(
    "code",
    [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EIO],
)
def test_every_error_is_one_sentence(code):
    message = str(output_error("folder/a.tif", OSError(code, os.strerror(code))))
    assert message.startswith("'a.tif' was not written: ")
    assert message.endswith(".")
    assert "\n" not in message
