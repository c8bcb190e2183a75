"""Inputs are found and outputs are checked before any work."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from napari_unet.cli.evaluate import find_pairs
from napari_unet.cli.files import (
    existing_file,
    find_images,
    keep_inputs,
    output_folder,
    result_stems,
    without_results,
    writable_file,
)
from napari_unet.core.errors import InputError, OutputError


def touch(*paths: Path):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_folders_patterns_and_files_in_any_mixture(tmp_path):
    day, other = tmp_path / "day", tmp_path / "other"
    touch(day / "b.tif", day / "a.png", day / "notes.txt", day / ".c.tif", day / "a_masks.tif")
    touch(other / "x1.tif", other / "x1_masks.tif", other / "y.tif")
    found = find_images([str(day), str(other / "x*.tif"), str(day / "b.tif")])
    assert found == [day / "a.png", day / "b.tif", other / "x1.tif"]


def test_a_folder_of_a_microscope_is_searched_for_its_files(tmp_path):
    """LSM and BigTIFF are read when they are named, so a folder may hold them."""
    touch(tmp_path / "a.LSM", tmp_path / "b.btf", tmp_path / "c.tf8", tmp_path / "d.txt")
    assert [path.name for path in find_images([str(tmp_path)])] == ["a.LSM", "b.btf", "c.tf8"]


def test_a_file_named_in_two_ways_is_one_image(tmp_path, monkeypatch):
    touch(tmp_path / "day" / "a.tif")
    monkeypatch.chdir(tmp_path)
    inputs = ["day", "day/../day/a.tif", str(tmp_path / "day" / "a.tif")]
    assert find_images(inputs) == [Path("day/a.tif")]


def test_annotations_beside_images_are_no_images(tmp_path):
    """They are what ``--format annotation`` and the panel write there."""
    touch(tmp_path / "a.tif", tmp_path / "a_annotation.tif")
    assert find_images([str(tmp_path)]) == [tmp_path / "a.tif"]
    assert find_images([str(tmp_path / "*.tif")]) == [tmp_path / "a.tif"]


def test_results_beside_their_images_are_left_out_when_a_shell_names_them():
    """It resolves *.tif before the program starts, after an earlier run with --output . too."""
    given = ["a.tif", "a_masks.tif", "b.ome.tif", "b_annotation.tif", "other_masks.tif"]
    kept = without_results([Path(name) for name in given])
    assert [path.name for path in kept] == ["a.tif", "b.ome.tif", "other_masks.tif"]


def test_a_masks_file_that_is_named_is_taken(tmp_path):
    touch(tmp_path / "a_masks.tif")
    assert find_images([str(tmp_path / "a_masks.tif")]) == [tmp_path / "a_masks.tif"]


@pytest.mark.parametrize("name", ["big.zarr", "BIG.ZARR"])
def test_a_zarr_folder_is_one_image(tmp_path, name):
    (tmp_path / name).mkdir()
    assert find_images([str(tmp_path)]) == [tmp_path / name]
    assert find_images([str(tmp_path / name)]) == [tmp_path / name]


@pytest.mark.parametrize("mark", [".zgroup", ".zarray", "zarr.json"])
def test_a_zarr_folder_is_known_by_what_is_in_it(tmp_path, mark):
    """Converters write series 0 into a folder ``0``, OME-Zarr labels into ``labels/cells``."""
    touch(tmp_path / "0" / mark, tmp_path / "cells" / mark)
    assert find_images([str(tmp_path / "0")]) == [tmp_path / "0"]
    pair = (tmp_path / "0", tmp_path / "cells")
    assert find_pairs(*map(str, pair)) == [pair]


def test_results_of_two_images_may_not_collide():
    with pytest.raises(InputError, match="different folders"):
        result_stems([Path("one/a.tif"), Path("two/a.png")])
    assert result_stems([Path("one/a.ome.tif"), Path("b.c.png")]) == ["a", "b.c"]


def test_a_new_folder_stays_only_when_there_are_results(tmp_path):
    with output_folder(str(tmp_path / "empty" / "deep")) as folder:
        assert folder.is_dir()
    assert not list(tmp_path.iterdir())
    with output_folder(str(tmp_path / "full")) as folder:
        touch(folder / "a_masks.tif")
    assert [p.name for p in folder.iterdir()] == ["a_masks.tif"]


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        find_images([str(tmp_path / "a.tif")])
    with pytest.raises(InputError, match="No file matches"):
        find_images([str(tmp_path / "*.tif")])
    with pytest.raises(InputError, match="no image in the folder"):
        find_images([str(tmp_path)])
    with pytest.raises(InputError, match="There is no file"):
        existing_file(str(tmp_path / "a.tif"))


def test_checking_leaves_nothing_behind(tmp_path):
    target = tmp_path / "m.safetensors"
    target.write_bytes(b"old")
    assert writable_file(str(target)) == target
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_outputs_that_cannot_be(tmp_path):
    touch(tmp_path / "file")
    with pytest.raises(OutputError, match="is a folder; add a file name"):
        writable_file(str(tmp_path))
    with pytest.raises(OutputError, match="does not exist"):
        writable_file(str(tmp_path / "no" / "m.safetensors"))
    for name in ("file", "file/deeper"):
        with (
            pytest.raises(OutputError, match="not a folder"),
            output_folder(str(tmp_path / name)),
        ):
            pytest.fail("the folder cannot exist")
    with pytest.raises(InputError, match="is an input"):
        writable_file(str(tmp_path / "file"), [tmp_path / "file"])
    with pytest.raises(InputError, match=r"ends in \.safetensors, for example 'file\.safetensors'"):
        writable_file(str(tmp_path / "file"), suffixes=(".safetensors",))
    assert writable_file(str(tmp_path / "M.TIF"), suffixes=(".tif", ".tiff")).name == "M.TIF"


def test_results_never_replace_an_input(tmp_path):
    touch(tmp_path / "a.tif", tmp_path / "a_masks.tif")
    (tmp_path / "link").symlink_to(tmp_path)
    inputs = find_images([str(tmp_path / "a.tif"), str(tmp_path / "a_masks.tif")])
    keep_inputs(inputs, [tmp_path / "a_measurements.csv"])
    with pytest.raises(InputError, match="would replace an input"):
        keep_inputs(inputs, [tmp_path / "link" / "a_masks.tif"])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Nothing can be written"):
            writable_file(str(tmp_path / "m"))
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_disk(tmp_path, monkeypatch):
    """Such a disk refuses even to remove the file that was not written."""

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OutputError, match="read-only file system"):
        writable_file(str(tmp_path / "m.safetensors"))


def test_a_folder_that_takes_nothing():
    """The kernel's own folder refuses files, even those of root."""
    if not Path("/proc/self").is_dir():
        pytest.skip("there is no /proc on this system")
    with pytest.raises(OutputError, match="Nothing can be written"):
        writable_file("/proc/self/m.safetensors")
